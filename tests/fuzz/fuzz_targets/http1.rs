//! HTTP/1 from any bytes: nothing panics, splits change nothing, and what is accepted holds its promises.
//!
//! The input is a connection as a client (or a server) would write it, so that seeds are plain text. Where it is split
//! follows from its own bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parsers::Progress;
use parsers::http1::head::{AnsweredMethod, request, response};
use parsers::http1::{Body, BodyLength, HeadScan, Limits, Readings, Request, Upgrade};

/// Small, so that they are reached.
const LIMITS: Limits = Limits {
    head_bytes_max: 512,
    fields_max: 12,
    path_bytes_max: 8192,
    chunk_line_bytes_max: 24,
    trailer_bytes_max: 64,
};

fuzz_target!(|input: &[u8]| {
    let splits = splits(input);
    for reader in [requests, responses, responses_to_head] {
        let at_once = reader(input, &[input.len()]);
        assert_eq!(reader(input, &splits), at_once, "split at {splits:?}");
        if input.len() <= 256 {
            assert_eq!(reader(input, &(0..=input.len()).collect::<Vec<_>>()), at_once, "byte by byte");
        }
    }
    if let Ok(Progress::Complete { message, consumed }) = request(&mut HeadScan::default(), input, &LIMITS) {
        another_parser_agrees(&message, &input[..consumed]);
        a_cut_offer_is_gone(&message, &input[..consumed]);
    }
    if let Ok(target) = str::from_utf8(input) {
        the_normal_form_has_the_same_readings(target);
    }
});

/// Up to eight places, from a hash of the input.
fn splits(input: &[u8]) -> Vec<usize> {
    let mut state = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut splits = Vec::new();
    for _ in 0..state % 8 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        splits.push((state >> 33) as usize % (input.len() + 1));
    }
    splits.sort_unstable();
    splits.push(input.len());
    splits
}

fn requests(input: &[u8], ends: &[usize]) -> String {
    let mut scan = HeadScan::default();
    messages(input, ends, |bytes| {
        Ok(match request(&mut scan, bytes, &LIMITS).map_err(|error| format!("{error:?}"))? {
            Progress::Complete { message, consumed } => {
                Some((format!("{message:?}"), message.body, consumed))
            }
            Progress::Incomplete => None,
        })
    })
}

fn responses(input: &[u8], ends: &[usize]) -> String {
    responses_to(AnsweredMethod::Other, input, ends)
}

fn responses_to_head(input: &[u8], ends: &[usize]) -> String {
    responses_to(AnsweredMethod::Head, input, ends)
}

fn responses_to(to: AnsweredMethod, input: &[u8], ends: &[usize]) -> String {
    let mut scan = HeadScan::default();
    messages(input, ends, |bytes| {
        Ok(match response(&mut scan, bytes, to, &LIMITS).map_err(|error| format!("{error:?}"))? {
            Progress::Complete { message, consumed } => {
                Some((format!("{message:?}"), message.body, consumed))
            }
            Progress::Incomplete => None,
        })
    })
}

/// All messages of a connection, and what ended it.
fn messages(
    input: &[u8],
    ends: &[usize],
    mut head: impl FnMut(&[u8]) -> Result<Option<(String, BodyLength, usize)>, String>,
) -> String {
    let mut seen = String::new();
    let mut body = Body::new(BodyLength::None);
    let mut at = 0;
    for end in ends {
        while at < *end {
            let rest = &input[at..*end];
            if !body.is_done() {
                match body.advance(rest, &LIMITS) {
                    Ok(advance) => at += advance.taken,
                    Err(error) => return format!("{seen}{error:?}"),
                }
                continue;
            }
            match head(rest) {
                Ok(None) => break,
                Ok(Some((text, length, consumed))) => {
                    seen.push_str(&text);
                    body = Body::new(length);
                    at += consumed;
                }
                Err(error) => return seen + &error,
            }
        }
    }
    format!("{seen}{at} {:?}", body.end())
}

fn another_parser_agrees(ours: &Request<'_>, head: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 12];
    let mut theirs = httparse::Request::new(&mut fields);
    assert_eq!(theirs.parse(head), Ok(httparse::Status::Complete(head.len())));
    assert_eq!((theirs.method, theirs.path), (Some(ours.method), Some(ours.target)));
    assert!(
        ours.fields()
            .map(|field| (field.name, field.value))
            .eq(theirs.headers.iter().map(|f| (f.name, f.value)))
    );
}

fn a_cut_offer_is_gone(message: &Request<'_>, head: &[u8]) {
    let Upgrade::H2c { cuts } = &message.upgrade else { return };
    let mut left = head.to_vec();
    for cut in cuts.iter().rev() {
        drop(left.drain(cut.clone()));
    }
    match request(&mut HeadScan::default(), &left, &LIMITS) {
        Ok(Progress::Complete { message: after, consumed }) => {
            assert_eq!(consumed, left.len());
            assert_eq!(after.upgrade, Upgrade::None);
            assert_eq!(
                (after.method, after.target, after.host),
                (message.method, message.target, message.host)
            );
            assert_eq!((after.body, after.persistent), (message.body, message.persistent));
        }
        other => panic!("what is left is no request: {other:?}"),
    }
}

fn the_normal_form_has_the_same_readings(target: &str) {
    let mut readings = Readings::default();
    if readings.read(target, 8192).is_err() {
        assert_eq!(readings.iter().count(), 0);
        return;
    }
    let all = readings.iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert!(all.len() <= Readings::READINGS_MAX);
    let normal = str::from_utf8(&all[0]).expect("a reading of text is text");
    assert_eq!(readings.read(normal, 8192), Ok(()));
    assert!(readings.iter().eq(all.iter().map(Vec::as_slice)));
}
