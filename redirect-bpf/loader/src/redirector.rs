//! The kernel half of Sluice as one process owns it: from the start, through every change, to the next process.

use crate::attach::{Hook, Programs, check_namespace, is_linked, linked_ifindex};
use crate::attached::{Before, FirstAttached};
use crate::error::Error;
use crate::events::{DropReason, Events, KernelEvent};
use crate::flows::{CutFlow, Fate, Flows};
use crate::guard::Guard;
use crate::interfaces::Interfaces;
use crate::maps::Maps;
use crate::neighbours::{Hooked, Neighbours};
use crate::pins::{Lock, Pins};
use crate::plan::Plan;
use crate::policy_map::{PolicyMap, stricter};
use crate::quotas::{Opener, Usage};
use crate::repairs::{Fault, Look, Severity};
use crate::tables::{Entries, Policies, policies_of, step, strict_policies, unused};
use crate::{Settings, btf, checks, namespace, routes, sysctls, uninstall};
use policy_model::Flow;
use redirect_abi::counter;
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The kernel half of Sluice, owned by one process.
#[derive(Debug)]
pub struct Redirector {
    pins: Pins,
    programs: Programs,
    maps: Maps,
    flows: Flows,
    guard: Guard,
    neighbours: Neighbours,
    events: Option<Events>,
    interfaces: Interfaces,
    /// Interfaces with programs, and their numbers when these were attached.
    attached: BTreeMap<Box<str>, u32>,
    first_attached: FirstAttached,
    /// Planned interfaces that are not there.
    missing: BTreeSet<Box<str>>,
    /// Interfaces that did not take their programs, or did not give them back, and why.
    refusing: BTreeMap<Box<str>, String>,
    /// What was planned last, for interfaces that come and go in between. `None` before the first change: what an earlier
    /// process attached stays as it is until then.
    plan: Option<Arc<Plan>>,
    /// What the kernel is being changed to: its interfaces are seen to as well.
    next: Option<Arc<Plan>>,
    /// Pins of other versions: their programs go on until this one's first change is in force.
    obsolete: Vec<PathBuf>,
    settings: Settings,
    /// What another program had removed, and was put back since the last look.
    put_back: Vec<String>,
    /// How many times that has happened.
    repairs: u64,
    /// Two processes with one set of maps would each undo what the other one does. The last to be dropped,
    lock: Lock,
    /// ... with this one: two of one network namespace would as well, whatever maps they have.
    _namespace_lock: namespace::Lock,
}

/// The name of the counter of events that found no room in the ring buffer.
pub const EVENTS_LOST: &str = "events_lost";

/// The name of the counter of things that another program had removed, and that were put back.
pub const REPAIRS: &str = "repairs";

/// A change that has been made safe (`apply_before`) and waits to be completed (`apply_after`).
#[must_use]
#[derive(Debug)]
pub struct Pending {
    plan: Arc<Plan>,
}

impl Redirector {
    /// Loads the programs, adopts or creates pins, sets routes, rules and sysctls, checks them. Maps keep what an earlier
    /// process left in force until the first change. Blocking; needs root.
    pub fn start(settings: Settings) -> Result<Self, Error> {
        Self::start_with(settings, Hook::of_this_kernel())
    }

    /// As [`Redirector::start`], with programs attached by `hook`.
    pub fn start_with(settings: Settings, hook: Hook) -> Result<Self, Error> {
        Self::start_on(settings, hook, Path::new(btf::KERNEL))
    }

