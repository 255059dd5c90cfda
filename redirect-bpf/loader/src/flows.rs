//! The flows that the kernel tracks: judged again when policy changes, reset where they must not go on, collected when silent.
//!
//! ```text
//! tracked ──policy changed──► due ──in turns──► judged: keep ──► tracked
//!                                         └───► judged: revoke, redirect ──► REVOKED, resets sent ──still talks──► sent again
//! any ──silent for its lifetime──► removed
//! within its opener's quota ──others need what it borrows──► beyond it, where flows evict each other
//! ```
//!
//! What must not go on is refused by the programs from the first half of the change on; being cut is to be told of it.
//!
//! INVARIANT: openers are served in turns, as they are charged: however many flows one of them has, the others' are judged and cut
//! first to last in as many turns as they have themselves.

use crate::error::Error;
use crate::events::socket_address;
use crate::pins::{Pins, open};
use crate::plan::ip;
use crate::pod::Raw;
use crate::quotas::{Owed, Quotas};
use crate::reset::ResetSender;
use crate::sys::{Batch, Cursor, ktime_ns, lookup_batch, run_program};
use aya::maps::{HashMap, MapData, MapError};
use core::net::SocketAddr;
use policy_model::Flow;
use policy_model::rule::Protocol;
use redirect_abi::{FlowKey, FlowState, Payer, collect, flow_flags, kind, lifetime_ns, share};
use std::collections::{BTreeMap, HashMap as Answers, VecDeque};
use std::os::fd::{AsFd, OwnedFd};

/// A direct flow that was cut because policy no longer lets it pass uninspected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutFlow {
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub protocol: Protocol,
    /// `true`: now needs inspection (`redirect_required`); `false`: no longer allowed (`revoked`).
    pub redirect_required: bool,
}

impl CutFlow {
    /// What policy was asked about it.
    pub fn question(&self) -> Flow {
        Flow {
            source: self.client.ip(),
            destination: self.server.ip(),
            port: self.server.port(),
            protocol: self.protocol,
        }
    }
}

/// What a direct flow may do under the new snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Keep,
    RedirectRequired,
    Revoke,
}

/// Entries read by one system call.
const BATCH_ENTRIES: u32 = 4096;
/// Batches of one sweep: the tables of the default sizes, full, are gone through in ten.
const SWEEP_BATCHES_MAX: usize = 8;
/// Revoked flows that are watched for going on; those beyond were reset once.
const RESETS_MAX: usize = 16_384;
/// Flows that are cut by one call: some 5 us each, most of it for the resets. What waits for it is the next change.
const CUTS_MAX: usize = 1024;
/// Answers that are remembered while flows are judged: most of a flood ask the same.
const ANSWERS_MAX: usize = 4096;
/// `BPF_EXIST`: what was removed meanwhile is not brought back.
const UPDATE_ONLY: u64 = 2;

#[derive(Debug)]
pub(crate) struct Flows {
    tables: [Table; 3],
    /// The program that removes entries and keeps the accounts of it.
    collect: OwnedFd,
    /// The one of the tables that the next sweep goes on with.
    swept: usize,
    /// Entries of the table that this sweep has seen.
    seen: usize,
    /// What borrowers still have to give back.
    owed: Owed,
    resets: ResetSender,
    /// Where the next sweep goes on.
    cursor: Cursor,
    /// Revoked TCP flows and the packets that they had when resets were last sent.
    reset_at: BTreeMap<FlowKey, u64>,
    /// Flows of the last judgement that were cut, and wait for [`Flows::settle`].
    cut: Vec<FlowKey>,
    /// Flows that are still to be judged, in their order.
    due: VecDeque<FlowKey>,
}

/// One of the maps that flows are in.
#[derive(Debug)]
struct Table {
    name: &'static str,
    map: MapData,
    entries: HashMap<MapData, Raw<FlowKey>, Raw<FlowState>>,
}

/// Direct flows are in the first two.
const TABLES: [&str; 3] = [CONNTRACK, OVERFLOW, "PROXIED"];
const CONNTRACK: &str = "CONNTRACK";
const OVERFLOW: &str = "OVERFLOW";

impl Flows {
    /// `collect`: the program of this name.
    pub(crate) fn open(pins: &Pins, collect: OwnedFd) -> Result<Self, Error> {
        let [direct, overflow, proxied] = TABLES.map(|name| Table::open(pins, name));
        Ok(Self {
            tables: [direct?, overflow?, proxied?],
            collect,
            swept: 0,
            seen: 0,
            owed: Owed::new(),
            resets: ResetSender::open()?,
            cursor: Cursor::default(),
            reset_at: BTreeMap::new(),
            cut: Vec::new(),
            due: VecDeque::new(),
        })
    }

