//! What a part of a rule has to know about the object around it.

use crate::rule::Protocol;

/// What an entry does to the connections that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// Where a rule stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    /// The path of the rule: `specs[2]`.
    pub(super) rule: &'a str,
    /// `None` in clusterwide objects.
    pub(super) namespace: Option<&'a str>,
    /// The subject speaks of pods without labels, which have no namespace either.
    pub(super) subject_is_init: bool,
}

impl Scope<'_> {
    /// A path inside of the rule: `ingress[0]` of `specs[2].ingress[0]`.
    pub(super) fn inside<'p>(&self, path: &'p str) -> &'p str {
        path.strip_prefix(self.rule).and_then(|rest| rest.strip_prefix('.')).unwrap_or(path)
    }
}

/// What `ANY`, or no protocol at all, stands for. Never ICMP.
pub(super) const ANY: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