    /// As [`Redirector::start_with`], on a kernel that describes its types in the file `types`.
    pub fn start_on(settings: Settings, hook: Hook, types: &Path) -> Result<Self, Error> {
        checks::required(&settings.object)?;
        let pins = Pins::prepare(&settings.bpffs, || uninstall::remember_mount(&settings))?;
        check_namespace(&pins)?;
        let lock = pins.lock()?;
        let namespace_lock = namespace::lock()?;
        if let Some(other) = namespace::roots_here(pins.root())?.into_iter().next() {
            return Err(Error::OtherPins(other));
        }
        pins.check()?;
        let mut programs = Programs::load(&settings.object, &pins, hook, types, settings.flows)?;
        let mut maps = Maps::open(&pins, settings.flows)?;
        maps.set_event_rate(settings.events_per_second)?;
        let interfaces = Interfaces::open()?;
        sysctls::set(&settings.state_directory)?;
        routes::add()?;
        programs.ensure_listener_picker()?;
        let mut refusing = BTreeMap::new();
        let attached = adopt(&mut programs, &pins, &maps, &interfaces, &mut refusing)?;
        let mut guard = Guard::open(&pins)?;
        attached.values().try_for_each(|ifindex| guard.add(*ifindex))?;
        guard.install();
        checks::warnings(programs.unread()).iter().for_each(|warning| tracing::warn!("{warning}"));
        let obsolete = pins.other_schemas()?;
        let mut first_attached = FirstAttached::open(&pins)?;
        first_attached.retain(|ifindex| interfaces.name(ifindex).is_some())?;
        tracing::info!(hook = ?hook, adopted = attached.len(), "kernel programs attached");
        Ok(Self {
            lock,
            _namespace_lock: namespace_lock,
            flows: Flows::open(&pins, programs.collect()?)?,
            guard,
            neighbours: Neighbours::default(),
            events: Some(Events::open(&pins, maps.epochs.clone())?),
            pins,
            programs,
            maps,
            interfaces,
            attached,
            first_attached,
            missing: BTreeSet::new(),
            refusing,
            plan: None,
            next: None,
            obsolete,
            put_back: Vec::new(),
            repairs: 0,
            settings,
        })
    }

    /// Makes these the sockets that redirected connections reach, one of each family. Where a listener is one of a
    /// SO_REUSEPORT group the kernel spreads connections over the whole group. Replaces those of an earlier process.
    pub fn set_listeners(&mut self, v4: &TcpListener, v6: &TcpListener) -> Result<(), Error> {
        self.maps.set_listeners(v4, v6)
    }

    /// Kernel state becomes the stricter of old and new everywhere (deny > redirect > allow); new identities are known to
    /// policy maps before the ipcache hands them out. After this the snapshot may be published.
    ///
    /// After an error the kernel is as strict as before the call or stricter, and the same change may be tried again.
    pub fn apply_before(&mut self, plan: Plan) -> Result<Pending, Error> {
        let plan = Arc::new(plan);
        let in_use = self.maps.identities_in_use();
        let fresh = unused(&in_use);
        let strict = strict_policies(&self.maps.installed, &self.policies(&plan), &fresh);
        let strict = self.closed_where_too_big(strict);
        self.maps.set_policies(step(&self.maps.installed, &strict, &fresh))?;
        self.next = Some(Arc::clone(&plan));
        let wanted = self.entries(&plan);
        self.maps.set_entries(&wanted.over(&self.maps.entries))?;
        // What is denied from now on stops now, in both directions: flows are judged again by the programs, packet by packet,
        // and nobody has to be cut for it.
        self.maps.bump_epoch(plan.revision)?;
        self.attach_missing(&interfaces_of([&*plan]));
        self.see_to_refusals()?;
        self.tell_guard()?;
        Ok(Pending { plan })
    }

    /// Judges direct flows that conntrack knows, in turns by who opened them, cuts those that must not go on (RST to both ends of
    /// TCP), returns them. Of very many only the first: the programs refuse all of them already, and [`Redirector::cut_flows`]
    /// goes on.
    pub fn judge_flows(&mut self, judge: &dyn Fn(&Flow) -> Fate) -> Result<Vec<CutFlow>, Error> {
        self.flows.judge(judge)
    }

    /// Judges more of them, by the same policy, cuts the next that must not go on, and returns them. `None`: all are judged.
    pub fn cut_flows(&mut self, judge: &dyn Fn(&Flow) -> Fate) -> Result<Option<Vec<CutFlow>>, Error> {
        self.flows.cut_more(judge)
    }

    /// Kernel state becomes the new plan; what is stale is removed; the epoch is bumped.
    pub fn apply_after(&mut self, pending: Pending) -> Result<(), Error> {
        let Pending { plan } = pending;
        let planned = interfaces_of([&*plan]);
        self.detach_others(&planned);
        // Addresses before policies: when nothing is taken for an identity any more, its entries can be removed in place. What
        // becomes unknown or world by this meets the stricter policy until the next line.
        self.maps.set_entries(&self.entries(&plan))?;
        // Those that have appeared since the change began.
        self.attach_missing(&planned);
        let in_use = self.maps.identities_in_use();
        let policies = self.policies(&plan);
        self.maps.set_policies(step(&self.maps.installed, &policies, &unused(&in_use)))?;
        self.maps.retain_policies(&policies)?;
        let revision = plan.revision;
        (self.plan, self.next) = (Some(plan), None);
        self.tell_guard()?;
        self.maps.bump_epoch(revision)?;
        self.flows.settle()?;
        core::mem::take(&mut self.obsolete).iter().for_each(|pins| remove_obsolete(pins));
        Ok(())
    }

