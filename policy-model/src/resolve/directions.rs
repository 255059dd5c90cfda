//! The policy of one direction of an endpoint, settled once per distinct list of selecting rules.

use super::grants::{Grant, Grants};
use super::groups::{Changes, Group, Groups, Inspection};
use super::lists::Lists;
use super::subjects::RuleList;
use super::terms::TermId;
use super::words::{Builtin, ByDefault, PortNames, named_ports, spans};
use crate::http::PatternError;
use crate::inputs::{EndpointInputs, NamedPorts};
use crate::parse::{Diagnostic, Severity};
use crate::ports::{Class, PortRange, settle};
use crate::snapshot::{Direction, DirectionPolicy, GroupId};
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Directions {
    /// Of the last snapshot and, while one is made, of this one.
    before: HashMap<Key, Settled>,
    settled: HashMap<Key, Settled>,
    unenforced: Arc<DirectionPolicy>,
    /// The groups that came and went since the last snapshot.
    changes: Changes,
    port_names: Arc<[NamedPorts]>,
    port_names_changed: bool,
}

/// What the policies of all endpoints are made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'s> {
    pub(super) groups: &'s Groups,
    pub(super) grants: &'s Grants,
    /// The local host may reach local pods.
    pub(super) localhost: bool,
}

/// What the policy of a direction depends on, beside the groups.
#[derive(Clone, Debug)]
struct Key {
    direction: Direction,
    /// Those that have anything to say of it. Equal lists are one object.
    rules: RuleList,
    is_init: bool,
    localhost: bool,
    /// Where a rule names a port of the subject.
    names: Option<NamedPorts>,
}

#[derive(Clone, Debug)]
struct Settled {
    policy: Arc<DirectionPolicy>,
    errors: Errors,
}

/// What is wrong with patterns: the rule and field, as diagnostics name them, and the message.
type Errors = BTreeSet<(String, String)>;
/// Of groups in order; those without a class are left out.
type ClassesOf = Vec<(GroupId, Arc<[Class]>)>;

/// Groups that the same grants cover: their number in the order of the rules, whether connections can be handed over, whether it is
/// the host, and the names of ports where they matter.
type Alike = (Vec<usize>, Inspection, bool, Option<Arc<[NamedPorts]>>);

impl Directions {
    pub(super) fn begin(&mut self, changes: Changes, port_names: Arc<[NamedPorts]>) {
        self.before = core::mem::take(&mut self.settled);
        self.changes = changes;
        self.port_names_changed = self.port_names != port_names;
        self.port_names = port_names;
    }

    pub(super) fn end(&mut self) {
        self.before.clear();
    }

    /// What could not be compiled, in one order.
    pub(super) fn diagnostics(&self) -> Vec<Diagnostic> {
        let all: BTreeSet<_> = self.settled.values().flat_map(|settled| &settled.errors).collect();
        let diagnostic = |(field, message): &(String, String)| Diagnostic {
            severity: Severity::Error,
            line: 0,
            field: field.clone(),
            message: format!("the pattern can't be enforced, so the rule allows nothing: {message}"),
            fix: "write a smaller pattern".to_owned(),
        };
        all.into_iter().map(diagnostic).collect()
    }

    pub(super) fn policy(
        &mut self,
        direction: Direction,
        subject: &EndpointInputs,
        rules: RuleList,
        scene: &Scene<'_>,
        lists: &mut Lists,
    ) -> Arc<DirectionPolicy> {
        let is_init = subject.labels.get("reserved", "init").is_some();
        if rules.is_empty() && !is_init {
            return Arc::clone(&self.unenforced);
        }
        let mut grants = rules.iter().flat_map(|rule| scene.grants.of(rule, direction));
        let may = direction == Direction::Ingress && !subject.named_ports.is_empty();
        let names = (may && grants.any(Grant::has_named_ports)).then(|| subject.named_ports.clone());
        let key = Key { direction, rules, is_init, localhost: scene.localhost, names };
        if let Some(settled) = self.settled.get(&key) {
            return Arc::clone(&settled.policy);
        }
        let before = self.before.remove(&key);
        let settled = match before {
            Some(before) if self.nothing_changed(direction) => before,
            before => Settling::new(&key, scene, &self.port_names).settle(self, before, lists),
        };
        let policy = Arc::clone(&settled.policy);
        let _new = self.settled.insert(key, settled);
        policy
    }

    /// That a policy of the last snapshot depends on.
    fn nothing_changed(&self, direction: Direction) -> bool {
        let names_matter = self.port_names_changed && direction == Direction::Egress;
        self.changes.come.is_empty() && self.changes.gone.is_empty() && !names_matter
    }
}

/// One direction, while it is settled.
struct Settling<'s> {
    key: &'s Key,
    groups: &'s Groups,
    grants: Vec<&'s Grant>,
    /// The grants that speak of a term, in order.
    by_term: HashMap<TermId, Vec<usize>>,
    by_default: ByDefault,
    builtin: Builtin,
    port_names: Arc<[NamedPorts]>,
    known: HashMap<Alike, Arc<[Class]>>,
}

