//! What a verdict costs by the number and the kind of HTTP rules, and what a hostile path can make it cost.

use bench_suite::policies::{KINDS, Path, compiled, http_rules, inspected, request, spread};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use policy_model::http::Effort;
use policy_model::rule::Protocol;
use policy_model::snapshot::Efforts;
use policy_model::{Flow, Verdict};
use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

const COUNTS: [usize; 4] = [1, 100, 1_000, 10_000];

/// Per request, over 64 different ones in turn.
fn matching(c: &mut Criterion) {
    let mut group = c.benchmark_group("matching");
    for (kind, rule, path) in KINDS {
        for count in COUNTS {
            let rules = compiled(http_rules(count, rule));
            let paths: Vec<String> = spread(count).map(path).collect();
            let mut turn = paths.iter().cycle();
            let _group = group.bench_function(BenchmarkId::new(kind, count), |b| {
                b.iter(|| {
                    rules
                        .matching(&request("GET", turn.next().map_or("", String::as_str)), &Effort::default())
                        .is_some()
                });
            });
        }
    }
    group.finish();
}

/// The whole question about a request on an open connection, the permit included.
fn verdict(c: &mut Criterion) {
    let mut group = c.benchmark_group("verdict");
    for (kind, rule, path) in KINDS {
        for count in COUNTS {
            let snapshot = inspected(http_rules(count, rule));
            let (source, destination) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
            let flow = Flow { source, destination, port: 80, protocol: Protocol::TCP };
            let connection = snapshot.connection(&flow);
            let paths: Vec<String> = spread(count).map(path).collect();
            let one = path(count - 1);
            let _group = group.bench_function(BenchmarkId::new(format!("{kind}, same path"), count), |b| {
                b.iter(|| {
                    let (_, verdict) = connection.http(&request("GET", black_box(&one)), &Efforts::default());
                    matches!(black_box(verdict), Verdict::Allow(_))
                });
            });
            let mut turn = paths.iter().cycle();
            let _group = group.bench_function(BenchmarkId::new(kind, count), |b| {
                b.iter(|| {
                    let target = turn.next().map_or("", String::as_str);
                    let (_, verdict) = connection.http(&request("GET", target), &Efforts::default());
                    matches!(black_box(verdict), Verdict::Allow(_))
                });
            });
        }
    }
    group.finish();
}

/// One question about a connection: two addresses, one class of ports.
fn connection(c: &mut Criterion) {
    let snapshot = inspected(http_rules(1, |i| format!("/{i}")));
    let (source, destination) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    let flow = Flow { source, destination, port: 80, protocol: Protocol::TCP };
    let _c = c.bench_function("connection", |b| b.iter(|| black_box(snapshot.connection(black_box(&flow)))));
}

/// Paths of 64 KiB that go along with the rules as far as they can; denied, so that the nearest rule is looked for too.
fn hostile(c: &mut Criterion) {
    let mut group = c.benchmark_group("hostile");
    let nested: Path = |i| format!("/{}.*x", "a".repeat(i));
    let lazy: Path = |i| format!("/(a|b)*a(a|b){{20}}x{i}");
    // No run of 20 comes twice: an automaton that remembers runs has to make a state for each.
    let mut random = 1_u64;
    let ab: String = std::iter::repeat_with(|| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if random >> 63 == 0 { 'a' } else { 'b' }
    })
    .take(65_535)
    .collect();
    let paths = [
        ("a", format!("/{}", "a".repeat(65_535))),
        ("ab", format!("/{ab}")),
        ("slashes", "/".repeat(65_536)),
    ];
    let cases: [(&str, usize, Path); 6] = [
        ("pattern", 10_000, KINDS[2].1),
        ("leading", 1_000, KINDS[3].1),
        ("leading", 10_000, KINDS[3].1),
        ("nested", 1_000, nested),
        ("lazy", 1, lazy),
        ("lazy", 64, lazy),
    ];
    for (kind, count, rule) in cases {
        let rules = compiled(http_rules(count, rule));
        for (name, path) in &paths {
            let _group = group.throughput(Throughput::Bytes(65_536)).bench_function(
                BenchmarkId::new(format!("{kind}-{count}"), name),
                |b| {
                    let request = request("GET", path);
                    b.iter(|| {
                        let effort = Effort::default();
                        (
                            rules.matching(&request, &effort).is_none(),
                            rules.nearest(&request, &effort).is_some(),
                        )
                    });
                },
            );
        }
    }
    group.finish();
}

fn compile(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile");
    for (kind, rule, _) in KINDS {
        // Ten thousand that begin with a pattern take seconds: known from one run, not worth twenty of each.
        let counts: &[usize] = if kind == "leading" { &[1_000] } else { &[1_000, 10_000] };
        for &count in counts {
            let rules = http_rules(count, rule);
            let _group = group.bench_function(BenchmarkId::new(kind, count), |b| {
                b.iter_with_large_drop(|| compiled(rules.clone()));
            });
        }
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
}

criterion_group! { name = benches; config = quick(); targets = matching, verdict, connection, hostile, compile }
criterion_main!(benches);
