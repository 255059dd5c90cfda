//! Terms: whom entries of rules speak of. Entries that speak of the same are one term.
//!
//! Terms are found by the labels of those they may cover, so that somebody new is compared with few of them.

use crate::labels::LabelSet;
use crate::peers::Candidate;
use crate::rule::{Peer, Peers};
use crate::selector::Requirement;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Grows: a term that comes later has a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TermId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// A term that nobody spoke of before.
#[derive(Debug)]
pub(super) struct NewTerm {
    pub(super) id: TermId,
    pub(super) effect: Effect,
    pub(super) peers: Arc<Peers>,
}

#[derive(Debug, Default)]
pub(super) struct Terms {
    ids: HashMap<(Effect, Arc<Peers>), TermId>,
    terms: HashMap<TermId, Term>,
    /// By what whoever is covered has among its labels.
    by_label: HashMap<LabelHash, Vec<TermId>>,
    /// Those that may cover anybody.
    others: Vec<TermId>,
    /// Terms that no rule uses. They stay: what they tell apart is told apart finer than it has to be, no more.
    unused: usize,
}

#[derive(Debug)]
struct Term {
    effect: Effect,
    peers: Arc<Peers>,
    users: usize,
}

impl Effect {
    pub(super) fn covers(self, candidate: &Candidate<'_>, peers: &Peers) -> bool {
        match self {
            Self::Allow => candidate.allowed_by(peers),
            Self::Deny => candidate.denied_by(peers),
        }
    }
}

/// Of a label's key, with its value or without. Two that share one cost a comparison.
pub(super) type LabelHash = u64;

/// Fewer are never worth it.
const UNUSED_MIN: usize = 64;

impl Terms {
    /// One user more; the second is there where nobody spoke of it before.
    pub(super) fn acquire(&mut self, effect: Effect, peers: &Peers) -> (TermId, Option<NewTerm>) {
        let peers = Arc::new(peers.clone());
        if let Some(id) = self.ids.get(&(effect, Arc::clone(&peers))).copied() {
            if let Some(term) = self.terms.get_mut(&id) {
                self.unused -= usize::from(term.users == 0);
                term.users += 1;
            }
            return (id, None);
        }
        let id = TermId(u64::try_from(self.terms.len()).unwrap_or(u64::MAX));
        let _new = self.ids.insert((effect, Arc::clone(&peers)), id);
        match needed(&peers) {
            Some(labels) => labels.into_iter().for_each(|l| self.by_label.entry(l).or_default().push(id)),
            None => self.others.push(id),
        }
        let _new = self.terms.insert(id, Term { effect, peers: Arc::clone(&peers), users: 1 });
        (id, Some(NewTerm { id, effect, peers }))
    }

    pub(super) fn release(&mut self, id: TermId) {
        if let Some(term) = self.terms.get_mut(&id) {
            term.users = term.users.saturating_sub(1);
            self.unused += usize::from(term.users == 0);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.terms.len()
    }

    pub(super) fn are_mostly_unused(&self) -> bool {
        self.unused > UNUSED_MIN.max(self.terms.len() / 2)
    }

    /// Those that cover somebody, sorted.
    pub(super) fn covering(&self, candidate: &Candidate<'_>) -> Vec<TermId> {
        let by_label = hashes(&candidate.identity.labels).into_iter().filter_map(|l| self.by_label.get(&l));
        let maybe: BTreeSet<TermId> = by_label.flatten().chain(&self.others).copied().collect();
        let covers =
            |id: &TermId| self.terms.get(id).is_some_and(|term| term.effect.covers(candidate, &term.peers));
        maybe.into_iter().filter(covers).collect()
    }
}

/// What each that is covered has at least one of. `None`: there is no such list.
pub(super) fn needed(peers: &Peers) -> Option<Vec<LabelHash>> {
    let Peers::Of(peers) = peers else { return None };
    let mut needed = Vec::new();
    for peer in peers {
        let Peer::Endpoints(selector) = peer else { return None };
        let labels = selector.requirements.iter().find_map(|requirement| match requirement {
            Requirement::In(key, values) => {
                Some(values.iter().map(|value| hash(&key.key, Some(value))).collect::<Vec<_>>())
            }
            Requirement::Exists(key) => Some(vec![hash(&key.key, None)]),
            Requirement::DoesNotExist(_) | Requirement::NotIn(..) => None,
        });
        needed.extend(labels?);
    }
    Some(needed)
}

/// Of each label, with its value and without.
pub(super) fn hashes(labels: &LabelSet) -> Vec<LabelHash> {
    let both = |(key, value): (&str, &str)| [hash(key, Some(value)), hash(key, None)];
    labels.iter().flat_map(|label| both((&label.key, &label.value))).collect()
}

fn hash(key: &str, value: Option<&str>) -> LabelHash {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}
