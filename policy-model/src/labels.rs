//! Labels of endpoints and peers: `source:key=value`, and sorted sets of them.

use std::fmt;
use std::sync::Arc;

/// One label. `source` is `k8s`, `reserved`, `cidr`, `any`, ...; never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    pub source: Box<str>,
    pub key: Box<str>,
    pub value: Box<str>,
}

/// A sorted set of labels without duplicates: what an identity is made of. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelSet(Arc<[Label]>);

impl Label {
    pub fn new(source: &str, key: &str, value: &str) -> Self {
        Self { source: source.into(), key: key.into(), value: value.into() }
    }

    /// `source:key=value`; without a source `unspec`, without `=` the value is empty.
    pub fn parse(text: &str) -> Self {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let (source, key) = name.split_once(':').unwrap_or(("unspec", name));
        Self::new(source, key, value)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.is_empty() {
            true => write!(f, "{}:{}", self.source, self.key),
            false => write!(f, "{}:{}={}", self.source, self.key, self.value),
        }
    }
}

impl LabelSet {
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    pub fn get(&self, source: &str, key: &str) -> Option<&str> {
        self.iter().find(|l| *l.source == *source && *l.key == *key).map(|l| &*l.value)
    }
}

impl FromIterator<Label> for LabelSet {
    fn from_iter<T: IntoIterator<Item = Label>>(labels: T) -> Self {
        let mut all: Vec<Label> = labels.into_iter().collect();
        all.sort();
        all.dedup();
        Self(all.into())
    }
}
