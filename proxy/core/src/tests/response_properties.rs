//! What holds for any bytes of a server: nothing panics, the client gets them as they came or not at all, what we say
//! ourselves stands between whole responses, and splits decide nothing.

use super::properties::{paths, pieces, records};
use super::script::INSPECTED;
use super::shell::{LIMITS, Shell};
use crate::record::Outcome;
use crate::session::End;
use crate::step::Side;
use parsers::Progress;
use parsers::http1::head::{self, AnsweredMethod};
use parsers::http1::{Body, HeadScan};
use proptest::prelude::*;
use proptest::sample::Index;

/// Requests in a row: allowed ones, and denied ones that keep the connection.
const ASKED: &[(&str, Asked)] = &[
    ("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n", Asked::Forwarded(AnsweredMethod::Other)),
    ("HEAD /ok HTTP/1.1\r\nHost: a\r\n\r\n", Asked::Forwarded(AnsweredMethod::Head)),
    ("POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", Asked::Forwarded(AnsweredMethod::Other)),
    ("GET /no HTTP/1.1\r\nHost: a\r\n\r\n", Asked::Denied(super::policy::DENIED)),
    (
        "PUT /no HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Asked::Denied(super::policy::DENIED),
    ),
    (
        "HEAD /no HTTP/1.1\r\nHost: a\r\n\r\n",
        Asked::Denied("HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\n"),
    ),
];

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhi\r\n0\r\nT: 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n",
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.0 200 OK\r\n\r\nuntil close",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "hello\r\n\r\n",
];

