//! What a verdict costs by the number of rules, in one run and in turn, so that a busy machine is busy for all of them.
//!
//! `verdict_figures [ROUNDS]`, or `verdict_figures heaviest` for what hostile requests cost alone. Every figure is the lowest decile of many short rounds. Beside them stands a floor: what the same number of paths cost
//! that do nothing but read so many cache lines, each of which says where the next one is.

use bench_suite::heaviest::{heaviest, marked};
use bench_suite::policies::{
    KINDS, Path, compiled, http_rules, inspected, inspecting, request, spread, with_another,
};
use parsers::http1::Readings;
use policy_model::http::{Effort, READINGS_USUAL};
use policy_model::identity::Numbers;
use policy_model::resolve::Resolver;
use policy_model::rule::Protocol;
use policy_model::snapshot::Efforts;
use policy_model::{Connection, Flow, Inputs, Verdict};
use std::hint::black_box;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Instant;

const COUNTS: [usize; 4] = [1, 100, 1_000, 10_000];
const ROUNDS: usize = 300;
/// Of 64 verdicts each, in every round; as many as warm up ahead of it.
const LAPS: usize = 32;

/// One figure on its way.
struct Case {
    name: String,
    connection: Connection,
    paths: Vec<String>,
    nanoseconds: Vec<f64>,
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    if std::env::args().nth(1).is_some_and(|only| only == "heaviest") {
        return hostile(&mut out);
    }
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    for (kind, rule, path) in KINDS.into_iter().filter(|(kind, ..)| *kind != "leading") {
        let mut cases: Vec<Case> = Vec::new();
        for count in COUNTS {
            let connection = inspected(http_rules(count, rule)).connection(&flow());
            for (name, paths) in
                [("one path", vec![path(count - 1); 64]), ("64 paths", spread(count).map(path).collect())]
            {
                let connection = connection.clone();
                let name = format!("{kind}, {name}, {count}");
                cases.push(Case { name, connection, paths, nanoseconds: Vec::new() });
            }
        }
        for _ in 0..rounds {
            cases.iter_mut().for_each(Case::round);
        }
        for case in &mut cases {
            writeln!(out, "{:<28} {:>6.1} ns", case.name, decile(&mut case.nanoseconds))?;
        }
    }
    for lines in [0, 2, 4, 8] {
        writeln!(out, "{:<28} {:>6.1} ns", format!("{lines} lines, 64 chains of 10000"), floor(lines))?;
    }
    hostile(&mut out)?;
    for (name, count, rule) in COMPILED {
        writeln!(out, "compile {count} {name}: {}", compiling(count, rule))?;
    }
    Ok(())
}

/// A path of so many bytes, denied, with the nearest miss, under the heaviest rules that one policy may have.
const HOSTILE_BYTES: usize = 1024;
/// Beyond what there are steps for.
const MANY_READINGS: usize = 8;

fn hostile(out: &mut impl Write) -> io::Result<()> {
    let floor = floor_of_bytes();
    let mut worst = [0.0_f64; 2];
    for heavy in heaviest(HOSTILE_BYTES) {
        let count = heavy.rules.len();
        let rules = compiled(heavy.rules);
        let request = request("GET", &heavy.path);
        // As if all readings but the last one were allowed, and the first direction allowed them all.
        let denied = |directions: usize, readings: usize| {
            for direction in 1..=directions {
                let effort = Effort::of_readings(readings);
                assert!(
                    (0..readings).all(|_| rules.matching(black_box(&request), &effort).is_none()),
                    "allowed"
                );
                if direction == directions {
                    let _nearest = black_box(rules.nearest(&request, &effort).is_some());
                }
            }
        };
        let [once, twice, often] = [(1, 1), (2, READINGS_USUAL), (2, MANY_READINGS)]
            .map(|(directions, readings)| decile(&mut microseconds(|| denied(directions, readings))));
        let name = heavy.name;
        writeln!(
            out,
            "denied, {name:<34} {count:>5}: once {once:>5.1} us; both directions, two readings {twice:>5.1} us, many {often:>5.1} us"
        )?;
        worst = [worst[0].max(twice), worst[1].max(often)];
    }
    let mut readings = Readings::default();
    let mut paths: Vec<(f64, usize, String)> = marked(HOSTILE_BYTES)
        .map(|path| {
            let mut figures = microseconds(|| readings.read(black_box(&path), HOSTILE_BYTES).is_ok());
            (decile(&mut figures), readings.count(), path)
        })
        .collect();
    paths.sort_by(|a, b| b.0.total_cmp(&a.0));
    let kinds: [(&str, IsOfKind, f64); 3] = [
        ("two at most", |count| (1..=READINGS_USUAL).contains(&count), worst[0]),
        ("many", |count| count > READINGS_USUAL, worst[1]),
        ("refused", |count| count == 0, 0.0),
    ];
    for (kind, is_of_kind, matching) in kinds {
        let Some((figure, _, path)) = paths.iter().find(|(_, count, _)| is_of_kind(*count)) else { continue };
        let begin = path.get(..24).unwrap_or_default();
        writeln!(
            out,
            "readings, {kind}: {figure:.1} us ({begin}), with matching {:.1} us",
            figure + matching
        )?;
    }
    writeln!(out, "floor, a load for each byte: {floor:.2} us before, {:.2} us behind", floor_of_bytes())
}

