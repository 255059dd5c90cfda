//! Whose is which address. What is said later is the stronger claim: the outside, pod networks, peers, the node, its endpoints.

use super::members::{Member, endpoint_name, key};
use super::population::{Population, worlds};
use super::{Moved, Report};
use crate::addresses::{AddressTable, Owner};
use crate::cidr::Prefix;
use crate::identity::{Identity, IdentityId, Party};
use crate::inputs::{Inputs, NodeInputs, PeerInputs};
use crate::parse::{Diagnostic, Severity};
use crate::snapshot::Endpoint;
use core::net::IpAddr;
use imbl::OrdMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The addresses of the last inputs.
#[derive(Debug, Default)]
pub(super) struct Claims {
    table: Option<AddressTable>,
    node: NodeInputs,
    outside: BTreeMap<Prefix, Arc<Identity>>,
    /// Somebody claims an address that is another one's: who gets it next takes a look at everybody.
    contested: bool,
    diagnostics: Vec<Diagnostic>,
}

/// Of the last snapshot, and of the one that is made: as many as there are members.
#[derive(Clone, Copy)]
pub(super) struct Endpoints<'a> {
    pub(super) before: &'a [Arc<Endpoint>],
    pub(super) after: &'a [Arc<Endpoint>],
}

impl Claims {
    /// Peers that come and go cost what they are; any other change costs a table.
    pub(super) fn update(
        &mut self,
        inputs: &Inputs,
        endpoints: Endpoints<'_>,
        members: &[Member<'_>],
        moved: Moved<'_>,
        population: &Population,
        report: &mut Report,
    ) -> AddressTable {
        let endpoints_stay = endpoints.before.len() == members.len()
            && endpoints.before.iter().zip(members).all(|(old, new)| is_same(old, new));
        let rest_stays = endpoints_stay
            && self.node.addresses == inputs.node.addresses
            && self.node.pod_networks == inputs.node.pod_networks
            && self.outside == *population.outside();
        let updated = self.table.take().filter(|_| rest_stays && !self.contested);
        let updated = updated.and_then(|table| self.follow(table, moved, population));
        let table = updated.unwrap_or_else(|| self.anew(inputs, members, endpoints.after, population));
        self.node.clone_from(&inputs.node);
        self.outside.clone_from(population.outside());
        report.add(&self.diagnostics);
        self.table = Some(table.clone());
        table
    }

    /// `None`: an address is claimed twice.
    fn follow(
        &self,
        mut table: AddressTable,
        moved: Moved<'_>,
        population: &Population,
    ) -> Option<AddressTable> {
        for address in moved.gone.iter().flat_map(|peer| &peer.addresses) {
            // A prefix that policy names may be this one address.
            let outside = self.outside.get(&Prefix::host(*address));
            match outside.map(Owner::nameless) {
                Some(owner) => table.set(*address, owner),
                None => table.remove(*address),
            }
        }
        for (owner, address) in moved.come.iter().flat_map(|peer| {
            let owner = of_peer(peer, population);
            peer.addresses.iter().map(move |address| (owner.clone(), *address))
        }) {
            let prefix = Prefix::host(address);
            let is_outside = |owner: &Owner| {
                self.outside.get(&prefix).is_some_and(|identity| Arc::ptr_eq(identity, &owner.party.identity))
            };
            if table.get(&prefix).is_some_and(|owner| !is_outside(owner)) {
                return None;
            }
            table.set(address, owner);
        }
        Some(table)
    }

    fn anew(
        &mut self,
        inputs: &Inputs,
        members: &[Member<'_>],
        endpoints: &[Arc<Endpoint>],
        population: &Population,
    ) -> AddressTable {
        let unknown = Owner::nameless(&population.reserved(IdentityId::UNKNOWN));
        let nobody = || unknown.clone();
        let mut table: OrdMap<Prefix, Owner> = worlds().into_iter().map(|world| (world, nobody())).collect();
        for (prefix, identity) in population.outside() {
            let _old = table.insert(*prefix, Owner::nameless(identity));
        }
        for prefix in &inputs.node.pod_networks {
            let _old = table.insert(*prefix, nobody());
        }
        let mut contest = Contest::default();
        for (index, member) in members.iter().enumerate() {
            for address in &member.inputs.addresses {
                if contest.claims(*address, (Claimant::Endpoint, index), || endpoint_name(member.inputs)) {
                    let Some(endpoint) = endpoints.get(index) else { continue };
                    let owner = Owner { party: Arc::clone(&endpoint.party), endpoint: Some(index) };
                    let _old = table.insert(Prefix::host(*address), owner);
                }
            }
        }
        for address in &inputs.node.addresses {
            if contest.is_free(*address) {
                let _free = contest.claimed.insert(*address, (Claimant::Node, 0));
                let _old = table
                    .insert(Prefix::host(*address), Owner::nameless(&population.reserved(IdentityId::HOST)));
            }
        }
        for (index, peer) in inputs.peers.iter().enumerate() {
            let owner = of_peer(peer, population);
            for address in &peer.addresses {
                let name = || format!("peer {}/{}", peer.namespace, peer.name);
                if contest.claims(*address, (Claimant::Peer, index), name) {
                    let _old = table.insert(Prefix::host(*address), owner.clone());
                }
            }
        }
        self.contested = !contest.report.diagnostics.is_empty();
        self.diagnostics = contest.report.diagnostics;
        AddressTable::new(table, nobody())
    }
}

/// Who says that an address is theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claimant {
    Endpoint,
    Node,
    Peer,
}

/// Who claims an address first has it.
#[derive(Default)]
struct Contest {
    claimed: BTreeMap<IpAddr, (Claimant, usize)>,
    report: Report,
}

impl Contest {
    fn is_free(&self, address: IpAddr) -> bool {
        !self.claimed.contains_key(&address)
    }

    /// Whether it is theirs.
    fn claims(&mut self, address: IpAddr, who: (Claimant, usize), name: impl FnOnce() -> String) -> bool {
        let first = *self.claimed.entry(address).or_insert(who);
        if first == who {
            return true;
        }
        let message = match first.0 {
            Claimant::Node => format!("address `{address}` is the node's own"),
            Claimant::Endpoint | Claimant::Peer => {
                format!("address `{address}` belongs to another endpoint already, whose policy holds")
            }
        };
        self.report.say(Severity::Error, name(), message, "give every endpoint its own addresses");
        false
    }
}

fn of_peer(peer: &PeerInputs, population: &Population) -> Owner {
    let party = Party::named(population.identity_of(&peer.labels), &peer.namespace, &peer.name);
    Owner { party: Arc::new(party), endpoint: None }
}

fn is_same(old: &Endpoint, new: &Member<'_>) -> bool {
    key(&old.inputs) == key(new.inputs)
        && old.inputs.addresses == new.inputs.addresses
        && old.inputs.labels == new.inputs.labels
}
