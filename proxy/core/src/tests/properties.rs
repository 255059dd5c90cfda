//! What holds for any bytes: nothing panics, nothing unjudged is forwarded, and splits decide nothing.

use super::script::{INSPECTED, Policy, snapshot, summary};
use super::shell::{LIMITS, Shell};
use crate::session::{Dialled, End};
use crate::step::Side;
use parsers::Progress;
use parsers::http1::head::{self, Request, Upgrade};
use parsers::http1::{Body, BodyLength, HeadScan, Readings, Version};
use proptest::prelude::*;

/// Requests of every kind, good and bad.
const REQUESTS: &[&str] = &[
    "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /no HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD /ok HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD /no HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET /no HTTP/1.1\r\nHost: a\r\n\r\n.",
    "PUT /no HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n.",
    "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: 1\r\n\r\n",
    "PUT /no HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: 1\r\n\r\n",
    "GET /ok HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
    "PUT /no HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    "GET /ok/..%2fno HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "GET /ok HTTP/1.0\r\n\r\n",
    "GET /no HTTP/1.0\r\n\r\n",
    "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n",
    "GET /ok HTTP/1.1\nHost: a\n\n",
    "\r\n",
    "\u{16}\u{3}\u{1}",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil close",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "hello\r\n\r\n",
];

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const OK_TO_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";

/// What a server must get of a client's bytes.
#[derive(Debug, Default)]
struct Judged {
    forwarded: Vec<u8>,
    /// The body in which the framing broke: as much of it as was whole may have gone on.
    broken: Option<Vec<u8>>,
}

/// The same question asked of the whole stream at once, in the plainest way.
fn reference(mut input: &[u8]) -> Judged {
    let mut judged = Judged::default();
    while let Ok(Progress::Complete { message, consumed }) =
        head::request(&mut HeadScan::default(), input, &LIMITS.http)
    {
        let (head, rest) = input.split_at(consumed);
        let mut body = Body::new(message.body);
        let allowed = is_allowed(&message);
        if allowed {
            judged.forwarded.extend(uncut(head, &message.upgrade));
        } else if is_last_when_denied(&message) {
            break;
        }
        if !body.is_done() {
            let advance = body.advance(rest, &LIMITS.http);
            let Ok(advance) = advance else {
                judged.broken = allowed.then(|| rest.to_vec());
                break;
            };
            if allowed {
                judged.forwarded.extend_from_slice(&rest[..advance.taken]);
            }
            input = &rest[advance.taken..];
        } else {
            input = rest;
        }
        if !body.is_done() || !message.persistent {
            break;
        }
    }
    judged
}

fn is_allowed(request: &Request<'_>) -> bool {
    let mut readings = Readings::default();
    request.upgrade != Upgrade::Other
        && readings.read(request.origin, LIMITS.http.path_bytes_max).is_ok()
        && readings.iter().all(|target| target.starts_with(b"/ok"))
}

fn is_last_when_denied(request: &Request<'_>) -> bool {
    request.upgrade == Upgrade::Other
        || Readings::default().read(request.origin, LIMITS.http.path_bytes_max).is_err()
        || !request.persistent
        || request.version == Version::Http10
        || (request.expects_continue && !Body::new(request.body).is_done())
        || matches!(request.body, BodyLength::Length(bytes) if bytes > LIMITS.swallow_bytes_max)
}

fn uncut(head: &[u8], upgrade: &Upgrade) -> Vec<u8> {
    let Upgrade::H2c { cuts } = upgrade else { return head.to_vec() };
    let kept = |at: &usize| !cuts.iter().any(|cut| cut.contains(at));
    (0..head.len()).filter(kept).map(|at| head[at]).collect()
}

/// What a server that answers every whole request has answered so far.
fn answers(mut got: &[u8]) -> Vec<&'static [u8]> {
    let mut all = Vec::new();
    while let Ok(Progress::Complete { message, consumed }) =
        head::request(&mut HeadScan::default(), got, &LIMITS.http)
    {
        let mut body = Body::new(message.body);
        let rest = &got[consumed..];
        let taken = if body.is_done() { 0 } else { body.advance(rest, &LIMITS.http).unwrap().taken };
        if !body.is_done() {
            break;
        }
        all.push(if message.method == "HEAD" { OK_TO_HEAD } else { OK });
        got = &rest[taken..];
    }
    all
}

/// The paths of the requests that a server got.
pub(super) fn paths(mut got: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Ok(Progress::Complete { message, consumed }) =
        head::request(&mut HeadScan::default(), got, &LIMITS.http)
    {
        all.push(message.origin.to_owned());
        let advance = Body::new(message.body).advance(&got[consumed..], &LIMITS.http).unwrap();
        got = &got[consumed + advance.taken..];
    }
    all
}

