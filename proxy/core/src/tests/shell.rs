//! A shell without sockets: it keeps what a session does not take, carries out its steps, and writes down what the
//! peers got. It does what `sluiced`'s pump does, in the plainest way, and checks the rules of the seam as it goes.

use crate::limits::{Http, Limits, Queries};
use crate::record::{ClientAddr, FlowRecord, Now, OrigDst};
use crate::session::{Cx, Dialled, End, Ending, Scratch, Session};
use crate::step::{Side, Step};
use policy_model::Snapshot;
use std::collections::VecDeque;
use std::sync::Arc;

pub(crate) const LIMITS: Limits = Limits {
    http: Http {
        head_bytes_max: 64 * 1024,
        fields_max: 200,
        path_bytes_max: 8192,
        chunk_line_bytes_max: 4096,
        trailer_bytes_max: 16 * 1024,
    },
    head_ns_max: 10_000,
    pipelined_max: 64,
    swallow_bytes_max: 1 << 20,
    swallow_ns_max: 10_000,
    dial_ns_max: 10_000,
    queries: Queries::Hidden,
};

/// What one peer does.
#[derive(Clone, Debug)]
enum Event {
    Bytes(Vec<u8>),
    End(End),
}

#[derive(Debug, Default)]
struct Peer {
    /// Not read yet.
    sent: VecDeque<Event>,
    kept: Vec<u8>,
    /// Kept bytes that the session has not been shown since it last did not want them.
    fresh: bool,
    splice: u64,
    swallow: u64,
    got: Vec<u8>,
    finished: bool,
}

/// One connection with both its peers.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) session: Session,
    pub(crate) limits: Limits,
    pub(crate) now_ns: u64,
    pub(crate) records: Vec<FlowRecord>,
    /// How many `Forward` steps there were.
    pub(crate) forwards: usize,
    /// What the next dial will come to; `None`: no answer until told.
    pub(crate) dial: Option<Dialled>,
    pub(crate) dials: usize,
    snapshot: Arc<Snapshot>,
    scratch: Scratch,
    client: Peer,
    server: Peer,
    wake_ns: u64,
    reset: bool,
    dialling: bool,
    connected: bool,
}