    /// Waiting events, at most `max`. Never blocks. None once the reader was taken.
    pub fn events(&mut self, max: usize, out: &mut Vec<KernelEvent>) {
        if let Some(events) = &mut self.events {
            events.read(max, out);
        }
    }

    /// The reader of events, to be owned by whoever waits for them (its descriptor becomes readable).
    pub fn take_events(&mut self) -> Option<Events> {
        self.events.take()
    }

    /// Packets dropped by reason name, events lost, and other counters, for metrics.
    pub fn counters(&self) -> Result<Vec<(&'static str, u64)>, Error> {
        let drops = DropReason::ALL.iter().map(|(number, reason)| (reason.name(), u32::from(*number)));
        let others = [
            ("allowed_flows", counter::ALLOWED_FLOWS),
            (EVENTS_LOST, counter::EVENTS_LOST),
            ("flows_over_quota", counter::FLOWS_OVER_QUOTA),
            ("redirected", counter::REDIRECTED),
        ];
        let in_kernel = drops.chain(others).map(|(name, index)| Ok((name, self.maps.counter(index)?)));
        in_kernel.chain([Ok((REPAIRS, self.repairs))]).collect()
    }

    /// What each opener has, by the id of the endpoint that opens or is asked.
    pub fn usage(&self) -> Result<BTreeMap<(u32, Opener), Usage>, Error> {
        self.maps.quotas.usage()
    }

    /// Collects expired conntrack entries, and resends resets to revoked flows that still talk. Call every few seconds.
    pub fn sweep(&mut self) -> Result<(), Error> {
        self.flows.sweep(&mut self.maps.quotas)
    }

    /// Puts back what of ours another program has removed or changed, and sees to interfaces that came or went. Call whenever
    /// [`super::Links`] has heard something, and every few seconds: not everything is heard of. Where nothing has changed it
    /// asks, and does nothing.
    pub fn look(&mut self) -> Look {
        let mut look = Look::default();
        // Pins first: what comes behind is pinned beside them.
        look.add(self.repair_pins());
        look.add(self.repair_listener_picker());
        let interfaces = self.see_to_interfaces();
        look.add(interfaces.map(|()| core::mem::take(&mut self.put_back)));
        self.guard.repair(&mut look);
        look.add(self.repair_neighbours());
        routes::repair().into_iter().for_each(|family| look.add(family));
        self.look_at_sysctls(&mut look);
        self.repairs += u64::try_from(look.put_back.len()).unwrap_or_default();
        look
    }

    /// Without its pins everything runs on, but the next process would know nothing of it.
    fn repair_pins(&mut self) -> Result<Vec<String>, Error> {
        if self.pins.are_complete() {
            return Ok(Vec::new());
        }
        let settings = &self.settings;
        let pins = Pins::prepare(&settings.bpffs, || uninstall::remember_mount(settings))?;
        if !self.lock.holds(&pins) {
            self.lock = pins.lock()?;
        }
        Ok(self.programs.repin_maps()?.into_iter().map(|map| format!("the pin of the map {map}")).collect())
    }

    fn repair_listener_picker(&mut self) -> Result<Vec<String>, Error> {
        if self.programs.picks_listeners()? {
            return Ok(Vec::new());
        }
        self.programs.ensure_listener_picker()?;
        Ok(vec!["the program `pick_listener` of this network namespace".into()])
    }

    fn repair_neighbours(&mut self) -> Result<Vec<String>, Error> {
        let mut hooked = Vec::new();
        for ifindex in self.attached.values().copied() {
            if let Some(endpoint) = self.maps.entries.endpoints.get(&ifindex).copied() {
                hooked.push(Hooked { ifindex, endpoint, heard: self.maps.station(ifindex)? });
            }
        }
        self.neighbours.repair(&hooked)
    }