impl<'s> Settling<'s> {
    fn new(key: &'s Key, scene: &Scene<'s>, port_names: &Arc<[NamedPorts]>) -> Self {
        let grants: Vec<&Grant> =
            key.rules.iter().flat_map(|rule| scene.grants.of(rule, key.direction)).collect();
        let mut by_term: HashMap<TermId, Vec<usize>> = HashMap::new();
        for (nth, grant) in grants.iter().enumerate() {
            by_term.entry(grant.term).or_default().push(nth);
        }
        let by_default = key.by_default();
        Self {
            key,
            groups: scene.groups,
            grants,
            by_term,
            by_default,
            builtin: Builtin::new(key.direction, key.admits_localhost(), by_default),
            port_names: Arc::clone(port_names),
            known: HashMap::new(),
        }
    }

    /// What was settled before holds on; groups that are new since then are added, and those that are gone left out.
    fn settle(mut self, all: &Directions, before: Option<Settled>, lists: &mut Lists) -> Settled {
        let Some(Settled { policy, mut errors }) = before else {
            let groups = self.groups.ids().collect::<Vec<_>>();
            let (peers, errors) = self.classes(groups, lists);
            let named = self.named();
            return Settled { policy: Arc::new(DirectionPolicy { enforced: true, peers, named }), errors };
        };
        let (come, new_errors) = self.classes(all.changes.come.iter().copied(), lists);
        let is_gone = |(group, _): &(GroupId, _)| all.changes.gone.contains(group);
        let names_matter = all.port_names_changed && self.key.direction == Direction::Egress;
        let named = names_matter.then(|| self.named()).filter(|named| *named != policy.named);
        errors.extend(new_errors);
        if come.is_empty() && named.is_none() && !policy.peers.iter().any(is_gone) {
            return Settled { policy, errors };
        }
        let stay = policy.peers.iter().filter(|peer| !is_gone(peer)).cloned();
        // Sorted: groups that are new have higher numbers.
        let peers = stay.chain(come).collect();
        let named = named.unwrap_or_else(|| policy.named.clone());
        Settled { policy: Arc::new(DirectionPolicy { enforced: true, peers, named }), errors }
    }

    fn classes(
        &mut self,
        groups: impl IntoIterator<Item = GroupId>,
        lists: &mut Lists,
    ) -> (ClassesOf, Errors) {
        let (mut peers, mut errors) = (Vec::new(), BTreeSet::new());
        for id in groups {
            let Some(group) = self.groups.get(id) else { continue };
            let classes = self.classes_of(group, lists, &mut errors);
            if !classes.is_empty() {
                peers.push((id, classes));
            }
        }
        (peers, errors)
    }

    fn classes_of(&mut self, group: &Group, lists: &mut Lists, errors: &mut Errors) -> Arc<[Class]> {
        let mut numbers: Vec<usize> =
            group.terms.iter().filter_map(|term| self.by_term.get(term)).flatten().copied().collect();
        numbers.sort_unstable();
        let grants = || numbers.iter().filter_map(|nth| self.grants.get(*nth)).copied();
        let by_name = self.key.direction == Direction::Egress && grants().any(Grant::has_named_ports);
        let inspection = group.traits.inspection(self.key.direction);
        let names = by_name.then(|| Arc::clone(&group.traits.names));
        let alike = (numbers.clone(), inspection, self.builtin.is_special(group), names);
        if let Some(known) = self.known.get(&alike) {
            return Arc::clone(known);
        }
        let names = match (&self.key.names, self.key.direction) {
            (Some(names), _) => PortNames::Subject(names),
            (None, Direction::Ingress) => PortNames::Peer(&[]),
            (None, Direction::Egress) => PortNames::Peer(&group.traits.names),
        };
        let written = grants().flat_map(|grant| spans(grant, self.by_default, names));
        let spans: Vec<_> = written.chain(self.builtin.spans(group)).collect();
        let classes = settle(&spans, |protocols, words| lists.decide(protocols, words, inspection));
        errors.extend(
            lists
                .take_errors()
                .into_iter()
                .map(|PatternError { rule, field, message }| (format!("{rule}.{field}"), message)),
        );
        let _new = self.known.insert(alike, Arc::clone(&classes));
        classes
    }

    /// The ports that these grants name.
    fn named(&self) -> Vec<PortRange> {
        let names = match (&self.key.names, self.key.direction) {
            (Some(names), _) => PortNames::Subject(names),
            // No rule names a port of the subject, or it has none.
            (None, Direction::Ingress) => PortNames::Peer(&[]),
            (None, Direction::Egress) => PortNames::Peer(&self.port_names),
        };
        let named: BTreeSet<PortRange> =
            self.grants.iter().flat_map(|grant| named_ports(grant, names)).collect();
        named.into_iter().collect()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rules, &other.rules) && self.rest() == other.rest()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.rules.as_ptr(), self.rest()).hash(state);
    }
}

impl Key {
    fn rest(&self) -> (Direction, bool, bool, &Option<NamedPorts>) {
        (self.direction, self.is_init, self.localhost, &self.names)
    }

    fn by_default(&self) -> ByDefault {
        let denies =
            self.rules.iter().filter_map(|rule| rule.section(self.direction)).any(|s| s.default_deny);
        if self.is_init || denies { ByDefault::Deny } else { ByDefault::Allow }
    }

    /// An endpoint whose labels are not known yet is closed to the host too, until some rule's entry selects it.
    fn admits_localhost(&self) -> bool {
        let mut sections = self.rules.iter().filter_map(|rule| rule.section(self.direction));
        let mut mentioned = || sections.any(|section| !section.allow.is_empty() || !section.deny.is_empty());
        self.localhost && (!self.is_init || mentioned())
    }
}