#[derive(Clone, Copy, Debug)]
enum Asked {
    Denied(&'static str),
    Forwarded(AnsweredMethod),
}

/// What a client must get.
#[derive(Debug, Default)]
struct Expected {
    got: Vec<u8>,
    /// How many answers that took.
    answers: usize,
    /// As much of this may have gone on: a body in which the framing broke, or what is behind an answer, which is one to
    /// the next request if that was forwarded already.
    doubtful: Vec<u8>,
    /// An answer was none, had something behind it, or was the last: what follows depends on who is faster.
    over: bool,
}

/// The same question asked of whole answers, in the plainest way.
fn reference(asked: &[(&str, Asked)], answers: &[Vec<u8>]) -> Expected {
    let mut expected = Expected::default();
    let mut answers = answers.iter();
    for (_request, asked) in asked {
        match asked {
            Asked::Denied(reply) => expected.got.extend_from_slice(reply.as_bytes()),
            Asked::Forwarded(method) => {
                let Some(answer) = answers.next() else { return expected };
                expected.answer(*method, answer);
            }
        }
        if expected.over {
            break;
        }
    }
    expected
}

impl Expected {
    fn answer(&mut self, method: AnsweredMethod, mut input: &[u8]) {
        self.over = true;
        self.answers += 1;
        while let Ok(Progress::Complete { message, consumed }) =
            head::response(&mut HeadScan::default(), input, method, &LIMITS.http)
        {
            let (head, rest) = input.split_at(consumed);
            self.got.extend_from_slice(head);
            let mut body = Body::new(message.body);
            let Ok(advance) = body.advance(rest, &LIMITS.http) else {
                self.doubtful = rest.to_vec();
                return;
            };
            self.got.extend_from_slice(&rest[..advance.taken]);
            input = &rest[advance.taken..];
            if !message.is_interim() {
                self.over = !body.is_done() || !message.persistent || !input.is_empty();
                self.doubtful = input.to_vec();
                return;
            }
        }
    }
}

/// All is asked at once; the server answers every request that it gets, in pieces.
fn converse(asked: &[(&str, Asked)], answers: &[Vec<u8>], cuts: &[Index]) -> Shell {
    let mut shell = asking(asked);
    for (nth, answer) in answers.iter().enumerate() {
        if paths(shell.got_bytes(Side::Server)).len() <= nth {
            break;
        }
        for piece in pieces(answer, cuts) {
            shell.sends(Side::Server, piece);
        }
    }
    shell
}

fn asking(asked: &[(&str, Asked)]) -> Shell {
    let mut shell = INSPECTED.shell();
    let requests: String = asked.iter().map(|(request, _asked)| *request).collect();
    shell.sends(Side::Client, requests.as_bytes());
    shell
}

fn asked() -> impl Strategy<Value = Vec<(&'static str, Asked)>> {
    prop::collection::vec(prop::sample::select(ASKED), 1..7)
}

/// So that all that will be forwarded is, before the server says anything.
fn asked_at_once() -> impl Strategy<Value = Vec<(&'static str, Asked)>> {
    let forwarded = prop::collection::vec(prop::sample::select(&ASKED[..3]), 1..6);
    let denied = prop::option::of(prop::sample::select(&ASKED[3..]));
    (forwarded, denied).prop_map(|(forwarded, denied)| forwarded.into_iter().chain(denied).collect())
}

fn answer() -> impl Strategy<Value = Vec<u8>> {
    let answers = prop_oneof![12 => prop::sample::select(&ANSWERS[..9]), 1 => prop::sample::select(ANSWERS)];
    let noise = prop::option::weighted(0.1, (any::<Index>(), any::<u8>()));
    (answers, noise).prop_map(|(answer, noise)| {
        let mut bytes = answer.as_bytes().to_vec();
        if let Some((at, byte)) = noise {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

fn answers() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(answer(), 1..7)
}

/// What is left of a client's bytes without our own denials.
fn without_denials(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    // The one to HEAD is how the others begin: the longer ones first.
    ASKED.iter().fold(text, |text, (_request, asked)| match asked {
        Asked::Denied(reply) => text.replace(reply, ""),
        Asked::Forwarded(_) => text,
    })
}

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_client_gets_what_was_sent_and_our_denials_in_their_turn(asked in asked(), answers in answers(), cuts in cuts()) {
        let expected = reference(&asked, &answers);
        let shell = converse(&asked, &answers[..expected.answers], &cuts);
        let got = shell.got_bytes(Side::Client);
        prop_assert!(got.starts_with(&expected.got), "{:?} for {expected:?}", shell.got(Side::Client));
        let behind = &got[expected.got.len()..];
        let theirs = without_denials(behind);
        prop_assert!(behind.is_empty() || expected.over, "{:?} for {expected:?}", shell.got(Side::Client));
        prop_assert!(
            String::from_utf8_lossy(&expected.doubtful).starts_with(&theirs),
            "{theirs:?} for {expected:?}"
        );
        if !expected.over {
            prop_assert!(!shell.session.is_over());
        }
    }

    #[test]
    fn splits_of_a_response_decide_nothing(
        asked in asked_at_once(),
        answers in answers(),
        cuts in cuts(),
        end in prop::sample::select(&[None, Some(End::Fin), Some(End::Reset)][..]),
    ) {
        let bytes = answers.concat();
        let saying = |pieces: &[&[u8]]| {
            let mut shell = asking(&asked);
            pieces.iter().for_each(|piece| shell.sends(Side::Server, piece));
            end.into_iter().for_each(|end| shell.ends(Side::Server, end));
            shell
        };
        let whole = saying(&[&bytes]);
        let cut = saying(&pieces(&bytes, &cuts));
        prop_assert_eq!(records(&whole), records(&cut));
        prop_assert_eq!(whole.got(Side::Server), cut.got(Side::Server));
        // In pieces more of a body goes on before its framing breaks.
        let (whole, cut) = (whole.got(Side::Client), cut.got(Side::Client));
        prop_assert!(cut == whole || whole.ends_with("<rst>") && cut.starts_with(whole.trim_end_matches("<rst>")), "{whole:?} or {cut:?}");
    }

    #[test]
    fn denials_are_answered_as_they_are_recorded(asked in asked(), answers in answers(), cuts in cuts()) {
        let mut shell = converse(&asked, &answers, &cuts);
        shell.stop();
        let of_requests = shell.records.iter().filter(|record| record.detail.http().is_some());
        let denied = of_requests.clone().filter(|record| record.outcome == Outcome::Denied).count();
        prop_assert!(of_requests.count() <= asked.len());
        let answered = shell.got(Side::Client).matches("HTTP/1.1 403 Forbidden\r\ncontent-type").count();
        prop_assert_eq!(answered, denied);
    }
}