/// How a session is opened.
pub(crate) type Open = fn(ClientAddr, OrigDst, &mut Cx<'_>) -> Session;

impl Shell {
    pub(crate) fn new(
        open: Open,
        client: &str,
        destination: &str,
        snapshot: Arc<Snapshot>,
        limits: Limits,
        dial: Option<Dialled>,
    ) -> Self {
        let now_ns = 1_000_000;
        let mut scratch = Scratch::default();
        let mut steps = Vec::new();
        let mut cx = Cx {
            now: Now { mono_ns: now_ns, unix_ns: now_ns },
            snapshot: &snapshot,
            limits: &limits,
            steps: &mut steps,
            scratch: &mut scratch,
        };
        let session =
            open(ClientAddr(client.parse().unwrap()), OrigDst(destination.parse().unwrap()), &mut cx);
        let mut this = Self {
            session,
            limits,
            now_ns,
            records: Vec::new(),
            forwards: 0,
            dial,
            dials: 0,
            snapshot,
            scratch,
            client: Peer::default(),
            server: Peer::default(),
            wake_ns: u64::MAX,
            reset: false,
            dialling: false,
            connected: false,
        };
        this.carry_out(steps, &[]);
        this.run();
        this
    }

    pub(crate) fn sends(&mut self, side: Side, bytes: &[u8]) {
        self.peer(side).sent.push_back(Event::Bytes(bytes.to_vec()));
        self.run();
    }

    pub(crate) fn ends(&mut self, side: Side, end: End) {
        self.peer(side).sent.push_back(Event::End(end));
        self.run();
    }

    /// A dial that was given up is closed by the reset or the end of the connection; its answer comes to nothing.
    pub(crate) fn dialled(&mut self, result: Dialled) {
        assert!(std::mem::take(&mut self.dialling), "nobody dials");
        self.connected = result == Dialled::Connected;
        self.tell(|session, cx| session.on_dialled(result, cx));
        self.run();
    }

    pub(crate) fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = snapshot;
        self.tell(|session, cx| session.on_snapshot(cx));
        self.run();
    }

    /// The new snapshot is there, but the session is not told yet.
    pub(crate) fn store(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = snapshot;
    }

    pub(crate) fn sleeps(&mut self, ns: u64) {
        self.now_ns += ns;
        if self.wake_ns <= self.now_ns {
            self.wake_ns = u64::MAX;
            self.tell(|session, cx| session.on_timer(cx));
        }
        self.run();
    }

    pub(crate) fn stop(&mut self) {
        self.end(Ending::Draining);
    }

    pub(crate) fn end(&mut self, why: Ending) {
        self.tell(|session, cx| session.end(why, cx));
    }

    /// What a peer got, and how its connection ended.
    pub(crate) fn got(&self, side: Side) -> String {
        let peer = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        let mut text = String::from_utf8_lossy(&peer.got).into_owned();
        if peer.finished {
            text.push_str("<fin>");
        }
        if self.reset && (side == Side::Client || self.connected) {
            text.push_str("<rst>");
        }
        text
    }

    pub(crate) fn got_bytes(&self, side: Side) -> &[u8] {
        match side {
            Side::Client => &self.client.got,
            Side::Server => &self.server.got,
        }
    }

    pub(crate) fn is_dialling(&self) -> bool {
        self.dialling
    }

    pub(crate) fn timer_is_set(&self) -> bool {
        self.wake_ns != u64::MAX
    }

    fn peer(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn run(&mut self) {
        while !self.reset && (self.turn(Side::Client) || self.turn(Side::Server) || self.answer_dial()) {}
    }

    fn answer_dial(&mut self) -> bool {
        match (self.dialling, self.dial) {
            (true, Some(result)) => {
                self.dialled(result);
                true
            }
            (true, None) | (false, _) => false,
        }
    }

    /// One thing that a side has for the session. Answers whether there was any.
    fn turn(&mut self, side: Side) -> bool {
        if side == Side::Server && !self.connected {
            return false;
        }
        let unseen = self.peer(side).splice + self.peer(side).swallow > 0;
        let wants = self.session.wants(side);
        let peer = self.peer(side);
        if let Some(Event::End(End::Reset)) = peer.sent.front() {
            let _ = peer.sent.pop_front();
            self.tell(|session, cx| session.on_end(side, End::Reset, cx));
            return true;
        }
        if wants && peer.fresh && !peer.kept.is_empty() {
            self.show(side);
            return true;
        }
        if !wants && !unseen {
            return false;
        }
        match peer.sent.pop_front() {
            None => false,
            Some(Event::Bytes(bytes)) => {
                self.read(side, &bytes);
                true
            }
            Some(Event::End(end)) => {
                self.tell(|session, cx| session.on_end(side, end, cx));
                true
            }
        }
    }

    fn read(&mut self, side: Side, bytes: &[u8]) {
        let peer = self.peer(side);
        let (spliced, rest) = take(&mut peer.splice, bytes);
        let (_swallowed, rest) = take(&mut peer.swallow, rest);
        peer.kept.extend_from_slice(rest);
        if !spliced.is_empty() {
            self.peer(side.other()).got.extend_from_slice(spliced);
            self.session.moved(side, u64::try_from(spliced.len()).unwrap());
        }
        if !rest.is_empty() {
            self.show(side);
        }
    }

    fn show(&mut self, side: Side) {
        let mut kept = std::mem::take(&mut self.peer(side).kept);
        self.peer(side).fresh = false;
        let mut consumed = 0;
        let steps = self.call(|session, cx| consumed = session.on_bytes(side, &kept, cx));
        assert!(consumed <= kept.len(), "consumed more than there was");
        self.carry_out(steps, &kept);
        drop(kept.drain(..consumed));
        let wants = self.session.wants(side);
        let peer = self.peer(side);
        peer.kept = kept;
        peer.fresh = !wants;
    }

    fn tell(&mut self, what: impl FnOnce(&mut Session, &mut Cx<'_>)) {
        let steps = self.call(what);
        self.carry_out(steps, &[]);
        for side in [Side::Client, Side::Server] {
            let wants = self.session.wants(side);
            self.peer(side).fresh |= !wants;
        }
    }

    fn call(&mut self, what: impl FnOnce(&mut Session, &mut Cx<'_>)) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut cx = Cx {
            now: Now { mono_ns: self.now_ns, unix_ns: self.now_ns },
            snapshot: &self.snapshot,
            limits: &self.limits,
            steps: &mut steps,
            scratch: &mut self.scratch,
        };
        what(&mut self.session, &mut cx);
        steps
    }

    fn carry_out(&mut self, steps: Vec<Step>, input: &[u8]) {
        let mut forwarded = 0;
        for step in steps {
            assert!(!self.reset || matches!(step, Step::Record(_)), "{step:?} after a reset");
            match step {
                Step::Dial => {
                    assert_eq!(self.dials, 0, "a second dial");
                    self.dials += 1;
                    self.dialling = true;
                }
                Step::Finish { to } => {
                    assert!(!self.peer(to).finished, "a second end for {to:?}");
                    assert!(to == Side::Client || self.connected, "an end without a connection");
                    self.peer(to).finished = true;
                }
                Step::Forward { to, range } => {
                    assert!(forwarded <= range.start && !range.is_empty(), "ranges must ascend");
                    forwarded = range.end;
                    self.forwards += 1;
                    self.deliver(to, &input[range]);
                }
                Step::Record(record) => {
                    self.records.push((*record).clone());
                    self.scratch.spare.push(record);
                }
                Step::Reset => self.reset = true,
                Step::Send { to, bytes } => self.deliver(to, bytes.as_bytes()),
                Step::Splice { from, bytes } => self.peer(from).splice += bytes,
                Step::Swallow { from, bytes } => self.peer(from).swallow += bytes,
                Step::WakeAt(at) => self.wake_ns = at,
            }
        }
    }

    fn deliver(&mut self, to: Side, bytes: &[u8]) {
        assert!(to == Side::Client || self.connected, "bytes without a connection");
        assert!(!self.peer(to).finished, "bytes after the end of {to:?}");
        self.peer(to).got.extend_from_slice(bytes);
    }
}

/// The first `count` bytes, counted off, and the rest.
fn take<'a>(count: &mut u64, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let (taken, rest) = bytes.split_at(bytes.len().min(usize::try_from(*count).unwrap_or(usize::MAX)));
    *count -= u64::try_from(taken.len()).unwrap();
    (taken, rest)
}
