//! Identities: a number for a set of labels, local to this node.
//!
//! INVARIANT: two sets of labels never share a number, and a number never changes its labels.

use crate::cidr::Prefix;
use crate::labels::{Label, LabelSet};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The number that stands for a set of labels on this node, and in the kernel's maps. 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IdentityId(pub u32);

impl IdentityId {
    /// An address inside a pod network that no endpoint claims: judged as nobody in particular.
    pub const UNKNOWN: Self = Self(0);
    pub const HOST: Self = Self(1);
    pub const WORLD: Self = Self(2);
    pub const UNMANAGED: Self = Self(3);
    pub const HEALTH: Self = Self(4);
    pub const INIT: Self = Self(5);
    pub const REMOTE_NODE: Self = Self(6);
    pub const KUBE_APISERVER: Self = Self(7);
    pub const INGRESS: Self = Self(8);
    pub const WORLD_IPV4: Self = Self(9);
    pub const WORLD_IPV6: Self = Self(10);

    /// The identities that exist without anybody having to name them, with their labels.
    pub const RESERVED: &[(Self, &[&str])] = &[
        (Self::UNKNOWN, &["reserved:unknown"]),
        (Self::HOST, &["reserved:host"]),
        (Self::WORLD, &["reserved:world"]),
        (Self::UNMANAGED, &["reserved:unmanaged"]),
        (Self::HEALTH, &["reserved:health"]),
        (Self::INIT, &["reserved:init"]),
        (Self::REMOTE_NODE, &["reserved:remote-node"]),
        (Self::KUBE_APISERVER, &["reserved:kube-apiserver", "reserved:remote-node"]),
        (Self::INGRESS, &["reserved:ingress"]),
        (Self::WORLD_IPV4, &["reserved:world-ipv4"]),
        (Self::WORLD_IPV6, &["reserved:world-ipv6"]),
    ];

    const FIRST: u32 = 256;
    const LAST: u32 = 0x00FF_FFFF;

    pub fn is_reserved(self) -> bool {
        self.0 < Self::FIRST
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: IdentityId,
    pub labels: LabelSet,
}

/// Who was at one end of a flow, as a snapshot knew it. What records keep: it holds no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    pub identity: Arc<Identity>,
    /// `None`: no pod that is known.
    pub endpoint: Option<EndpointName>,
}

/// What a pod is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointName {
    pub namespace: Box<str>,
    pub name: Box<str>,
    /// Tells it from those that had the name before; `None` where its source knows no such thing, as the node file.
    pub uid: Option<Box<str>>,
}

impl Party {
    pub fn named(identity: Arc<Identity>, namespace: &str, name: &str) -> Self {
        let endpoint = EndpointName { namespace: namespace.into(), name: name.into(), uid: None };
        Self { identity, endpoint: Some(endpoint) }
    }

    pub fn nameless(identity: Arc<Identity>) -> Self {
        Self { identity, endpoint: None }
    }
}

/// Which number stands for which labels. Grows only; the shell keeps it on disk so that numbers survive restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SavedNumbers", into = "SavedNumbers")]
pub struct Numbers {
    /// Sorted labels joined by `;` (as upstream's identity keys) -> number.
    by_labels: BTreeMap<String, u32>,
    taken: BTreeSet<u32>,
    /// `namespace/name` of every living endpoint -> its number.
    endpoints: BTreeMap<String, u16>,
    endpoints_taken: BTreeSet<u16>,
    /// Taken, says the disk, and not used yet.
    spare: Vec<u32>,
    spare_endpoints: Vec<u16>,
    from: Source,
}

/// Where numbers come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Source {
    /// What is to be saved before it is used.
    #[default]
    Free,
    Spare,
    /// There were too few spare ones.
    Short,
}

/// The form on disk. Nothing of it may be missing: numbers that are made anew are not those that the kernel holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedNumbers {
    version: u32,
    by_labels: BTreeMap<String, u32>,
    endpoints: BTreeMap<String, u16>,
    #[serde(default)]
    spare: Vec<u32>,
    #[serde(default)]
    spare_endpoints: Vec<u16>,
}

impl SavedNumbers {
    /// Of the form: a later one is a later program's. The first one had no spare numbers.
    const VERSION: u32 = 2;
}

/// A file that was edited or damaged must not give one number to two sets of labels: what does not fit is numbered anew.
impl TryFrom<SavedNumbers> for Numbers {
    type Error = String;

