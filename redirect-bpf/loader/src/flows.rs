//! The flows that the kernel tracks: judged again when policy changes, reset where they must not go on, collected when silent.
//!
//! ```text
//! tracked ──judged: keep──► tracked
//!    └─────judged: revoke, redirect──► due ──in turns──► REVOKED, resets sent ──still talks──► resets sent again
//! any ──silent for its lifetime──► removed
//! ```
//!
//! What must not go on is refused by the programs from the first half of the change on; being cut is to be told of it.
//!
//! INVARIANT: openers are served in turns: however many flows one of them has, the others' are cut first to last in as many
//! turns as they have themselves.

use crate::error::Error;
use crate::events::{ktime_ns, socket_address};
use crate::maps::open;
use crate::pins::Pins;
use crate::plan::ip;
use crate::pod::Raw;
use crate::reset::ResetSender;
use crate::sys::{Batch, Cursor, lookup_batch};
use aya::maps::{HashMap, MapData, MapError};
use core::net::SocketAddr;
use policy_model::Flow;
use policy_model::rule::Protocol;
use redirect_abi::{FlowKey, FlowState, flow_flags, kind};
use std::collections::{BTreeMap, HashMap as Answers, VecDeque};
use std::os::fd::AsFd;

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
/// Batches of one sweep: a full table is gone through in eight.
const SWEEP_BATCHES_MAX: usize = 4;
/// Revoked flows that are watched for going on; those beyond were reset once.
const RESETS_MAX: usize = 16_384;
/// Flows that are cut by one call: some 5 us each, most of it for the resets.
const CUTS_MAX: usize = 4096;
/// Answers that are remembered while flows are judged: most of a flood ask the same.
const ANSWERS_MAX: usize = 4096;
/// `BPF_EXIST`: what was removed meanwhile is not brought back.
const UPDATE_ONLY: u64 = 2;

const SECOND_NS: u64 = 1_000_000_000;
/// As long as an idle TCP connection may be silent. All as the programs have it: what is older means nothing to them.
const TCP_LIFETIME_NS: u64 = 6 * 3600 * SECOND_NS;
/// A TCP connection that both ends have closed, or one has reset.
const CLOSED_LIFETIME_NS: u64 = 10 * SECOND_NS;
const DATAGRAM_LIFETIME_NS: u64 = 60 * SECOND_NS;

const CLOSED_BY_BOTH: u32 = flow_flags::FIN_SOURCE | flow_flags::FIN_DESTINATION;

#[derive(Debug)]
pub(crate) struct Flows {
    conntrack: MapData,
    entries: HashMap<MapData, Raw<FlowKey>, Raw<FlowState>>,
    resets: ResetSender,
    /// Where the next sweep goes on.
    cursor: Cursor,
    /// Revoked TCP flows and the packets that they had when resets were last sent.
    reset_at: BTreeMap<FlowKey, u64>,
    /// Flows of the last judgement that were cut, and wait for [`Flows::settle`].
    cut: Vec<FlowKey>,
    /// Flows of the last judgement that are still to be cut, in their order.
    due: VecDeque<(FlowKey, Fate)>,
}

impl Flows {
    pub(crate) fn open(pins: &Pins) -> Result<Self, Error> {
        Ok(Self {
            conntrack: MapData::from_pin(pins.map("CONNTRACK")).map_err(Error::map("open", "CONNTRACK"))?,
            entries: open(pins, "CONNTRACK")?,
            resets: ResetSender::open()?,
            cursor: Cursor::default(),
            reset_at: BTreeMap::new(),
            cut: Vec::new(),
            due: VecDeque::new(),
        })
    }

    /// Judges every direct flow and cuts the first of those that must not go on.
    pub(crate) fn judge(&mut self, judge: &dyn Fn(&Flow) -> Fate) -> Result<Vec<CutFlow>, Error> {
        self.cut.clear();
        self.due.clear();
        let mut answers = Answers::new();
        let mut due = Vec::new();
        let mut next = Some(Cursor::default());
        while let Some(cursor) = next {
            let (flows, after) = self.batch(cursor)?;
            next = after;
            let now_ns = ktime_ns();
            for (key, _) in flows.iter().filter(|(key, state)| is_live(key, state, now_ns)) {
                let question = question(key);
                if answers.len() >= ANSWERS_MAX {
                    answers.clear();
                }
                let fate = *answers.entry(question).or_insert_with(|| judge(&question));
                if fate != Fate::Keep {
                    due.push((*key, fate));
                }
            }
        }
        self.due = in_turns(due, |(key, _)| key.source);
        self.cut_due()
    }

    /// Cuts the next of those that the last judgement refused. `None`: none of them is left.
    pub(crate) fn cut_more(&mut self) -> Result<Option<Vec<CutFlow>>, Error> {
        self.settle()?;
        if self.due.is_empty() { Ok(None) } else { self.cut_due().map(Some) }
    }

