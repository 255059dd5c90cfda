//! Policies are compiled beside the watching: what takes long holds up nobody else.
//!
//! ```text
//! read ─► small: compiled at once ──────────────────────────► judged
//!   └───► else: waiting, in turns by namespace ─► compiled ─► judged     until then: last accepted text, else closed form
//! ```
//!
//! INVARIANT: a namespace waits for at most one policy of each other one, whatever these have waiting.
//! INVARIANT: what is no longer wanted is not compiled: of each policy the newest text waits, and no other.

use policy_model::automata::Patterns;
use policy_model::parse::Judged;
use policy_model::rule::{ObjectName, Policy};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A policy that needs no more than this is compiled at once: some 30 ms.
const SMALL_BYTES: usize = 1 << 20;
/// All of a namespace that are compiled at once in one round, and at the start, when nothing is in force yet.
const ROUND_BYTES: usize = 4 << 20;
const START_BYTES: usize = 64 << 20;

/// Clusterwide policies are a namespace of their own.
pub(crate) type Namespace = Option<Box<str>>;

/// What is known of policies, and what is to be compiled.
#[derive(Debug, Default)]
pub(crate) struct Shop {
    patterns: Patterns,
    known: BTreeMap<ObjectName, Vec<Known>>,
    wanted: BTreeMap<Namespace, Vec<Policy>>,
    /// What each namespace has spent in this round.
    spent: BTreeMap<Namespace, usize>,
    round: u64,
}

#[derive(Debug)]
struct Known {
    /// As it was read.
    policy: Policy,
    outcome: Outcome,
    /// The last one that it was asked for in.
    round: u64,
}

#[derive(Clone, Debug)]
enum Outcome {
    Judged(Arc<Judged>),
    /// So many bytes, for which its namespace had no room: they are not kept.
    TooBig(usize),
}

/// What is known of a policy.
#[derive(Debug)]
pub(crate) enum Compilation {
    /// It takes longer, and is to be done.
    Compiling,
    /// Compiled, or refused.
    Judged(Arc<Judged>),
    /// Its automata are so many bytes, more than there is room for.
    TooBig(usize),
}

impl Shop {
    /// A new set is being made.
    pub(crate) fn begin(&mut self) {
        self.round = self.round.saturating_add(1);
        self.wanted.clear();
        self.spent.clear();
    }

    /// What nobody asked for in this round is forgotten.
    pub(crate) fn end(&mut self) {
        let round = self.round;
        self.known.retain(|_, all| {
            all.retain(|known| known.round == round);
            !all.is_empty()
        });
        self.patterns.forget_unused();
    }

    /// `room`: the bytes of automata that its namespace has left.
    pub(crate) fn judge(&mut self, policy: &Policy, room: usize) -> Compilation {
        if let Some(known) = self.find(policy, room) {
            return known;
        }
        let namespace = policy.name.namespace.clone();
        let most = if self.round == 1 { START_BYTES } else { ROUND_BYTES };
        let spent = self.spent.entry(namespace.clone()).or_default();
        let bytes = most.saturating_sub(*spent).min(SMALL_BYTES);
        let mut judged = Judged::Accepted { policy: policy.clone(), diagnostics: Vec::new() };
        if bytes > 0 && judged.compile_small(&mut self.patterns, bytes) {
            *spent = spent.saturating_add(needed(&judged));
            self.learn(policy.clone(), judged);
            return self.find(policy, room).unwrap_or(Compilation::Compiling);
        }
        *spent = spent.saturating_add(bytes);
        let wanted = self.wanted.entry(namespace).or_default();
        if !wanted.contains(policy) {
            wanted.push(policy.clone());
        }
        Compilation::Compiling
    }

    /// `None`: it is to be compiled, or again, since there is room for it by now.
    fn find(&mut self, policy: &Policy, room: usize) -> Option<Compilation> {
        let all = self.known.get_mut(&policy.name)?;
        let place = all.iter().position(|known| known.policy == *policy)?;
        let known = all.get_mut(place)?;
        known.round = self.round;
        match known.outcome.clone() {
            Outcome::Judged(judged) if automaton_bytes(&judged) <= room => Some(Compilation::Judged(judged)),
            Outcome::Judged(judged) => {
                let bytes = automaton_bytes(&judged);
                known.outcome = Outcome::TooBig(bytes);
                Some(Compilation::TooBig(bytes))
            }
            Outcome::TooBig(bytes) if bytes > room => Some(Compilation::TooBig(bytes)),
            Outcome::TooBig(_) => {
                let _fits_now = all.swap_remove(place);
                None
            }
        }
    }

    /// What compiling a policy came to.
    pub(crate) fn learn(&mut self, policy: Policy, judged: Judged) {
        let outcome = Outcome::Judged(Arc::new(judged));
        let known = self.known.entry(policy.name.clone()).or_default();
        known.push(Known { policy, outcome, round: self.round });
    }

    /// What is to be compiled.
    pub(crate) fn wanted(&self) -> &BTreeMap<Namespace, Vec<Policy>> {
        &self.wanted
    }
}

/// Of what is accepted.
fn automaton_bytes(judged: &Judged) -> usize {
    match judged {
        Judged::Accepted { policy, .. } => policy.automata.bytes(),
        Judged::Refused { .. } => 0,
    }
}