    fn try_from(saved: SavedNumbers) -> Result<Self, String> {
        let (version, known) = (saved.version, SavedNumbers::VERSION);
        if !(1..=known).contains(&version) {
            return Err(format!("version {version} is not known, only those up to {known}"));
        }
        let mut numbers = Self::default();
        // They may have been used, and nobody knows for whom: not again by this process.
        numbers.taken.extend(saved.spare);
        numbers.endpoints_taken.extend(saved.spare_endpoints);
        for (labels, number) in saved.by_labels {
            let fits = (IdentityId::FIRST..=IdentityId::LAST).contains(&number);
            if fits && numbers.taken.insert(number) {
                let _new = numbers.by_labels.insert(labels, number);
            }
        }
        let taken = &mut numbers.endpoints_taken;
        let saved = saved.endpoints.into_iter().filter(|(_, number)| *number != 0);
        numbers.endpoints = saved.filter(|(_, number)| taken.insert(*number)).collect();
        Ok(numbers)
    }
}

impl From<Numbers> for SavedNumbers {
    fn from(numbers: Numbers) -> Self {
        let Numbers { by_labels, endpoints, spare, spare_endpoints, .. } = numbers;
        Self { version: Self::VERSION, by_labels, endpoints, spare, spare_endpoints }
    }
}

impl Numbers {
    /// The number of these labels: 24 bits of their hash, probed upwards on collision, never below 256.
    /// When all 16 million are taken, the answer is [`IdentityId::UNKNOWN`], which nothing is allowed to.
    pub fn number(&mut self, labels: &LabelSet) -> IdentityId {
        let key = key_text(labels);
        if let Some(number) = self.by_labels.get(&key) {
            return IdentityId(*number);
        }
        let number = match self.from {
            Source::Free => self.free(&key),
            Source::Spare | Source::Short => self.spare.pop(),
        };
        let Some(number) = number else { return self.short().map_or(IdentityId::UNKNOWN, IdentityId) };
        let _new = self.taken.insert(number);
        let _new = self.by_labels.insert(key, number);
        IdentityId(number)
    }

    fn free(&self, key: &str) -> Option<u32> {
        let hash = fnv1a(key.as_bytes());
        let folded =
            u32::try_from((hash ^ (hash >> 24) ^ (hash >> 48)) & u64::from(IdentityId::LAST)).unwrap_or(0);
        let start = folded.max(IdentityId::FIRST);
        let mut probes = (start..=IdentityId::LAST).chain(IdentityId::FIRST..start);
        probes.find(|number| !self.taken.contains(number))
    }

    fn free_endpoint(&self, name: &str) -> Option<u16> {
        let hash = fnv1a(name.as_bytes());
        let folded = u16::try_from((hash ^ (hash >> 16) ^ (hash >> 32) ^ (hash >> 48)) & 0xFFFF).unwrap_or(0);
        let start = folded.max(1);
        (start..=u16::MAX).chain(1..start).find(|number| !self.endpoints_taken.contains(number))
    }

    /// No number is left where it comes from.
    fn short<T>(&mut self) -> Option<T> {
        if self.from == Source::Spare {
            self.from = Source::Short;
        }
        None
    }

    /// Sets numbers aside, to be saved with the others: for labels and endpoints that come while nothing can be saved.
    pub fn reserve(&mut self) {
        for nth in self.spare.len()..SPARE {
            let Some(number) = self.free(&format!("spare {nth}")) else { break };
            let _new = self.taken.insert(number);
            self.spare.push(number);
        }
        for nth in self.spare_endpoints.len()..SPARE_ENDPOINTS {
            let Some(number) = self.free_endpoint(&format!("spare {nth}")) else { break };
            let _new = self.endpoints_taken.insert(number);
            self.spare_endpoints.push(number);
        }
    }

    /// Until [`Self::save_again`]: new numbers are those that were set aside, which have been saved.
    pub fn spend_reserve(&mut self) {
        self.from = Source::Spare;
    }

    /// Whether all numbers were saved, or set aside before.
    #[must_use]
    pub fn save_again(&mut self) -> bool {
        core::mem::take(&mut self.from) != Source::Short
    }