    fn look_at_sysctls(&self, look: &mut Look) {
        let changed = sysctls::changed();
        if self.settings.keep_sysctls {
            let names = changed.and_then(|changed| {
                sysctls::set(&self.settings.state_directory)?;
                Ok(changed.iter().map(|(name, _)| format!("the setting {}", sysctls::dotted(name))).collect())
            });
            return look.add(names);
        }
        match changed {
            Ok(changed) => look.faults.extend(changed.iter().map(|(name, value)| Fault {
                severity: Severity::Warning,
                message: format!(
                    "{} is {value}, changed by another program: packets that pass between endpoints can be dropped",
                    sysctls::dotted(name)
                ),
                fix: "set it to 0, or set `[redirect] keep_sysctls = true`".into(),
            })),
            Err(error) => look.add(Err(error)),
        }
    }

    /// Interfaces that were deleted lose their pins, those that were made (again) get programs.
    pub fn see_to_interfaces(&mut self) -> Result<(), Error> {
        let Some(plan) = self.plan.clone() else { return Ok(()) };
        let next = self.next.clone();
        let planned = interfaces_of([&*plan].into_iter().chain(next.as_deref()));
        let stale = self.attached.iter().any(|(name, ifindex)| !self.is_enforced(name, *ifindex))
            || !self.refusing.is_empty();
        let is_new = |name: &str| !self.attached.contains_key(name) && self.interfaces.index(name) != 0;
        if !stale && !planned.iter().any(|name| is_new(name)) {
            return self.tell_guard();
        }
        let current = self.entries(&plan);
        let wanted = next.map_or_else(|| current.clone(), |next| self.entries(&next).over(&current));
        // A new number is known before its interface has programs, an old one until its programs are gone.
        self.maps.set_entries(&wanted.clone().over(&self.maps.entries))?;
        self.attach_missing(&planned);
        self.see_to_refusals()?;
        self.detach_others(&planned);
        self.first_attached.retain(|ifindex| self.interfaces.name(ifindex).is_some())?;
        self.maps.set_entries(&wanted)?;
        self.tell_guard()
    }

    /// What interfaces there are, and which have programs. Nothing before the first change: what is planned is not known, and an
    /// interface that is must not be taken for somebody else's.
    fn tell_guard(&mut self) -> Result<(), Error> {
        if self.plan.is_none() && self.next.is_none() {
            return Ok(());
        }
        let planned = interfaces_of(self.plan.as_deref().into_iter().chain(self.next.as_deref()));
        self.guard.set_interfaces(&self.attached.values().copied().collect(), &planned)
    }

    /// Planned endpoints whose interface is not there: nothing is enforced for them. As of the last look.
    pub fn missing_interfaces(&self) -> impl Iterator<Item = &str> {
        self.missing.iter().map(|interface| &**interface)
    }

    /// Settings of the node that break traffic and are not ours to change, and what this kernel can't do; a sentence for each.
    pub fn warnings(&self) -> Vec<String> {
        checks::warnings(self.programs.unread())
    }

    /// Interfaces that refuse their programs, and why: packets of their endpoints are dropped. As of the last look.
    pub fn refusing_interfaces(&self) -> impl Iterator<Item = (&str, &str)> {
        self.refusing.iter().map(|(interface, cause)| (&**interface, &**cause))
    }

    /// Interfaces of endpoints whose policy has more entries than an endpoint may have, and how many: their packets are dropped.
    /// As of the last change.
    pub fn too_big_policies(&self) -> impl Iterator<Item = (&str, usize)> {
        let planned = self.plan.iter().flat_map(|plan| &plan.endpoints);
        let too_big = planned.filter(|(_, endpoint)| self.is_too_big(&endpoint.policy));
        too_big.map(|(interface, endpoint)| (&**interface, endpoint.policy.len()))
    }

    /// What programs are attached with.
    pub fn hook(&self) -> Hook {
        self.programs.hook()
    }

    fn entries(&self, plan: &Plan) -> Entries {
        Entries::of(plan, |interface| self.interfaces.index(interface))
    }

    /// Whether it is still the interface of this number, and programs that know it run there.
    fn is_enforced(&self, interface: &str, ifindex: u32) -> bool {
        self.interfaces.index(interface) == ifindex
            && self.maps.entries.endpoints.contains_key(&ifindex)
            && self.programs.is_attached(interface, ifindex)
    }