/// By the number of readings.
type IsOfKind = fn(usize) -> bool;

/// One walk through a table that fits the first cache.
fn floor_of_bytes() -> f64 {
    let table: Vec<usize> = (0..256).map(|i| (i * 167 + 1) % 256).collect();
    let bytes = vec![0_u8; HOSTILE_BYTES];
    let walk = || {
        let step = |at: usize, byte: &u8| table.get(at + usize::from(*byte)).copied().unwrap_or(0);
        black_box(black_box(&bytes).iter().fold(0, step))
    };
    decile(&mut microseconds(walk))
}

fn microseconds<T>(mut measured: impl FnMut() -> T) -> Vec<f64> {
    let mut round = || {
        let begun = Instant::now();
        let _answer = black_box(measured());
        begun.elapsed().as_secs_f64() * 1e6
    };
    let _warm: Vec<f64> = (0..20).map(|_| round()).collect();
    (0..100).map(|_| round()).collect()
}

/// Rules that begin with a pattern: those of tables, and those that are too big for one.
const COMPILED: [(&str, usize, Path); 4] = [
    ("leading", 10_000, |i| format!(".*/service-{i:04}/items")),
    ("leading pattern, not the end", 1_000, |i| format!(".*/service-{i:04}/items/[0-9]+")),
    ("runs", 3_000, |i| format!("/(a|b)*a(a|b){{20}}x{i}")),
    ("lines of at least", 3_000, |i| format!("/.*-.{{{}}}x{i}", 8 + i % 32)),
];

/// From nothing, then with changes that have little or nothing to do with the rules.
fn compiling(count: usize, rule: Path) -> String {
    let inputs = inspecting(http_rules(count, rule));
    let more = inspecting(http_rules(count + 1, |i| rule((i + count) % (count + 1))));
    let mut resolver = Resolver::default();
    let first = resolved(&mut resolver, &inputs);
    let other = resolved(&mut resolver, &with_another(&inputs));
    let one_more = resolved(&mut resolver, &more);
    format!("{first:.1} ms, another policy {other:.1} ms, one rule more {one_more:.1} ms")
}

fn resolved(resolver: &mut Resolver, inputs: &Inputs) -> f64 {
    let begun = Instant::now();
    let (_snapshot, _) = resolver.resolve(inputs, &mut Numbers::default(), 1);
    begun.elapsed().as_secs_f64() * 1e3
}

impl Case {
    fn round(&mut self) {
        let _warm = self.laps();
        let begun = Instant::now();
        assert_eq!(self.laps(), LAPS * 64, "a request is denied");
        self.nanoseconds.push(nanoseconds(begun));
    }

    /// How many were allowed.
    fn laps(&self) -> usize {
        let paths = std::iter::repeat_n(&self.paths, LAPS).flatten();
        let allowed = |path: &&String| {
            let (_, verdict) = self.connection.http(&request("GET", black_box(path)), &Efforts::default());
            matches!(black_box(verdict), Verdict::Allow(_))
        };
        paths.filter(allowed).count()
    }
}

/// A cache line.
#[repr(align(64))]
struct Line(usize);

fn floor(lines: usize) -> f64 {
    let line = |i: usize| Line((i * 7919 + 1) % 10_000);
    let tables: Vec<Vec<Line>> = (0..lines).map(|_| (0..10_000).map(line).collect()).collect();
    let starts: Vec<usize> = spread(10_000).collect();
    let laps = || {
        let mut last = 0;
        for start in std::iter::repeat_n(&starts, LAPS).flatten() {
            // The next chain begins where this one ended, as a verdict waits for what it has read.
            last = tables
                .iter()
                .fold(black_box(start + last / 10_000), |at, table| table.get(at).map_or(0, |line| line.0));
        }
        black_box(last)
    };
    let round = |_| {
        let _warm = laps();
        let begun = Instant::now();
        let _last = laps();
        nanoseconds(begun)
    };
    decile(&mut (0..ROUNDS).map(round).collect::<Vec<_>>())
}

#[expect(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "INVARIANT: a round takes milliseconds"
)]
fn nanoseconds(begun: Instant) -> f64 {
    begun.elapsed().as_nanos() as f64 / (LAPS * 64) as f64
}

fn decile(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 10).copied().unwrap_or_default()
}

fn flow() -> Flow {
    let (source, destination) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    Flow { source, destination, port: 80, protocol: Protocol::TCP }
}
