//! Whole sessions without a socket: head, verdict, framing of both messages, flow record.
#![expect(clippy::expect_used, reason = "a bench that can't be set up must not run")]

use bench_suite::policies::{http_rules, inspected};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use policy_model::Snapshot;
use proxy_core::limits::{Http, Limits};
use proxy_core::record::{ClientAddr, Now, OrigDst};
use proxy_core::session::{Cx, Dialled, Scratch};
use proxy_core::{Session, Side, Step};
use std::hint::black_box;

const LIMITS: Limits = Limits {
    http: Http {
        head_bytes_max: 64 * 1024,
        fields_max: 200,
        path_bytes_max: 8192,
        chunk_line_bytes_max: 4096,
        trailer_bytes_max: 16 * 1024,
    },
    head_ns_max: 10_000_000_000,
    pipelined_max: 64,
    swallow_bytes_max: 1 << 20,
    swallow_ns_max: 10_000_000_000,
    dial_ns_max: 10_000_000_000,
    queries: proxy_core::Queries::Hidden,
};

/// What a browser sends: 11 fields.
const FIELDS: &str = "Host: deathstar.default.svc.cluster.local\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n\
    Connection: keep-alive\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Cache-Control: max-age=0\r\n\r\n";

const RESPONSE: &str = "HTTP/1.1 200 OK\r\nDate: Wed, 25 Nov 2026 08:00:00 GMT\r\nServer: deathstar\r\n\
    Content-Type: text/plain\r\nContent-Length: 12\r\n\r\nShip landed\n";

/// One connection of a warm worker.
struct Bench {
    snapshot: Snapshot,
    steps: Vec<Step>,
    scratch: Scratch,
    session: Session,
}

impl Bench {
    fn new() -> Self {
        let paths = ["/api/v1/items/[0-9]+", "/v1/request-landing"];
        let snapshot =
            inspected(http_rules(paths.len(), |i| paths.get(i).map_or_else(String::new, |p| (*p).into())));
        let (mut steps, mut scratch) = (Vec::new(), Scratch::default());
        let client = ClientAddr("10.0.0.1:40000".parse().expect("an address"));
        let destination = OrigDst("10.0.0.2:80".parse().expect("an address"));
        let mut cx = cx(&snapshot, &mut steps, &mut scratch);
        let mut session = Session::open(client, destination, &mut cx);
        let _ = session.on_bytes(Side::Client, request("GET", "/api/v1/items/1").as_bytes(), &mut cx);
        session.on_dialled(Dialled::Connected, &mut cx);
        let mut this = Self { snapshot, steps, scratch, session };
        this.exchange(request("GET", "/api/v1/items/1").as_bytes(), RESPONSE.as_bytes());
        this
    }

    fn exchange(&mut self, request: &[u8], response: &[u8]) {
        for (side, bytes) in [(Side::Client, request), (Side::Server, response)] {
            let mut cx = cx(&self.snapshot, &mut self.steps, &mut self.scratch);
            let taken = self.session.on_bytes(side, bytes, &mut cx);
            assert_eq!(taken, bytes.len());
            for step in self.steps.drain(..) {
                if let Step::Record(record) = step {
                    self.scratch.spare.push(record);
                }
            }
        }
    }
}

fn cx<'a>(snapshot: &'a Snapshot, steps: &'a mut Vec<Step>, scratch: &'a mut Scratch) -> Cx<'a> {
    Cx { now: Now { mono_ns: 1, unix_ns: 1 }, snapshot, limits: &LIMITS, steps, scratch }
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\n{FIELDS}")
}

fn sessions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    let mut bench = |name: &str, requests: u64, request: &str, response: &str| {
        let mut connection = Bench::new();
        let _ = group.throughput(Throughput::Elements(requests)).bench_function(name, |bencher| {
            bencher
                .iter(|| connection.exchange(black_box(request.as_bytes()), black_box(response.as_bytes())));
        });
    };
    let get = request("GET", "/api/v1/items/12345");
    bench("request of 11 fields", 1, &get, RESPONSE);
    bench("request of 1 field", 1, "GET /api/v1/items/12345 HTTP/1.1\r\nHost: a\r\n\r\n", RESPONSE);
    bench("denied request of 11 fields", 1, &request("PUT", "/v1/exhaust-port"), "");
    bench("16 pipelined requests of 11 fields", 16, &get.repeat(16), &RESPONSE.repeat(16));
    group.finish();
}

criterion_group!(benches, sessions);
criterion_main!(benches);