/// The client sends these pieces, and the server answers what it gets.
fn converse(pieces: &[&[u8]]) -> Shell {
    let mut shell = INSPECTED.shell();
    let mut answered = 0;
    for piece in pieces {
        shell.sends(Side::Client, piece);
        loop {
            let due = answers(shell.got_bytes(Side::Server));
            let Some(answer) = due.get(answered) else { break };
            answered += 1;
            shell.sends(Side::Server, answer);
        }
    }
    shell
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let requests = prop::collection::vec(prop::sample::select(REQUESTS), 1..6);
    let noise = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (requests, noise).prop_map(|(requests, noise)| {
        let mut bytes = requests.concat().into_bytes();
        if let Some((at, byte)) = noise {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

pub(super) fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, end)| &bytes[start..*end]).filter(|piece| !piece.is_empty()).collect()
}

pub(super) fn records(shell: &Shell) -> Vec<String> {
    shell.records.iter().map(summary).collect()
}

/// Anything that can happen to a connection.
#[derive(Clone, Debug)]
enum Anything {
    Bytes(Side, Vec<u8>),
    Dialled(Dialled),
    Ends(Side, End),
    Publish(Policy),
    Sleep(u64),
}

fn anything() -> impl Strategy<Value = Anything> {
    let side = || prop::sample::select(&[Side::Client, Side::Server][..]);
    let text =
        |all: &'static [&'static str]| prop::sample::select(all).prop_map(|text| text.as_bytes().to_vec());
    let dialled = [Dialled::Connected, Dialled::Connected, Dialled::Refused, Dialled::TimedOut];
    let policies = [Policy::Ok, Policy::Other, Policy::L4, Policy::Ok, Policy::Closed];
    prop_oneof![
        6 => stream().prop_map(|bytes| Anything::Bytes(Side::Client, bytes)),
        6 => text(RESPONSES).prop_map(|bytes| Anything::Bytes(Side::Server, bytes)),
        2 => (side(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(side, bytes)| Anything::Bytes(side, bytes)),
        2 => prop::sample::select(dialled.to_vec()).prop_map(Anything::Dialled),
        1 => (side(), prop::sample::select(&[End::Fin, End::Fin, End::Reset][..])).prop_map(|(side, end)| Anything::Ends(side, end)),
        1 => prop::sample::select(policies.to_vec()).prop_map(Anything::Publish),
        1 => (0..20_000_u64).prop_map(Anything::Sleep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_forwarded_is_what_was_judged(bytes in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let expect = reference(&bytes);
        let shell = converse(&pieces(&bytes, &cuts));
        let got = shell.got_bytes(Side::Server);
        prop_assert!(got.starts_with(&expect.forwarded), "{:?}", shell.got(Side::Server));
        let behind = &got[expect.forwarded.len()..];
        prop_assert!(expect.broken.unwrap_or_default().starts_with(behind), "{:?}", shell.got(Side::Server));
    }

    #[test]
    fn splits_decide_nothing(bytes in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let whole = converse(&[&bytes]);
        let cut = converse(&pieces(&bytes, &cuts));
        prop_assert_eq!(records(&whole), records(&cut));
        prop_assert_eq!(whole.got(Side::Client), cut.got(Side::Client));
        if reference(&bytes).broken.is_none() {
            prop_assert_eq!(whole.got(Side::Server), cut.got(Side::Server));
        }
    }

    #[test]
    fn every_forwarded_request_was_allowed_and_has_one_record(events in prop::collection::vec(anything(), 1..30)) {
        let mut shell = INSPECTED.shell();
        for event in events {
            match event {
                Anything::Bytes(side, bytes) => shell.sends(side, &bytes),
                Anything::Ends(side, end) => shell.ends(side, end),
                Anything::Publish(policy) if policy != Policy::L4 => shell.publish(snapshot(policy)),
                Anything::Sleep(ns) => shell.sleeps(ns),
                Anything::Dialled(_) | Anything::Publish(_) => {}
            }
        }
        shell.stop();
        let forwarded = paths(shell.got_bytes(Side::Server));
        let recorded: Vec<_> = shell.records.iter().filter(|record| record.bytes_up > 0)
            .filter_map(|record| record.detail.http().map(|http| http.path.to_string())).collect();
        prop_assert_eq!(&forwarded, &recorded);
        prop_assert!(forwarded.iter().all(|path| path.starts_with("/ok") || path.starts_with("/other")));
    }

    #[test]
    fn anything_may_happen(events in prop::collection::vec(anything(), 1..30), dials in any::<bool>()) {
        let mut shell = INSPECTED.shell();
        shell.dial = dials.then_some(Dialled::Connected);
        for event in events {
            match event {
                Anything::Bytes(side, bytes) => shell.sends(side, &bytes),
                Anything::Dialled(result) if shell.is_dialling() => shell.dialled(result),
                Anything::Dialled(_) => {}
                Anything::Ends(side, end) => shell.ends(side, end),
                Anything::Publish(policy) => shell.publish(snapshot(policy)),
                Anything::Sleep(ns) => shell.sleeps(ns),
            }
        }
        shell.stop();
        prop_assert!(shell.session.is_over());
        prop_assert!(!shell.records.is_empty(), "no record");
    }
}
