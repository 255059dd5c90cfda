//! What the kernel's tables hold, as values, and the steps from one state of the policy maps to another. Pure.

use crate::plan::{Ipcache, Plan, PlannedEndpoint, difference};
use crate::policy_map::{IDENTITY_BITS, PolicyMap, identity, stricter};
use redirect_abi::{Address, Endpoint};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bits of [`Endpoint::families`].
const HAS_IPV4: u32 = 1;
const HAS_IPV6: u32 = 2;
/// Identities below this stand for addresses that no table lists: they are in use whatever the ipcache says.
const RESERVED_MAX: u32 = 255;

/// Content of the tables that are changed entry by entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Entries {
    /// By ifindex.
    pub(crate) endpoints: BTreeMap<u32, Endpoint>,
    pub(crate) addresses: BTreeMap<Address, Endpoint>,
    pub(crate) ipcache: Ipcache,
}

/// The policy map of an endpoint, in the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    /// The kernel's number of the inner map. Endpoints with the same number share it.
    pub(crate) map: u32,
    pub(crate) content: Arc<PolicyMap>,
}

/// By endpoint id.
pub(crate) type InstalledPolicies = BTreeMap<u32, Installed>;
pub(crate) type Policies = BTreeMap<u32, Arc<PolicyMap>>;

/// How policy maps become what they should be.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Step {
    /// Maps that no packet can tell the difference of: entries of identities that belong to no address. By map number.
    pub(crate) in_place: BTreeMap<u32, Arc<PolicyMap>>,
    /// New content, and the endpoints that get it as a whole.
    pub(crate) swaps: Vec<(Arc<PolicyMap>, Vec<u32>)>,
}

impl Entries {
    /// What the plan asks for; `ifindex_of` is 0 for interfaces that are not there.
    pub(crate) fn of(plan: &Plan, ifindex_of: impl Fn(&str) -> u32) -> Self {
        let mut entries = Self { ipcache: plan.ipcache.clone(), ..Self::default() };
        for (interface, planned) in &plan.endpoints {
            entries.add(planned, ifindex_of(interface));
        }
        entries
    }

    fn add(&mut self, planned: &PlannedEndpoint, ifindex: u32) {
        let endpoint = endpoint(planned, ifindex);
        // Known by address even without an interface, so that its ingress policy is judged at whoever sends to it.
        self.addresses.extend(planned.v4.iter().chain(&planned.v6).map(|address| (*address, endpoint)));
        if ifindex != 0 {
            let _none = self.endpoints.insert(ifindex, endpoint);
        }
    }

    /// Identities that a packet can be taken for.
    pub(crate) fn identities(&self) -> BTreeSet<u32> {
        let of_endpoints =
            self.endpoints.values().chain(self.addresses.values()).map(|endpoint| endpoint.identity);
        self.ipcache.values().copied().chain(of_endpoints).collect()
    }

    /// Of endpoints.
    pub(crate) fn ids(&self) -> BTreeSet<u32> {
        self.endpoints.values().chain(self.addresses.values()).map(|endpoint| endpoint.id).collect()
    }

    /// These, and what only `other` has.
    pub(crate) fn over(self, other: &Self) -> Self {
        let mut both = other.clone();
        both.endpoints.extend(self.endpoints);
        both.addresses.extend(self.addresses);
        both.ipcache.extend(self.ipcache);
        both
    }
}

/// Whether nothing can be taken for this identity.
pub(crate) fn unused(in_use: &BTreeSet<u32>) -> impl Fn(u32) -> bool {
    move |identity| identity > RESERVED_MAX && !in_use.contains(&identity)
}

pub(crate) fn policies_of(plan: &Plan) -> Policies {
    plan.endpoints.values().map(|planned| (planned.id, Arc::clone(&planned.policy))).collect()
}

