//! Once a worker is warm, a request costs no allocation: forwarded, denied or pipelined, with its flow record.
#![cfg(test)]
#![expect(
    unsafe_code,
    reason = "counting allocations takes an allocator of our own; it only counts and delegates"
)]

use policy_model::identity::Numbers;
use policy_model::inputs::{EndpointInputs, Inputs};
use policy_model::labels::Label;
use policy_model::parse::{Judged, parse};
use policy_model::{Snapshot, resolve};
use proxy_core::limits::{Http, Limits};
use proxy_core::record::{ClientAddr, Now, OrigDst};
use proxy_core::session::{Cx, Dialled, Scratch};
use proxy_core::{Session, Side, Step};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: `place` came from `alloc` above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LIMITS: Limits = Limits {
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
    queries: proxy_core::Queries::Hidden,
};

/// Everybody may ask the server for paths that begin with `/ok`.
const POLICY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: rule1, namespace: default}
spec:
  endpointSelector: {}
  ingress: [{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{path: "/ok.*"}]}}]}]
"#;

const GET: &str = "GET /ok/1?q=2 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nUser-Agent: x\r\n\r\n";
const POST: &str = "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
const PUT: &str = "PUT /no HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A worker's memory with one connection, and the records that were made.
struct Worker {
    snapshot: Snapshot,
    steps: Vec<Step>,
    scratch: Scratch,
    records: usize,
}

impl Worker {
    fn call<T>(&mut self, call: impl FnOnce(&mut Cx<'_>) -> T) -> T {
        let mut cx = Cx {
            now: Now { mono_ns: 1, unix_ns: 1 },
            snapshot: &self.snapshot,
            limits: &LIMITS,
            steps: &mut self.steps,
            scratch: &mut self.scratch,
        };
        let answer = call(&mut cx);
        for step in self.steps.drain(..) {
            if let Step::Record(record) = step {
                self.records += 1;
                self.scratch.spare.push(record);
            }
        }
        answer
    }

    /// Both messages come in two reads each, cut so far from their end.
    fn exchange(&mut self, session: &mut Session, request: &str, response: &str, cut: usize) {
        for (side, message) in [(Side::Client, request), (Side::Server, response)] {
            let (start, end) = message.split_at(message.len().saturating_sub(cut));
            for part in [start, end].into_iter().filter(|part| !part.is_empty()) {
                let taken = self.call(|cx| session.on_bytes(side, part.as_bytes(), cx));
                assert_eq!(taken, part.len());
            }
        }
    }
}

fn worker() -> (Worker, Session) {
    let mut worker =
        Worker { snapshot: snapshot(), steps: Vec::new(), scratch: Scratch::default(), records: 0 };
    let client = ClientAddr("10.0.0.1:40000".parse().unwrap());
    let destination = OrigDst("10.0.0.2:80".parse().unwrap());
    let mut session = worker.call(|cx| Session::open(client, destination, cx));
    let first = worker.call(|cx| session.on_bytes(Side::Client, GET.as_bytes(), cx));
    assert_eq!(first, 0);
    worker.call(|cx| session.on_dialled(Dialled::Connected, cx));
    worker.exchange(&mut session, GET, OK, 0);
    (worker, session)
}

fn snapshot() -> Snapshot {
    let Judged::Accepted { policy, .. } = parse(POLICY).unwrap().objects.remove(0).judged else { panic!() };
    let endpoint = EndpointInputs {
        name: "server".into(),
        namespace: "default".into(),
        interface: None,
        addresses: vec!["10.0.0.2".parse().unwrap()],
        labels: [Label::new("k8s", "io.kubernetes.pod.namespace", "default")].into_iter().collect(),
        named_ports: BTreeMap::new(),
    };
    let inputs = Inputs { endpoints: vec![endpoint], policies: vec![Arc::new(policy)], ..Inputs::default() };
    resolve(&inputs, &mut Numbers::default(), 1).0
}

/// Exchanges of one kind, after some that warm the worker up.
#[track_caller]
fn check(request: &str, response: &str, cut: usize, records: usize) {
    let (mut worker, mut session) = worker();
    for _ in 0..10 {
        worker.exchange(&mut session, request, response, cut);
    }
    let (before, records_before) = (ALLOCATIONS.get(), worker.records);
    for _ in 0..1000 {
        worker.exchange(&mut session, request, response, cut);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!(worker.records - records_before, 1000 * records);
}

#[test]
fn forwarded_requests() {
    check(GET, OK, 0, 1);
}

#[test]
fn requests_with_a_body() {
    check(POST, OK, 0, 1);
    check(POST, OK, 1, 1);
}

#[test]
fn denied_requests() {
    check(PUT, "", 0, 1);
    check(PUT, "", 1, 1);
}

#[test]
fn pipelined_requests() {
    check(&GET.repeat(16), &OK.repeat(16), 0, 16);
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Session>() <= 256, "{}", size_of::<Session>());
}
