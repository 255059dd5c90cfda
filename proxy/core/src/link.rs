//! Who is connected to whom, and what policy says of it.

use crate::cx::Cx;
use crate::reason::Reason;
use crate::record::{ClientAddr, Detail, FlowRecord, OrigDst, Outcome};
use core::net::{IpAddr, SocketAddr};
use policy_model::rule::Protocol;
use policy_model::snapshot::{Admission, Direction};
use policy_model::{Connection, Denial, Flow, Party, Snapshot};
use std::sync::Arc;

/// Without what a `SocketAddr` has beside: three words less for every connection.
type Address = (IpAddr, u16);

/// The facts of a connection that every inspector needs.
#[derive(Debug)]
pub(crate) struct Link {
    client: Address,
    destination: Address,
    opened_unix_ns: u64,
    direction: Direction,
    /// The answer of the last snapshot that was asked.
    policy: Connection,
}

impl Link {
    pub(crate) fn open(client: ClientAddr, destination: OrigDst, cx: &Cx<'_>) -> Self {
        let (client, destination) = (address(client.0), address(destination.0));
        Self {
            client,
            destination,
            opened_unix_ns: cx.now.unix_ns,
            direction: direction(destination, cx.snapshot),
            policy: cx.snapshot.connection(&flow(client, destination)),
        }
    }

    /// What policy says now. A snapshot is asked once; a request that meets no new revision costs a comparison.
    pub(crate) fn policy(&mut self, snapshot: &Snapshot) -> &Connection {
        if snapshot.revision() != self.policy.revision {
            let mut policy = snapshot.connection(&flow(self.client, self.destination));
            // What is revoked is named as it was while it was allowed: that its pod is gone may be why.
            if let Admission::Deny(..) = policy.admission() {
                core::mem::swap(&mut policy.source, &mut self.policy.source);
                core::mem::swap(&mut policy.destination, &mut self.policy.destination);
            }
            self.policy = policy;
            self.direction = direction(self.destination, snapshot);
        }
        &self.policy
    }

    pub(crate) fn admission(&mut self, snapshot: &Snapshot) -> Admission {
        self.policy(snapshot).admission()
    }

    /// A record of the connection, as if it had gone well.
    pub(crate) fn record(&self, cx: &mut Cx<'_>) -> Box<FlowRecord> {
        let mut record = self.record_of_a_request(cx);
        record.detail = Detail::Connection;
        record
    }

    /// The same, but `detail` may tell of another request, and is to be overwritten: its texts are too long to be cleared
    /// every time.
    pub(crate) fn record_of_a_request(&self, cx: &mut Cx<'_>) -> Box<FlowRecord> {
        match cx.scratch.spare.pop() {
            Some(mut record) => {
                self.renew(&mut record);
                record
            }
            None => Box::new(self.fresh()),
        }
    }

    fn fresh(&self) -> FlowRecord {
        let record = FlowRecord::new(ClientAddr(self.client.into()), OrigDst(self.destination.into()));
        FlowRecord {
            unix_ns: self.opened_unix_ns,
            source: Some(Arc::clone(&self.policy.source)),
            target: Some(Arc::clone(&self.policy.destination)),
            direction: self.direction,
            revision: self.policy.revision,
            ..record
        }
    }

    /// As [`Self::fresh`], in place and but for `detail`.
    fn renew(&self, record: &mut FlowRecord) {
        record.unix_ns = self.opened_unix_ns;
        record.client = ClientAddr(self.client.into());
        record.destination = OrigDst(self.destination.into());
        name(&mut record.source, &self.policy.source);
        name(&mut record.target, &self.policy.destination);
        record.direction = self.direction;
        record.outcome = Outcome::Forwarded;
        record.reason = None;
        record.rule = None;
        record.audit = None;
        record.revision = self.policy.revision;
        (record.bytes_up, record.bytes_down, record.latency_ns) = (0, 0, 0);
    }

    /// A record of the connection that ends for a reason of the peers or ours.
    pub(crate) fn ended(&self, reason: Reason, cx: &mut Cx<'_>) -> Box<FlowRecord> {
        let mut record = self.record(cx);
        record.outcome = Outcome::Ended;
        record.reason = Some(reason);
        record
    }

    /// A record of the connection that policy does not allow.
    pub(crate) fn denied(&self, direction: Direction, denial: Denial, cx: &mut Cx<'_>) -> Box<FlowRecord> {
        let mut record = self.record(cx);
        record.direction = direction;
        record.outcome = Outcome::Denied;
        record.reason = Some(denial.reason.into());
        record.rule = denial.rule;
        record
    }

    /// The same of one that was allowed before.
    pub(crate) fn revoked(&self, direction: Direction, denial: Denial, cx: &mut Cx<'_>) -> Box<FlowRecord> {
        let mut record = self.denied(direction, denial, cx);
        record.outcome = Outcome::Ended;
        record.reason = Some(Reason::Revoked);
        record
    }
}

/// Counts references only where the record named somebody else before, which is seldom.
fn name(place: &mut Option<Arc<Party>>, who: &Arc<Party>) {
    if !place.as_ref().is_some_and(|named| Arc::ptr_eq(named, who)) {
        *place = Some(Arc::clone(who));
    }
}

fn address(socket: SocketAddr) -> Address {
    (socket.ip(), socket.port())
}

fn flow((source, _): Address, (destination, port): Address) -> Flow {
    Flow { source, destination, port, protocol: Protocol::TCP }
}

/// As seen from the local endpoint; where both ends are local, from the destination.
fn direction((destination, _): Address, snapshot: &Snapshot) -> Direction {
    match snapshot.endpoint_at(destination) {
        Some(_) => Direction::Ingress,
        None => Direction::Egress,
    }
}
