//! What it costs to read HTTP/1: heads, the readings of a target, the framing of a body.

use bench_suite::http1::{HOSTILE_TARGETS, LIMITS, REQUEST_ONE_FIELD, RESPONSE, request_eleven_fields};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use parsers::Progress;
use parsers::http1::head::{AnsweredMethod, request, response};
use parsers::http1::{Body, BodyLength, HeadScan, Readings};
use std::hint::black_box;

fn heads(c: &mut Criterion) {
    let eleven = request_eleven_fields();
    let mut group = c.benchmark_group("http1/head");
    for (name, head) in [("request/1-field", REQUEST_ONE_FIELD), ("request/11-fields", &eleven)] {
        let _ = per_byte(&mut group, head).bench_function(name, |b| {
            b.iter(|| request(&mut HeadScan::default(), black_box(head), &LIMITS).is_ok());
        });
    }
    let _ = per_byte(&mut group, RESPONSE).bench_function("response/4-fields", |b| {
        b.iter(|| {
            response(&mut HeadScan::default(), black_box(RESPONSE), AnsweredMethod::Other, &LIMITS).is_ok()
        });
    });
    // The worst arrival: one byte a segment.
    let _ = per_byte(&mut group, &eleven).bench_function("request/byte-by-byte", |b| {
        b.iter(|| {
            let mut scan = HeadScan::default();
            let mut prefixes = (1..=eleven.len()).filter_map(|end| eleven.get(..end));
            prefixes.all(|prefix| request(&mut scan, black_box(prefix), &LIMITS).is_ok())
        });
    });
    if let Ok(Progress::Complete { message, .. }) = request(&mut HeadScan::default(), &eleven, &LIMITS) {
        let _ = group.bench_function("values-of-a-field", |b| {
            b.iter(|| message.values(black_box("x-tenant")).count());
        });
    }
    group.finish();
}

fn readings(c: &mut Criterion) {
    let mut group = c.benchmark_group("http1/readings");
    let mut readings = Readings::default();
    let usual =
        [("plain", "/api/v1/service-0001/items/4711?page=2"), ("escaped", "/api/v1/caf%C3%A9/%41%20b?x=%2F")];
    for (name, target) in usual.into_iter().chain(HOSTILE_TARGETS) {
        let _ = group.bench_with_input(BenchmarkId::from_parameter(name), target, |b, target| {
            b.iter(|| readings.read(black_box(target), usize::MAX).is_ok());
        });
    }
    // The longest target that a head has room for, made of what costs most.
    for (name, unit) in [
        ("64KiB/plain", "abcdefg/"),
        ("64KiB/dots", "aa/../b/"),
        ("64KiB/mixed", "%2f%5c.;\\"),
        ("64KiB/slashes", ";a//.///"),
    ] {
        let target = format!("/{}", unit.repeat(65_000 / unit.len()));
        let _ = group.bench_with_input(BenchmarkId::from_parameter(name), target.as_str(), |b, target| {
            b.iter(|| readings.read(black_box(target), usize::MAX).is_ok());
        });
    }
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("http1/body");
    let chunks = [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat().repeat(16);
    let _ = group.bench_function("16-chunks-of-4KiB", |b| {
        b.iter(|| Body::new(BodyLength::Chunked).advance(black_box(&chunks), &LIMITS).is_ok());
    });
    group.finish();
}

fn per_byte<'g, 'c>(
    group: &'g mut BenchmarkGroup<'c, WallTime>,
    input: &[u8],
) -> &'g mut BenchmarkGroup<'c, WallTime> {
    group.throughput(Throughput::Bytes(u64::try_from(input.len()).unwrap_or(u64::MAX)))
}

criterion_group!(benches, heads, readings, bodies);
criterion_main!(benches);