    /// Where one interface refuses its programs the others get theirs, and nobody's change fails for it.
    fn attach_missing(&mut self, planned: &BTreeSet<Box<str>>) {
        let mut missing = BTreeSet::new();
        for interface in planned {
            let ifindex = self.interfaces.index(interface);
            if ifindex == 0 {
                if !self.missing.contains(interface) {
                    tracing::warn!(%interface, "no such interface: its policy is enforced once the interface exists");
                }
                let _new = missing.insert(interface.clone());
                let _over = self.refusing.remove(interface);
            } else if self.attached.get(interface) != Some(&ifindex)
                || !self.programs.is_attached(interface, ifindex)
            {
                let known = self.attached.get(interface) == Some(&ifindex);
                match self.attach(interface, ifindex) {
                    Ok(()) => {
                        let refused = self.refusing.remove(interface).is_some();
                        if known && !refused {
                            self.put_back.push(format!("the programs on `{interface}`"));
                        }
                    }
                    Err(error) => self.refused(interface, ifindex, &error),
                }
            }
        }
        self.missing = missing;
    }

    /// What is known of the interface stays known, so that its packets are dropped elsewhere too.
    fn refused(&mut self, interface: &str, ifindex: u32, error: &Error) {
        if self.attached.get(interface) == Some(&ifindex)
            && let Err(error) = self.guard.remove(ifindex)
        {
            tracing::warn!(%interface, %error, "the guard still treats this interface as one with programs");
        }
        let _had_programs = self.attached.remove(interface);
        note_refusal(&mut self.refusing, interface, error);
    }

    /// The policies of a plan, without those that are withheld: what has none passes nothing (`no_policy_map`), at whichever
    /// interface it is met.
    fn policies(&self, plan: &Plan) -> Policies {
        let mut policies = policies_of(plan);
        for id in self.withheld(plan) {
            let _withheld = policies.remove(&id);
        }
        policies
    }

    /// Endpoints whose interface refuses its programs, or whose policy has more entries than an endpoint may have.
    fn withheld(&self, plan: &Plan) -> BTreeSet<u32> {
        let closed = plan.endpoints.iter().filter(|(name, endpoint)| {
            self.refusing.contains_key(*name) || self.is_too_big(&endpoint.policy)
        });
        closed.map(|(_, endpoint)| endpoint.id).collect()
    }

    fn is_too_big(&self, policy: &PolicyMap) -> bool {
        policy.len() > self.settings.policy_entries
    }

    /// The stricter of two policies can have the entries of both: where that is too many, nothing passes until the change is over.
    fn closed_where_too_big(&self, mut strict: Policies) -> Policies {
        for policy in strict.values_mut().filter(|policy| self.is_too_big(policy)) {
            *policy = Arc::default();
        }
        strict
    }

    /// Endpoints lose policies that are withheld, and get theirs once they are not.
    fn see_to_refusals(&mut self) -> Result<(), Error> {
        let plans: Vec<_> = self.plan.iter().chain(&self.next).map(Arc::clone).collect();
        let Some(newest) = plans.last() else { return Ok(()) };
        let (withheld, revision) = (self.withheld(newest), newest.revision);
        let mut given = Policies::new();
        for (id, policy) in plans.iter().flat_map(|plan| self.policies(plan)) {
            if !withheld.contains(&id) && !self.maps.installed.contains_key(&id) {
                // In the midst of a change the stricter of both.
                let _one = given
                    .entry(id)
                    .and_modify(|old| *old = Arc::new(stricter(old, &policy, &|_| false)))
                    .or_insert(policy);
            }
        }
        let given = self.closed_where_too_big(given);
        let changed = self.maps.withdraw_policies(&withheld)? || !given.is_empty();
        if !given.is_empty() {
            let in_use = self.maps.identities_in_use();
            self.maps.set_policies(step(&self.maps.installed, &given, &unused(&in_use)))?;
        }
        if changed { self.maps.bump_epoch(revision) } else { Ok(()) }
    }