    /// Judges direct flows and cuts the first of those that must not go on.
    pub(crate) fn judge(&mut self, judge: &dyn Fn(&Flow) -> Fate) -> Result<Vec<CutFlow>, Error> {
        self.cut.clear();
        self.due.clear();
        let mut live = Vec::new();
        for table in self.direct() {
            let mut next = Some(Cursor::default());
            while let Some(cursor) = next {
                let (flows, after) = table.batch(cursor)?;
                next = after;
                let now_ns = ktime_ns();
                let of_batch = flows.iter().filter(|(key, state)| is_live(key, state, now_ns));
                live.extend(of_batch.map(|(key, state)| (payer_of(key, state), *key)));
            }
        }
        // Before any is judged: who has few flows does not wait until those of others are.
        self.due = in_turns(live);
        self.cut_due(judge)
    }

    /// Judges what the last judgement has left, and cuts the next of it. `None`: nothing is left.
    pub(crate) fn cut_more(&mut self, judge: &dyn Fn(&Flow) -> Fate) -> Result<Option<Vec<CutFlow>>, Error> {
        self.settle()?;
        if self.due.is_empty() { Ok(None) } else { self.cut_due(judge).map(Some) }
    }

    fn cut_due(&mut self, judge: &dyn Fn(&Flow) -> Fate) -> Result<Vec<CutFlow>, Error> {
        let mut answers = Answers::new();
        let mut cut = Vec::new();
        while cut.len() < CUTS_MAX
            && let Some(key) = self.due.pop_front()
        {
            let question = question(&key);
            if answers.len() >= ANSWERS_MAX {
                answers.clear();
            }
            let fate = *answers.entry(question).or_insert_with(|| judge(&question));
            if fate != Fate::Keep && self.revoke(&key)? {
                self.cut.push(key);
                cut.push(cut_flow(&key, fate));
            }
        }
        Ok(cut)
    }