    fn cut_due(&mut self) -> Result<Vec<CutFlow>, Error> {
        let mut cut = Vec::new();
        for (key, fate) in self.due.drain(..self.due.len().min(CUTS_MAX)).collect::<Vec<_>>() {
            if self.revoke(&key)? {
                self.cut.push(key);
                cut.push(cut_flow(&key, fate));
            }
        }
        Ok(cut)
    }

    /// Resets those that the last judgement cut once more, if they have told since what they wait for.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        for key in core::mem::take(&mut self.cut) {
            match self.entries.get(&Raw(key), 0) {
                Ok(Raw(state)) => self.reset_again(&key, &state),
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(Error::map("read", "CONNTRACK")(error)),
            }
        }
        Ok(())
    }

    /// Removes expired entries and resets again what goes on in spite of it. A bounded part of the table a call.
    pub(crate) fn sweep(&mut self) -> Result<(), Error> {
        for _ in 0..SWEEP_BATCHES_MAX {
            let (flows, after) = self.batch(self.cursor)?;
            self.cursor = after.unwrap_or_default();
            let now_ns = ktime_ns();
            for (key, state) in &flows {
                match is_expired(key, state, now_ns) {
                    true => self.collect(key)?,
                    false => self.reset_again(key, state),
                }
            }
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn batch(&self, cursor: Cursor) -> Result<Batch<FlowKey, FlowState>, Error> {
        let (flows, next) =
            lookup_batch::<Raw<FlowKey>, Raw<FlowState>>(self.conntrack.fd().as_fd(), cursor, BATCH_ENTRIES)
                .map_err(|cause| Error::Batch { map: "CONNTRACK", cause })?;
        Ok((flows.into_iter().map(|(Raw(key), Raw(state))| (key, state)).collect(), next))
    }

    /// `false`: it ended meanwhile.
    fn revoke(&mut self, key: &FlowKey) -> Result<bool, Error> {
        let failed = || Error::map("revoke a flow in", "CONNTRACK");
        // Read again: since the batch was read the ends may have gone on.
        let state = match self.entries.get(&Raw(*key), 0) {
            Ok(Raw(state)) => state,
            Err(MapError::KeyNotFound) => return Ok(false),
            Err(error) => return Err(failed()(error)),
        };
        let revoked = FlowState { flags: state.flags | flow_flags::REVOKED, ..state };
        match self.entries.insert(Raw(*key), Raw(revoked), UPDATE_ONLY) {
            Ok(()) => {}
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                return Ok(false);
            }
            Err(error) => return Err(failed()(error)),
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

    /// Removes what has expired. Looked at again: since the batch was read a new connection may have taken the entry.
    fn collect(&mut self, key: &FlowKey) -> Result<(), Error> {
        match self.entries.get(&Raw(*key), 0) {
            Ok(Raw(state)) if !is_expired(key, &state, ktime_ns()) => Ok(()),
            Ok(_) | Err(MapError::KeyNotFound) => self.remove(key),
            Err(error) => Err(Error::map("read", "CONNTRACK")(error)),
        }
    }

    fn remove(&mut self, key: &FlowKey) -> Result<(), Error> {
        let _reset = self.reset_at.remove(key);
        match self.entries.remove(&Raw(*key)) {
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            other => other.map_err(Error::map("remove a flow from", "CONNTRACK")),
        }
    }
}

/// One of each owner, then the next of each, and so on.
fn in_turns<T, O: Ord>(all: Vec<T>, owner: impl Fn(&T) -> O) -> VecDeque<T> {
    let mut turns: BTreeMap<O, usize> = BTreeMap::new();
    let mut placed: Vec<(usize, T)> = Vec::new();
    for one in all {
        let turn = turns.entry(owner(&one)).or_default();
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
    let reset = state.flags & flow_flags::RST != 0;
    key.protocol == Protocol::TCP.0 && (reset || state.flags & CLOSED_BY_BOTH == CLOSED_BY_BOTH)
}

fn is_expired(key: &FlowKey, state: &FlowState, now_ns: u64) -> bool {
    let lifetime_ns = match (is_closed(key, state), key.protocol == Protocol::TCP.0) {
        (true, _) => CLOSED_LIFETIME_NS,
        (false, true) => TCP_LIFETIME_NS,
        (false, false) => DATAGRAM_LIFETIME_NS,
    };
    now_ns.saturating_sub(state.last_seen_ns) > lifetime_ns
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
        acked_by_source: [0; 4],
        acked_by_destination: [0; 4],
        packets: 1,
    };

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
        let mut all = vec![('a', 0); 120_000];
        all.extend([('b', 1), ('c', 1), ('b', 2)]);
        let turns: Vec<_> = in_turns(all, |(owner, _)| *owner).into_iter().take(6).collect();
        assert_eq!(turns, [('a', 0), ('b', 1), ('c', 1), ('a', 0), ('b', 2), ('a', 0)]);
    }

    #[test]
    fn the_question_is_about_the_destination_port() {
        let key = FlowKey { destination: core::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(), ..KEY };
        let flow = question(&key);
        assert_eq!((flow.port, flow.protocol), (80, Protocol::TCP));
        assert_eq!(flow.destination, core::net::IpAddr::from([127, 0, 0, 1]));
    }
}