    fn attach(&mut self, interface: &str, ifindex: u32) -> Result<(), Error> {
        self.first_attached.note(ifindex, self.before(interface)?)?;
        match self.programs.ensure(interface, ifindex) {
            Ok(()) => {
                self.guard.add(ifindex)?;
                tracing::info!(%interface, ifindex, "programs attached");
                let _previous = self.attached.insert(interface.into(), ifindex);
                Ok(())
            }
            // Deleted or made again meanwhile: no reason to fail the change of all others. The next sweep sees to it.
            Err(error) if self.interfaces.index(interface) != ifindex => {
                tracing::warn!(%interface, %error, "the interface disappeared while its programs were being attached");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn before(&self, interface: &str) -> Result<Before, Error> {
        // Filters of another version have no pins of their own: where it has left anything it may have had this interface.
        let had = self.pins.other_schema_has(interface)?
            || self.programs.hook() == Hook::Clsact && !self.obsolete.is_empty();
        Ok(if had { Before::OtherVersion } else { Before::New })
    }

    /// Detaches from interfaces that are not planned, and forgets those that are gone. One that only has another name now keeps
    /// its programs, which know of no endpoint there and drop everything: its pod is still behind it.
    ///
    /// One that does not give its programs back keeps them until it does.
    fn detach_others(&mut self, planned: &BTreeSet<Box<str>>) {
        let gone = |ifindex| self.interfaces.name(ifindex).is_none();
        let others =
            self.attached.iter().filter(|(name, ifindex)| !planned.contains(*name) || gone(**ifindex));
        let half = self.refusing.keys().filter(|name| !planned.contains(*name));
        let others: BTreeSet<Box<str>> = others.map(|(name, _)| name).chain(half).cloned().collect();
        for interface in others {
            match self.detach(&interface) {
                Ok(()) => {
                    let _ifindex = self.attached.remove(&interface);
                    let _over = self.refusing.remove(&interface);
                }
                Err(error) => note_refusal(&mut self.refusing, &interface, &error),
            }
        }
    }

    fn detach(&mut self, interface: &str) -> Result<(), Error> {
        if let Some(ifindex) = self.attached.get(interface) {
            self.guard.remove(*ifindex)?;
        }
        self.programs.detach(interface)
    }
}

fn note_refusal(refusing: &mut BTreeMap<Box<str>, String>, interface: &str, error: &Error) {
    let cause = error.to_string();
    if refusing.get(interface) != Some(&cause) {
        tracing::warn!(%interface, %error, "could not attach the programs: packets of this endpoint are dropped");
    }
    let _previous = refusing.insert(interface.into(), cause);
}

fn interfaces_of<'a>(plans: impl IntoIterator<Item = &'a Plan>) -> BTreeSet<Box<str>> {
    plans.into_iter().flat_map(|plan| plan.endpoints.keys().cloned()).collect()
}

/// What is in force does not hang on it: programs of another version that can't be removed only deny twice.
fn remove_obsolete(pins: &Path) {
    if let Err(error) = uninstall::remove_schema(pins) {
        tracing::warn!(pins = %pins.display(), %error, "could not remove the pins of another version");
    }
}

/// Interfaces that an earlier process attached programs to get those of this one, with no instant without any. Pins of
/// interfaces that are gone are removed.
fn adopt(
    programs: &mut Programs,
    pins: &Pins,
    maps: &Maps,
    interfaces: &Interfaces,
    refusing: &mut BTreeMap<Box<str>, String>,
) -> Result<BTreeMap<Box<str>, u32>, Error> {
    let known: BTreeSet<Box<str>> = match programs.hook() {
        Hook::Tcx => pins.linked_interfaces()?.into_iter().collect(),
        // Filters leave no pins; the interfaces are those of the endpoints.
        Hook::Clsact => {
            maps.entries.endpoints.keys().filter_map(|index| Some(interfaces.name(*index)?.into())).collect()
        }
    };
    let mut attached = BTreeMap::new();
    for interface in known {
        let ifindex = match interfaces.index(&interface) {
            // It has another name now, or is gone.
            0 => renamed(pins, &interface, interfaces),
            ifindex => ifindex,
        };
        let alive = programs.hook() == Hook::Clsact || is_linked(pins, &interface, ifindex);
        let is_ours = ifindex != 0 && alive;
        let seen_to = match is_ours {
            true => programs.ensure(&interface, ifindex),
            false => programs.detach(&interface),
        };
        match seen_to {
            Ok(()) if is_ours => {
                let _none = attached.insert(interface, ifindex);
            }
            Ok(()) => {}
            Err(error) => note_refusal(refusing, &interface, &error),
        }
    }
    Ok(attached)
}

/// The number of the interface that once had this name and still has its links; 0 if there is none.
fn renamed(pins: &Pins, interface: &str, interfaces: &Interfaces) -> u32 {
    linked_ifindex(pins, interface).filter(|ifindex| interfaces.name(*ifindex).is_some()).unwrap_or_default()
}