    /// The number of an endpoint, 1..=65535; the same while it lives. `None` when all are taken.
    pub(crate) fn endpoint(&mut self, name: &str) -> Option<u16> {
        if let Some(number) = self.endpoints.get(name) {
            return Some(*number);
        }
        let number = match self.from {
            Source::Free => self.free_endpoint(name),
            Source::Spare | Source::Short => self.spare_endpoints.pop(),
        };
        let Some(number) = number else { return self.short() };
        let _new = self.endpoints.insert(name.to_owned(), number);
        let _new = self.endpoints_taken.insert(number);
        Some(number)
    }

    /// Gives back the numbers of endpoints that are gone.
    pub(crate) fn retain_endpoints(&mut self, lives: impl Fn(&str) -> bool) {
        let taken = &mut self.endpoints_taken;
        self.endpoints.retain(|name, number| lives(name) || !taken.remove(number));
    }
}

/// So many numbers of label sets and of endpoints are set aside.
const SPARE: usize = 256;
const SPARE_ENDPOINTS: usize = 64;

/// `k8s:class=deathstar;k8s:org=empire;`, with what would make two sets read alike escaped.
fn key_text(labels: &LabelSet) -> String {
    let mut text = String::new();
    for label in labels.iter() {
        for (part, end) in [(&label.source, ':'), (&label.key, '='), (&label.value, ';')] {
            for c in part.chars() {
                if matches!(c, '\\' | ';' | '=') {
                    text.push('\\');
                }
                text.push(c);
            }
            text.push(end);
        }
    }
    text
}

/// Own and fixed: the numbers are kept on disk, so the hash may not change with the toolchain.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

/// The labels of the addresses of a prefix that policy names: `cidr:10.0.0.0/8` and its family's world.
/// The prefix of length 0 is that world itself.
pub fn cidr_labels(prefix: &Prefix) -> LabelSet {
    let world = if prefix.address().is_ipv4() { "world-ipv4" } else { "world-ipv6" };
    let cidr = (prefix.length() > 0).then(|| Label::new("cidr", &cidr_key(prefix), ""));
    cidr.into_iter().chain([Label::new("reserved", world, "")]).collect()
}