    /// Resets those that the last judgement cut once more, if they have told since what they wait for.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        for key in core::mem::take(&mut self.cut) {
            if let Some((_, state)) = self.find(&key)? {
                self.reset_again(&key, &state);
            }
        }
        Ok(())
    }

    /// Removes expired entries, resets again what goes on in spite of it, and takes back what others need. A bounded part of
    /// the tables a call.
    pub(crate) fn sweep(&mut self, quotas: &mut Quotas) -> Result<(), Error> {
        for _ in 0..SWEEP_BATCHES_MAX {
            if self.swept == 0 && self.seen == 0 {
                quotas.forget_idle()?;
                self.owed = quotas.owed()?;
            }
            let Some(table) = self.tables.get(self.swept) else { break };
            let (flows, after) = table.batch(self.cursor)?;
            self.cursor = after.unwrap_or_default();
            self.seen = self.seen.saturating_add(flows.len());
            self.collect_expired(&flows)?;
            self.take_back(&flows)?;
            for (key, state) in &flows {
                self.reset_again(key, state);
            }
            if after.is_none() {
                self.end_of_table(quotas)?;
                if self.swept == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    fn end_of_table(&mut self, quotas: &mut Quotas) -> Result<(), Error> {
        let is_empty = core::mem::take(&mut self.seen) == 0;
        let name = self.tables.get(self.swept).map(|table| table.name);
        self.swept = self.swept.saturating_add(1) % self.tables.len();
        if name == Some(OVERFLOW) && is_empty {
            quotas.note_nothing_over()?;
        }
        Ok(())
    }

    fn collect_expired(&mut self, flows: &[(FlowKey, FlowState)]) -> Result<(), Error> {
        let now_ns = ktime_ns();
        let expired = flows.iter().filter(|(key, state)| is_expired(key, state, now_ns)).map(|(key, _)| *key);
        let expired: Vec<FlowKey> = expired.collect();
        for key in &expired {
            let _reset = self.reset_at.remove(key);
        }
        self.collect(collect::EXPIRED, &expired)
    }

    /// Of flows of borrowers who owe, those that have been silent for longest, datagrams first.
    fn take_back(&mut self, flows: &[(FlowKey, FlowState)]) -> Result<(), Error> {
        if self.owed.is_empty() {
            return Ok(());
        }
        let borrowed =
            |(key, state): &&(FlowKey, FlowState)| key.kind == kind::DIRECT && state.share == share::BORROWED;
        let mut borrowed: Vec<_> = flows.iter().filter(borrowed).collect();
        borrowed.sort_by_key(|(key, state)| (key.protocol == Protocol::TCP.0, state.last_seen_ns));
        let mut back = Vec::new();
        for (key, state) in borrowed {
            let payer = payer_of(key, state);
            if let Some(owed) = self.owed.get_mut(&payer).filter(|owed| **owed > 0) {
                *owed = owed.saturating_sub(1);
                back.push(*key);
            }
        }
        self.collect(collect::BORROWED, &back)
    }

    /// Has the program look at these. Entries may have changed since they were read: it decides.
    fn collect(&self, word: u8, keys: &[FlowKey]) -> Result<(), Error> {
        for keys in keys.chunks(collect::KEYS_MAX) {
            let mut asked = vec![word];
            asked.resize(collect::HEAD_BYTES, 0);
            keys.iter().for_each(|key| asked.extend(key_bytes(key)));
            run_program(self.collect.as_fd(), &asked).map_err(Error::Collect)?;
        }
        Ok(())
    }

    /// The direct flow, and the table that it is in.
    fn find(&mut self, key: &FlowKey) -> Result<Option<(&mut Table, FlowState)>, Error> {
        for table in self.tables.iter_mut().filter(|table| table.is_direct()) {
            match table.entries.get(&Raw(*key), 0) {
                Ok(Raw(state)) => return Ok(Some((table, state))),
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(Error::map("read", table.name)(error)),
            }
        }
        Ok(None)
    }

    fn direct(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(|table| table.is_direct())
    }

    /// `false`: it ended meanwhile.
    fn revoke(&mut self, key: &FlowKey) -> Result<bool, Error> {
        // Read again: since the batch was read the ends may have gone on.
        let Some((table, state)) = self.find(key)? else { return Ok(false) };
        let revoked = FlowState { flags: state.flags | flow_flags::REVOKED, ..state };
        match table.entries.insert(Raw(*key), Raw(revoked), UPDATE_ONLY) {
            Ok(()) => {}
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                return Ok(false);
            }
            Err(error) => return Err(Error::map("revoke a flow in", table.name)(error)),
        }
        tracing::debug!(flow = ?question(key), packets = state.packets, "cut");
        self.reset(key, &revoked);
        Ok(true)
    }

    fn reset_again(&mut self, key: &FlowKey, state: &FlowState) {
        let revoked = key.kind == kind::DIRECT && state.flags & flow_flags::REVOKED != 0;
        if revoked && self.reset_at.get(key).is_none_or(|packets| *packets != state.packets) {
            self.reset(key, state);
        }
    }

    /// Each end is told by what it takes for the other one. What can't be told is dropped by the programs anyhow.
    fn reset(&mut self, key: &FlowKey, state: &FlowState) {
        if key.protocol != Protocol::TCP.0 {
            return;
        }
        let source = socket_address(key.source, key.source_port);
        let destination = socket_address(key.destination, key.destination_port);
        for (from, to, sequence) in
            [(destination, source, state.acked_by_source), (source, destination, state.acked_by_destination)]
        {
            // An end that has acknowledged nothing has no connection yet.
            if sequence == [0; 4] {
                continue;
            }
            if let Err(error) = self.resets.send(from, to, sequence) {
                tracing::debug!(%from, %to, %error, "no reset sent");
            }
        }
        if self.reset_at.len() < RESETS_MAX || self.reset_at.contains_key(key) {
            let _previous = self.reset_at.insert(*key, state.packets);
        }
    }
}

impl Table {
    fn open(pins: &Pins, name: &'static str) -> Result<Self, Error> {
        let map = MapData::from_pin(pins.map(name)).map_err(Error::map("open", name))?;
        Ok(Self { name, map, entries: open(pins, name)? })
    }

    fn is_direct(&self) -> bool {
        [CONNTRACK, OVERFLOW].contains(&self.name)
    }

    fn batch(&self, cursor: Cursor) -> Result<Batch<FlowKey, FlowState>, Error> {
        let (flows, next) =
            lookup_batch::<Raw<FlowKey>, Raw<FlowState>>(self.map.fd().as_fd(), cursor, BATCH_ENTRIES)
                .map_err(|cause| Error::Batch { map: self.name, cause })?;
        Ok((flows.into_iter().map(|(Raw(key), Raw(state))| (key, state)).collect(), next))
    }
}

/// One of each owner, then the next of each, and so on.
fn in_turns<O: Ord, T>(all: Vec<(O, T)>) -> VecDeque<T> {
    let mut turns: BTreeMap<O, usize> = BTreeMap::new();
    let mut placed: Vec<(usize, T)> = Vec::with_capacity(all.len());
    for (owner, one) in all {
        let turn = turns.entry(owner).or_default();
        placed.push((*turn, one));
        *turn = turn.saturating_add(1);
    }
    placed.sort_by_key(|(turn, _)| *turn);
    placed.into_iter().map(|(_, one)| one).collect()
}

/// Whether the flow is one that policy is to be asked about again.
fn is_live(key: &FlowKey, state: &FlowState, now_ns: u64) -> bool {
    let settled = state.flags & flow_flags::REVOKED != 0 || is_closed(key, state);
    key.kind == kind::DIRECT && !settled && !is_expired(key, state, now_ns)
}

fn is_closed(key: &FlowKey, state: &FlowState) -> bool {
    redirect_abi::is_closed(key.protocol, state.flags)
}

fn is_expired(key: &FlowKey, state: &FlowState, now_ns: u64) -> bool {
    let silent_ns = now_ns.saturating_sub(state.last_seen_ns);
    silent_ns > lifetime_ns(key.protocol, state.flags, state.acked_by_source)
}

fn payer_of(key: &FlowKey, state: &FlowState) -> Payer {
    Payer::of(state.payer_endpoint, state.payer, &key.source)
}

fn key_bytes(key: &FlowKey) -> impl Iterator<Item = u8> {
    let ports = key.source_port.into_iter().chain(key.destination_port);
    let addresses = key.source.into_iter().chain(key.destination);
    addresses.chain(ports).chain([key.protocol, key.kind]).chain(key.pad)
}

fn question(key: &FlowKey) -> Flow {
    Flow {
        source: ip(key.source),
        destination: ip(key.destination),
        port: u16::from_be_bytes(key.destination_port),
        protocol: Protocol(key.protocol),
    }
}

fn cut_flow(key: &FlowKey, fate: Fate) -> CutFlow {
    CutFlow {
        client: socket_address(key.source, key.source_port),
        server: socket_address(key.destination, key.destination_port),
        protocol: Protocol(key.protocol),
        redirect_required: fate == Fate::RedirectRequired,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FlowKey = FlowKey {
        source: [1; 16],
        destination: [2; 16],
        source_port: [0x9c, 0x40],
        destination_port: [0, 80],
        protocol: 6,
        kind: kind::DIRECT,
        pad: [0; 2],
    };
    const STATE: FlowState = FlowState {
        last_seen_ns: 100 * SECOND_NS,
        epoch: 1,
        flags: 0,
        acked_by_source: [0, 0, 0, 1],
        acked_by_destination: [0; 4],
        packets: 1,
        payer_endpoint: 0,
        payer: 0,
        share: 0,
        pad: [0; 2],
    };
    const SECOND_NS: u64 = 1_000_000_000;
    const CLOSED_BY_BOTH: u32 = flow_flags::FIN_SOURCE | flow_flags::FIN_DESTINATION;

    #[track_caller]
    fn check_lifetime(protocol: u8, flags: u32, seconds: u64) {
        let (key, state) = (FlowKey { protocol, ..KEY }, FlowState { flags, ..STATE });
        let end_ns = STATE.last_seen_ns + seconds * SECOND_NS;
        assert!(!is_expired(&key, &state, end_ns));
        assert!(is_expired(&key, &state, end_ns + 1));
        // Seen after the clock was read.
        assert!(!is_expired(&key, &state, 0));
    }

    #[test]
    fn lifetimes() {
        check_lifetime(6, 0, 6 * 3600);
        check_lifetime(6, flow_flags::FIN_SOURCE, 6 * 3600);
        check_lifetime(6, CLOSED_BY_BOTH, 10);
        check_lifetime(6, flow_flags::RST, 10);
        check_lifetime(17, 0, 60);
        check_lifetime(17, flow_flags::RST, 60);
        check_lifetime(1, 0, 60);
    }

    #[test]
    fn who_is_judged_again() {
        let now_ns = STATE.last_seen_ns;
        assert!(is_live(&KEY, &STATE, now_ns));
        assert!(!is_live(&FlowKey { kind: kind::PROXY_DOWNSTREAM, ..KEY }, &STATE, now_ns));
        assert!(!is_live(&FlowKey { kind: kind::PROXY_UPSTREAM, ..KEY }, &STATE, now_ns));
        for settled in [flow_flags::REVOKED, flow_flags::RST, CLOSED_BY_BOTH] {
            assert!(!is_live(&KEY, &FlowState { flags: settled, ..STATE }, now_ns));
        }
        assert!(is_live(&KEY, &FlowState { flags: flow_flags::FIN_SOURCE, ..STATE }, now_ns));
    }

    /// 120,000 flows of one opener hold up nobody else's.
    #[test]
    fn every_opener_has_its_turn() {
        let mut all = vec![('a', "a"); 120_000];
        all.extend([('b', "b1"), ('c', "c1"), ('b', "b2")]);
        let turns: Vec<_> = in_turns(all).into_iter().take(6).collect();
        assert_eq!(turns, ["a", "b1", "c1", "a", "b2", "a"]);
    }

    #[test]
    fn the_question_is_about_the_destination_port() {
        let key = FlowKey { destination: core::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(), ..KEY };
        let flow = question(&key);
        assert_eq!((flow.port, flow.protocol), (80, Protocol::TCP));
        assert_eq!(flow.destination, core::net::IpAddr::from([127, 0, 0, 1]));
    }
}