/// For every endpoint of `new` what is as strict as both what is installed and `new`. Endpoints that had the same map and get
/// the same one share what comes between, too.
pub(crate) fn strict_policies(
    installed: &InstalledPolicies,
    new: &Policies,
    fresh: &dyn Fn(u32) -> bool,
) -> Policies {
    let mut made: Vec<(&Arc<PolicyMap>, &Arc<PolicyMap>, Arc<PolicyMap>)> = Vec::new();
    let mut strict = Policies::new();
    for (id, wanted) in new {
        let map = match installed.get(id) {
            None => Arc::clone(wanted),
            Some(Installed { content, .. }) => {
                let known =
                    made.iter().find(|(old, new, _)| Arc::ptr_eq(old, content) && Arc::ptr_eq(new, wanted));
                let map =
                    known.map_or_else(|| strict_map(content, wanted, fresh), |(_, _, map)| Arc::clone(map));
                if known.is_none() {
                    made.push((content, wanted, Arc::clone(&map)));
                }
                map
            }
        };
        let _none = strict.insert(*id, map);
    }
    strict
}

/// Where it comes to one of the two, it is that one: then one of the two swaps falls away.
fn strict_map(old: &Arc<PolicyMap>, new: &Arc<PolicyMap>, fresh: &dyn Fn(u32) -> bool) -> Arc<PolicyMap> {
    if Arc::ptr_eq(old, new) || old == new {
        return Arc::clone(old);
    }
    let strict = stricter(old, new, fresh);
    match (strict == **new, strict == **old) {
        (true, _) => Arc::clone(new),
        (_, true) => Arc::clone(old),
        (false, false) => Arc::new(strict),
    }
}

/// What has to be done for `wanted` to be installed; endpoints that `wanted` does not name are left alone.
pub(crate) fn step(installed: &InstalledPolicies, wanted: &Policies, unused: &dyn Fn(u32) -> bool) -> Step {
    let mut sharers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (id, policy) in installed {
        sharers.entry(policy.map).or_default().push(*id);
    }
    let mut step = Step::default();
    for (map, ids) in &sharers {
        if let Some(content) = quiet_change(installed, wanted, ids, unused) {
            let _none = step.in_place.insert(*map, content);
        }
    }
    for (id, content) in wanted {
        let policy = installed.get(id);
        let in_place = policy.is_some_and(|policy| step.in_place.contains_key(&policy.map));
        let as_wanted = policy.is_some_and(|policy| same(&policy.content, content));
        if !in_place && !as_wanted {
            add_swap(&mut step.swaps, content, *id);
        }
    }
    step
}

/// The content that all sharers of a map should have, if it differs in nothing that a packet could meet.
fn quiet_change(
    installed: &InstalledPolicies,
    wanted: &Policies,
    sharers: &[u32],
    unused: &dyn Fn(u32) -> bool,
) -> Option<Arc<PolicyMap>> {
    let mut contents = sharers.iter().filter_map(|id| wanted.get(id));
    let new = contents.next()?;
    let old = &installed.get(sharers.first()?)?.content;
    if same(old, new) || !contents.all(|other| same(other, new)) {
        return None;
    }
    let change = difference(old, new);
    let mut keys = change.set.iter().map(|(key, _)| key).chain(&change.removed);
    keys.all(|(length, key)| *length >= IDENTITY_BITS && unused(identity(key))).then(|| Arc::clone(new))
}

fn add_swap(swaps: &mut Vec<(Arc<PolicyMap>, Vec<u32>)>, content: &Arc<PolicyMap>, id: u32) {
    match swaps.iter_mut().find(|(other, _)| same(other, content)) {
        Some((_, ids)) => ids.push(id),
        None => swaps.push((Arc::clone(content), vec![id])),
    }
}

pub(crate) fn same(a: &Arc<PolicyMap>, b: &Arc<PolicyMap>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

fn endpoint(planned: &PlannedEndpoint, ifindex: u32) -> Endpoint {
    let has = |present: bool, bit: u32| if present { bit } else { 0 };
    Endpoint {
        id: planned.id,
        identity: planned.identity,
        ifindex,
        families: has(planned.v4.is_some(), HAS_IPV4) | has(planned.v6.is_some(), HAS_IPV6),
        v4: planned.v4.unwrap_or_default(),
        v6: planned.v6.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