/// `:` may not stand in a label's key: `2001:db8::/32` becomes `2001-db8--0/32`.
fn cidr_key(prefix: &Prefix) -> String {
    let address = prefix.address().to_string().replace(':', "-");
    let first = if address.starts_with('-') { "0" } else { "" };
    let last = if address.ends_with('-') { "0" } else { "" };
    format!("{first}{address}{last}/{}", prefix.length())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_and_24_bits() {
        let mut numbers = Numbers::default();
        let empire = labels(&["k8s:org=empire", "k8s:class=deathstar"]);
        let id = numbers.number(&empire);
        // Fixed: changing the hash would renumber every node at its next restart.
        assert_eq!(id, IdentityId(2_372_366));
        assert_eq!(numbers.number(&empire), id);
        assert_ne!(numbers.number(&labels(&["k8s:org=alliance"])), id);
    }

    #[test]
    fn a_collision_is_probed() {
        let mut numbers = Numbers::default();
        let first = numbers.number(&labels(&["k8s:a=b"]));
        let mut other = Numbers { taken: BTreeSet::from([first.0, first.0 + 1]), ..Numbers::default() };
        assert_eq!(other.number(&labels(&["k8s:a=b"])), IdentityId(first.0 + 2));
    }

    #[test]
    fn labels_that_read_alike_get_two_numbers() {
        let mut numbers = Numbers::default();
        let one = numbers.number(&[Label::new("k8s", "a", "b;k8s:c=d")].into_iter().collect());
        let two = numbers.number(&labels(&["k8s:a=b", "k8s:c=d"]));
        assert_ne!(one, two);
    }

    #[test]
    fn numbers_survive_a_restart() {
        let mut numbers = Numbers::default();
        let id = numbers.number(&labels(&["k8s:a=b"]));
        let endpoint = numbers.endpoint("default/a");
        let text = serde_json::to_string(&numbers).unwrap();
        let mut again: Numbers = serde_json::from_str(&text).unwrap();
        assert_eq!(again, numbers);
        assert_eq!(again.number(&labels(&["k8s:a=b"])), id);
        assert_eq!(again.endpoint("default/a"), endpoint);
    }

    #[test]
    fn a_damaged_file_gives_no_number_twice() {
        let by_labels = r#"{"k8s:a=;": 300, "k8s:b=;": 300, "k8s:c=;": 7, "k8s:d=;": 16777216}"#;
        let text = format!(r#"{{"version": 1, "by_labels": {by_labels}, "endpoints": {{}}}}"#);
        let mut numbers: Numbers = serde_json::from_str(&text).unwrap();
        let ids: BTreeSet<IdentityId> =
            ["k8s:a", "k8s:b", "k8s:c", "k8s:d"].iter().map(|l| numbers.number(&labels(&[l]))).collect();
        assert_eq!(ids.len(), 4);
        assert!(ids.iter().all(|id| (256..1 << 24).contains(&id.0)));
    }

    #[test]
    fn what_has_another_shape_is_refused() {
        let check = |text: &str, expect: &str| {
            let error = serde_json::from_str::<Numbers>(text).expect_err(text).to_string();
            assert!(error.starts_with(expect), "{text}: {error}");
        };
        check(r#"{"x":1}"#, "unknown field `x`");
        check("{}", "missing field `version`");
        check(r#"{"version":1,"endpoints":{}}"#, "missing field `by_labels`");
        check(r#"{"version":1,"by_labels":{}}"#, "missing field `endpoints`");
        check(r#"{"version":1,"by_labels":{},"endpoints":{},"x":1}"#, "unknown field `x`");
        check(r#"{"version":3,"by_labels":{},"endpoints":{}}"#, "version 3 is not known, only those up to 2");
        check(r#"{"version":0,"by_labels":{},"endpoints":{}}"#, "version 0 is not known, only those up to 2");
        check(r#"{"version":1,"by_labels":{"k8s:a=;":-1},"endpoints":{}}"#, "invalid value: integer `-1`");
    }

    #[test]
    fn endpoints_that_are_gone_give_their_numbers_back() {
        let mut numbers = Numbers::default();
        let first = numbers.endpoint("default/a");
        assert_ne!(numbers.endpoint("default/b"), first);
        numbers.retain_endpoints(|name| name == "default/a");
        assert_eq!(numbers.endpoints.len(), 1);
        assert_eq!(numbers.endpoint("default/a"), first);
    }

    #[test]
    fn numbers_that_were_set_aside_are_used_while_nothing_can_be_saved() {
        let mut numbers = Numbers::default();
        let known = numbers.number(&labels(&["k8s:a=1"]));
        numbers.reserve();
        let saved = serde_json::to_string(&numbers).unwrap();
        numbers.spend_reserve();
        assert_eq!(numbers.number(&labels(&["k8s:a=1"])), known);
        let spent: BTreeSet<IdentityId> =
            (0..SPARE).map(|nth| numbers.number(&labels(&[&format!("k8s:b={nth}")]))).collect();
        let endpoints: BTreeSet<u16> =
            (0..SPARE_ENDPOINTS).filter_map(|nth| numbers.endpoint(&format!("default/{nth}"))).collect();
        assert_eq!((spent.len(), endpoints.len()), (SPARE, SPARE_ENDPOINTS));
        assert!(numbers.clone().save_again(), "there was one for each");
        let mut short = numbers.clone();
        assert_eq!(short.number(&labels(&["k8s:c="])), IdentityId::UNKNOWN);
        assert!(!short.save_again());
        assert_eq!(numbers.endpoint("default/more"), None);
        assert!(!numbers.save_again());
        // A later process knows none of those labels, and gives their numbers to nobody.
        let mut later: Numbers = serde_json::from_str(&saved).unwrap();
        later.reserve();
        assert_eq!(later.number(&labels(&["k8s:a=1"])), known);
        for nth in 0..2 * SPARE {
            assert!(!spent.contains(&later.number(&labels(&[&format!("k8s:b={nth}")]))));
            assert!(!endpoints.contains(&later.endpoint(&format!("default/{nth}")).unwrap()));
        }
    }

    #[test]
    fn cidr_labels_as_upstream_writes_them() {
        for (prefix, expect) in [
            ("192.0.2.3/32", "cidr:192.0.2.3/32 reserved:world-ipv4"),
            ("::1/128", "cidr:0--1/128 reserved:world-ipv6"),
            ("2001:db8::/32", "cidr:2001-db8--0/32 reserved:world-ipv6"),
            ("0.0.0.0/0", "reserved:world-ipv4"),
            ("::/0", "reserved:world-ipv6"),
        ] {
            let labels = cidr_labels(&prefix.parse().unwrap());
            let text: Vec<String> = labels.iter().map(ToString::to_string).collect();
            assert_eq!(text.join(" "), expect);
        }
    }

    fn labels(texts: &[&str]) -> LabelSet {
        texts.iter().map(|l| Label::parse(l)).collect()
    }
}
