//! Label selectors: matchLabels and matchExpressions, all of them ANDed.

use crate::labels::{Label, LabelSet};
use std::fmt;

/// `source:key`, where the source `any` matches a key from every source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SelectorKey {
    pub source: Box<str>,
    pub key: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    DoesNotExist(SelectorKey),
    Exists(SelectorKey),
    In(SelectorKey, Vec<Box<str>>),
    NotIn(SelectorKey, Vec<Box<str>>),
}

/// All requirements must hold; without any, everything is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    pub requirements: Vec<Requirement>,
}

/// The source of the labels of identities that exist without a pod.
pub(crate) const RESERVED: &str = "reserved";

impl SelectorKey {
    /// `k8s:app`; without a source, `any`.
    pub fn parse(text: &str) -> Self {
        let (source, key) = text.split_once(':').unwrap_or(("any", text));
        Self { source: source.into(), key: key.into() }
    }

    /// The first label of this key decides.
    fn find<'a>(&self, labels: &'a LabelSet) -> Option<&'a Label> {
        labels.iter().find(|l| l.key == self.key && (*self.source == *"any" || l.source == self.source))
    }
}

impl fmt::Display for SelectorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.key)
    }
}

impl Requirement {
    pub fn key(&self) -> &SelectorKey {
        match self {
            Self::DoesNotExist(key) | Self::Exists(key) | Self::In(key, _) | Self::NotIn(key, _) => key,
        }
    }

    pub fn holds(&self, labels: &LabelSet) -> bool {
        let found = self.key().find(labels);
        match self {
            Self::DoesNotExist(_) => found.is_none(),
            Self::Exists(_) => found.is_some(),
            Self::In(_, values) => found.is_some_and(|l| values.contains(&l.value)),
            Self::NotIn(_, values) => found.is_none_or(|l| !values.contains(&l.value)),
        }
    }
}

impl Selector {
    pub fn matches(&self, labels: &LabelSet) -> bool {
        self.requirements.iter().all(|r| r.holds(labels))
    }

    /// Whether it speaks of identities that are no pods. Otherwise a peer selector means pods only: the world, too, lacks
    /// every label that a `NotIn` or a `DoesNotExist` asks for.
    pub fn names_reserved(&self) -> bool {
        self.requirements.iter().any(|r| *r.key().source == *RESERVED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> LabelSet {
        ["k8s:org=empire", "k8s:class=deathstar", "reserved:host"].iter().map(|l| Label::parse(l)).collect()
    }

    fn key(text: &str) -> SelectorKey {
        SelectorKey::parse(text)
    }

    #[track_caller]
    fn check(requirement: Requirement, expect: bool) {
        let selector = Selector { requirements: vec![requirement] };
        assert_eq!(selector.matches(&labels()), expect, "{selector:?}");
    }

    #[test]
    fn empty_selects_everything() {
        assert!(Selector::default().matches(&labels()));
    }

    #[test]
    fn sources() {
        check(Requirement::Exists(key("org")), true);
        check(Requirement::Exists(key("k8s:org")), true);
        check(Requirement::Exists(key("container:org")), false);
        check(Requirement::In(key("reserved:host"), vec!["".into()]), true);
    }

    #[test]
    fn operators() {
        check(Requirement::In(key("org"), vec!["alliance".into(), "empire".into()]), true);
        check(Requirement::In(key("org"), vec!["alliance".into()]), false);
        check(Requirement::NotIn(key("org"), vec!["empire".into()]), false);
        check(Requirement::NotIn(key("absent"), vec!["empire".into()]), true);
        check(Requirement::DoesNotExist(key("org")), false);
        check(Requirement::DoesNotExist(key("absent")), true);
    }
}