fn needed(judged: &Judged) -> usize {
    match judged {
        Judged::Accepted { policy, .. } => policy.automata.bytes(),
        Judged::Refused { .. } => SMALL_BYTES,
    }
}

/// Policies that wait, in turns by namespace.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<Namespace, Vec<Policy>>,
    /// Whose turn was the last.
    last: Option<Namespace>,
    running: Option<Policy>,
    stopped: bool,
}

impl Queue {
    /// From now on these wait, and no others.
    pub(crate) fn want(&mut self, wanted: &BTreeMap<Namespace, Vec<Policy>>) {
        self.waiting = wanted.clone();
        for policies in self.waiting.values_mut() {
            policies.retain(|policy| self.running.as_ref() != Some(policy));
        }
    }

    /// The next one: of the namespace behind the one whose turn was the last.
    pub(crate) fn take(&mut self) -> Option<Policy> {
        self.waiting.retain(|_, policies| !policies.is_empty());
        let behind = self.last.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.waiting.range((behind, Bound::Unbounded)).next();
        let namespace =
            next.or_else(|| self.waiting.iter().next()).map(|(namespace, _)| namespace.clone())?;
        let policy = self.waiting.get_mut(&namespace).filter(|policies| !policies.is_empty())?.remove(0);
        self.last = Some(namespace);
        self.running = Some(policy.clone());
        Some(policy)
    }
}

/// The thread that compiles; it ends with its owner, behind the policy that it is at.
#[derive(Debug)]
pub(crate) struct Compiler(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// Lowers the priority of the calling thread: what tenants write, however often, is read and compiled in the time that
/// connections leave, but never in none.
pub(crate) fn give_way() {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::warn!(%error, "can't lower the priority of policy compilation");
    }
}

/// A tenth of the weight of a thread of the default priority.
const NICE: i32 = 10;

impl Compiler {
    /// `tell` is called with each policy as it was wanted, and what compiling it came to.
    pub(crate) fn start(tell: impl Fn(Policy, Judged) + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let compile = move || {
            give_way();
            own.run(&tell);
        };
        let _detached = std::thread::Builder::new().name("policy-compile".to_owned()).spawn(compile)?;
        Ok(Self(shared))
    }

    pub(crate) fn want(&self, wanted: &BTreeMap<Namespace, Vec<Policy>>) {
        self.0.lock().want(wanted);
        self.0.changed.notify_one();
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn run(&self, tell: &dyn Fn(Policy, Judged)) {
        let mut patterns = Patterns::default();
        while let Some(policy) = self.next() {
            let mut judged = Judged::Accepted { policy: policy.clone(), diagnostics: Vec::new() };
            judged.compile(&mut patterns);
            patterns.forget_unused();
            tell(policy, judged);
            self.lock().running = None;
        }
    }

    /// Waits for it. `None`: that is all.
    fn next(&self) -> Option<Policy> {
        let mut queue = self.lock();
        while !queue.stopped {
            if let Some(policy) = queue.take() {
                return Some(policy);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_model::rule::ObjectKind;

    fn policy(namespace: &str, name: &str) -> Policy {
        let namespace = (!namespace.is_empty()).then(|| namespace.into());
        let kind = ObjectKind::CiliumNetworkPolicy;
        Policy::new(ObjectName { kind, namespace, name: name.into() }, Vec::new())
    }

    fn wanted(all: &[(&str, &str)]) -> BTreeMap<Namespace, Vec<Policy>> {
        let mut wanted = BTreeMap::new();
        for (namespace, name) in all {
            let policy = policy(namespace, name);
            let of: &mut Vec<Policy> = wanted.entry(policy.name.namespace.clone()).or_default();
            of.push(policy);
        }
        wanted
    }

    fn take(queue: &mut Queue) -> Option<String> {
        queue.take().map(|policy| policy.name.name.into())
    }

    /// However much one namespace has waiting, the others' turns come.
    #[test]
    fn namespaces_take_turns() {
        let mut queue = Queue::default();
        let mut all: Vec<(&str, &str)> = vec![("a", "many"); 1000];
        all.extend([("b", "b1"), ("b", "b2"), ("c", "c1"), ("", "clusterwide")]);
        queue.want(&wanted(&all));
        let taken: Vec<String> = (0..7).filter_map(|_| take(&mut queue)).collect();
        assert_eq!(taken, ["clusterwide", "many", "b1", "c1", "many", "b2", "many"]);
        // Who comes while the first one still has some is next.
        queue.want(&wanted(&[("a", "many"), ("d", "d1"), ("a", "more")]));
        assert_eq!(take(&mut queue).as_deref(), Some("d1"));
    }

    #[test]
    fn what_is_no_longer_wanted_is_not_compiled() {
        let mut queue = Queue::default();
        queue.want(&wanted(&[("a", "old"), ("a", "stays")]));
        queue.want(&wanted(&[("a", "stays"), ("a", "new")]));
        assert_eq!(take(&mut queue).as_deref(), Some("stays"));
        // It is being compiled: it does not wait again.
        queue.want(&wanted(&[("a", "stays")]));
        assert_eq!(take(&mut queue), None);
    }
}
