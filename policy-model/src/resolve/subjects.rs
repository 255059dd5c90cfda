//! Which rules select which endpoints.

use super::changes::between;
use super::members::Member;
use super::{by_name, is_same_policy};
use crate::labels::LabelSet;
use crate::rule::{Policy, Rule, Section, Subject};
use crate::snapshot::Direction;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A rule by its place in a policy. Equal where it is the same object.
#[derive(Clone, Debug)]
pub(super) struct RuleAt {
    pub(super) policy: Arc<Policy>,
    place: usize,
}

#[derive(Debug, Default)]
pub(super) struct Subjects {
    /// In the order of the inputs.
    policies: Vec<Selecting>,
    /// By the labels of endpoints.
    rules: HashMap<LabelSet, Selected>,
    /// Every list of rules once, the same object as long as it is in use.
    lists: HashSet<RuleList>,
    used: HashSet<RuleAt>,
}

/// The rules that select an endpoint and have something to say of a direction, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Selected {
    pub(super) egress: RuleList,
    pub(super) ingress: RuleList,
}

/// Cheap to clone.
pub(super) type RuleList = Arc<[RuleAt]>;

/// A policy, and the endpoints that its rules select.
#[derive(Clone, Debug)]
struct Selecting {
    policy: Arc<Policy>,
    selects: Vec<(usize, LabelSet)>,
}

#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) policies_gone: Vec<Arc<Policy>>,
    pub(super) policies_come: Vec<Arc<Policy>>,
    /// Rules that select no endpoint any more, and those that select one now.
    pub(super) gone: Vec<RuleAt>,
    pub(super) come: Vec<RuleAt>,
}

impl Change {
    pub(super) fn changes_policies(&self) -> bool {
        !self.policies_gone.is_empty() || !self.policies_come.is_empty()
    }
}

impl Subjects {
    #[expect(clippy::mutable_key_type, reason = "rules are compared and hashed by address")]
    pub(super) fn update(&mut self, policies: &[Arc<Policy>], members: &[Member<'_>]) -> Change {
        let living: BTreeSet<&LabelSet> = members.iter().map(|member| &member.inputs.labels).collect();
        let subjects_changed =
            living.len() != self.rules.len() || living.iter().any(|labels| !self.rules.contains_key(*labels));
        let (gone, come) = between(
            &self.policies,
            policies,
            |old, new| by_name(&old.policy, new),
            |old, new| is_same_policy(&old.policy, new),
        );
        let mut change = Change {
            policies_gone: gone.into_iter().map(|selecting| Arc::clone(&selecting.policy)).collect(),
            policies_come: come.into_iter().map(Arc::clone).collect(),
            ..Change::default()
        };
        if !change.changes_policies() && !subjects_changed {
            return change;
        }
        self.select(policies, &living);
        self.list(&living);
        let used: HashSet<RuleAt> = self.lists.iter().flat_map(|list| list.iter()).cloned().collect();
        change.gone = self.used.difference(&used).cloned().collect();
        change.come = used.difference(&self.used).cloned().collect();
        self.used = used;
        change
    }

    /// The rules that select endpoints with these labels.
    pub(super) fn rules_of(&self, labels: &LabelSet) -> Selected {
        self.rules.get(labels).cloned().unwrap_or_default()
    }

    /// Policies that stayed are asked about new labels only.
    fn select(&mut self, policies: &[Arc<Policy>], living: &BTreeSet<&LabelSet>) {
        let new: Vec<&LabelSet> =
            living.iter().copied().filter(|labels| !self.rules.contains_key(*labels)).collect();
        let gone = self.rules.keys().any(|labels| !living.contains(labels));
        let mut before = core::mem::take(&mut self.policies).into_iter().peekable();
        for policy in policies {
            while before.next_if(|before| before.policy.name < policy.name).is_some() {}
            let kept = before.next_if(|before| is_same_policy(&before.policy, policy));
            let selecting = match kept {
                None => Selecting::new(policy, living.iter().copied()),
                Some(mut kept) => {
                    if gone {
                        kept.selects.retain(|(_, labels)| living.contains(labels));
                    }
                    kept.selects.extend(selected(policy, new.iter().copied()));
                    kept
                }
            };
            self.policies.push(selecting);
        }
    }

    #[expect(clippy::mutable_key_type, reason = "rules are compared and hashed by address")]
    fn list(&mut self, living: &BTreeSet<&LabelSet>) {
        let mut rules: HashMap<&LabelSet, Vec<RuleAt>> =
            living.iter().map(|labels| (*labels, Vec::new())).collect();
        for Selecting { policy, selects } in &mut self.policies {
            selects.sort_by_key(|(place, _)| *place);
            for (place, labels) in selects {
                if let Some(rules) = rules.get_mut(labels) {
                    rules.push(RuleAt { policy: Arc::clone(policy), place: *place });
                }
            }
        }
        let before = core::mem::take(&mut self.lists);
        let mut interned = |rules: &[RuleAt], direction| {
            let list: Vec<RuleAt> = rules.iter().filter(|rule| rule.touches(direction)).cloned().collect();
            let known = self.lists.get(&*list).or_else(|| before.get(&*list)).map(Arc::clone);
            let list = known.unwrap_or_else(|| list.into());
            let _new = self.lists.insert(Arc::clone(&list));
            list
        };
        let selected = |(labels, rules): (&LabelSet, Vec<RuleAt>)| {
            let egress = interned(&rules, Direction::Egress);
            (labels.clone(), Selected { egress, ingress: interned(&rules, Direction::Ingress) })
        };
        self.rules = rules.into_iter().map(selected).collect();
    }
}

impl Selecting {
    fn new<'l>(policy: &Arc<Policy>, living: impl Iterator<Item = &'l LabelSet>) -> Self {
        Self { policy: Arc::clone(policy), selects: selected(policy, living).collect() }
    }
}

fn selected<'l>(
    policy: &Policy,
    among: impl Iterator<Item = &'l LabelSet>,
) -> impl Iterator<Item = (usize, LabelSet)> {
    among.flat_map(move |labels| {
        let selects = |rule: &Rule| match &rule.subject {
            Subject::Endpoints(selector) => selector.matches(labels),
            Subject::Nodes(_) | Subject::Nobody => false,
        };
        let rules = policy.rules.iter().enumerate().filter(move |(_, rule)| selects(rule));
        rules.map(move |(place, _)| (place, labels.clone()))
    })
}

impl RuleAt {
    pub(super) fn rule(&self) -> Option<&Rule> {
        self.policy.rules.get(self.place)
    }

    pub(super) fn section(&self, direction: Direction) -> Option<&Section> {
        self.rule().map(|rule| match direction {
            Direction::Egress => &rule.egress,
            Direction::Ingress => &rule.ingress,
        })
    }

    /// Whether it has anything to say of this direction.
    pub(super) fn touches(&self, direction: Direction) -> bool {
        self.section(direction).is_some_and(|section| {
            section.default_deny || !section.allow.is_empty() || !section.deny.is_empty()
        })
    }
}

impl PartialEq for RuleAt {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.policy, &other.policy) && self.place == other.place
    }
}

impl Eq for RuleAt {}

impl Hash for RuleAt {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.policy), self.place).hash(state);
    }
}
