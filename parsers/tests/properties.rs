//! What holds for every input: nothing panics, splits change nothing, what is accepted means what it says, and the
//! readings of a target are those that a plain model of the rules finds.
#![cfg(test)]

use parsers::Progress;
use parsers::http1::head::{AnsweredMethod, Request, request, response};
use parsers::http1::{
    Body, BodyError, BodyLength, HeadError, HeadScan, Limits, Readings, TargetError, Upgrade,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::BTreeSet;

const LIMITS: Limits = Limits {
    head_bytes_max: 1024,
    fields_max: 12,
    path_bytes_max: 8192,
    chunk_line_bytes_max: 32,
    trailer_bytes_max: 128,
};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn splits_do_not_change_a_request(input in head_like(), splits in splits()) {
        let at_once = whole_request(&input, &[]);
        prop_assert_eq!(&whole_request(&input, &splits), &at_once);
        prop_assert_eq!(&whole_request(&input, &every_byte(&input)), &at_once);
    }

    #[test]
    fn splits_do_not_change_a_response(input in head_like(), splits in splits(), to_head: bool) {
        let to = if to_head { AnsweredMethod::Head } else { AnsweredMethod::Other };
        let at_once = whole_response(&input, to, &[]);
        prop_assert_eq!(&whole_response(&input, to, &splits), &at_once);
        prop_assert_eq!(&whole_response(&input, to, &every_byte(&input)), &at_once);
    }

    #[test]
    fn splits_do_not_change_a_body(input in body_like(), length in length(), splits in splits()) {
        let at_once = whole_body(length, &input, &[]);
        prop_assert_eq!(whole_body(length, &input, &splits), at_once);
        prop_assert_eq!(whole_body(length, &input, &every_byte(&input)), at_once);
    }

    /// What was refused or accepted is so whatever follows it.
    #[test]
    fn what_follows_does_not_change_a_request(input in head_like(), more in head_like()) {
        let alone = whole_request(&input, &[]);
        prop_assume!(alone != "Incomplete");
        prop_assert_eq!(whole_request(&[input, more].concat(), &[]), alone);
    }

    #[test]
    fn a_valid_request_reads_back(sent in sent_request()) {
        let bytes = sent.bytes();
        let request = accepted(&bytes).unwrap();
        prop_assert_eq!(request.method, &sent.method);
        prop_assert_eq!(request.origin, &sent.path);
        prop_assert_eq!(request.host, &sent.host);
        prop_assert_eq!(request.body, sent.body);
        prop_assert_eq!(request.persistent, !sent.close);
        let fields = request.fields().map(|field| (field.name.to_owned(), field.value.to_vec())).collect::<Vec<_>>();
        prop_assert_eq!(fields, sent.fields());
        for (name, _) in sent.fields() {
            let found = request.values(&name.to_ascii_uppercase()).collect::<Vec<_>>();
            let same = |field: &(String, Vec<u8>)| field.0.eq_ignore_ascii_case(&name);
            let expect = sent.fields().into_iter().filter(same).map(|field| field.1).collect::<Vec<_>>();
            prop_assert_eq!(found, expect);
        }
    }

    /// Whatever is accepted here, another parser accepts and reads in the same way.
    #[test]
    fn another_parser_agrees(input in head_like()) {
        if let Some(ours) = accepted(&input) {
            let mut fields = [httparse::EMPTY_HEADER; 16];
            let mut theirs = httparse::Request::new(&mut fields);
            prop_assert!(theirs.parse(&input).unwrap().is_complete());
            prop_assert_eq!(theirs.method, Some(ours.method));
            prop_assert_eq!(theirs.path, Some(ours.target));
            let theirs = theirs.headers.iter().map(|field| (field.name, field.value)).collect::<Vec<_>>();
            prop_assert_eq!(ours.fields().map(|field| (field.name, field.value)).collect::<Vec<_>>(), theirs);
        }
    }

    #[test]
    fn a_cut_offer_leaves_the_same_request(lines in prop::collection::vec(offer_line(), 0..6)) {
        let head = format!("GET /a HTTP/1.1\r\nHost: x\r\n{}\r\n", lines.concat());
        let before = accepted(head.as_bytes()).unwrap();
        if let Upgrade::H2c { cuts } = &before.upgrade {
            let mut left = head.clone();
            for cut in cuts.iter().rev() {
                left.replace_range(cut.clone(), "");
            }
            let after = accepted(left.as_bytes()).unwrap();
            prop_assert_eq!(&after.upgrade, &Upgrade::None);
            prop_assert_eq!(after.persistent, before.persistent);
            prop_assert_eq!(options(&after), options(&before).into_iter().filter(|option| !is_offer(option)).collect::<Vec<_>>());
            prop_assert_eq!(after.values("x").collect::<Vec<_>>(), before.values("x").collect::<Vec<_>>());
            prop_assert_eq!(after.values("http2-settings").count(), 0);
        }
    }

    #[test]
    fn chunks_read_back(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5), splits in splits()) {
        let mut input = Vec::new();
        for chunk in &chunks {
            input.extend(format!("{:x};a=b\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
        }
        input.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
        let len = input.len();
        input.extend_from_slice(b"GET / HTTP/1.1\r\n");
        prop_assert_eq!(whole_body(BodyLength::Chunked, &input, &splits), Ok((len, true)));
    }

    /// Skipping what may be skipped is the same as looking at it.
    #[test]
    fn skipped_bytes_count(input in body_like(), length in length()) {
        let mut body = Body::new(length);
        let mut taken = 0;
        let skipping = loop {
            let rest = &input[taken..];
            let unseen = usize::try_from(body.unseen()).unwrap_or(usize::MAX).min(rest.len());
            body.skip(u64::try_from(unseen).unwrap());
            taken += unseen;
            let Some(byte) = input.get(taken).filter(|_| !body.is_done()) else { break Ok((taken, body.is_done())) };
            match body.advance(&[*byte], &LIMITS) {
                Ok(advance) => taken += advance.taken,
                Err(error) => break Err(error),
            }
        };
        prop_assert_eq!(skipping, whole_body(length, &input, &[]));
    }

    /// A trailer field obeys the rules of a header field.
    #[test]
    fn trailers_obey_the_rules_of_fields(line in field_like()) {
        let head = [b"GET / HTTP/1.1\r\nHost: x\r\n".as_slice(), &line, b"\r\n\r\n"].concat();
        let body = [b"0\r\n".as_slice(), &line, b"\r\n\r\n"].concat();
        let limits = Limits { head_bytes_max: 65_536, trailer_bytes_max: 65_536, ..LIMITS };
        let in_head = request(&mut HeadScan::default(), &head, &limits).is_ok();
        let in_body = Body::new(BodyLength::Chunked).advance(&body, &limits).is_ok();
        prop_assert_eq!(in_head, in_body);
    }

    /// Extensions of chunks that are accepted are those of the grammar, and all of those are.
    #[test]
    fn extensions_are_those_of_the_grammar(extension in extension_like(), size in prop::sample::select(vec!["0", "1"])) {
        let line = format!("{size}{extension}\r\n");
        let taken = whole_body(BodyLength::Chunked, line.as_bytes(), &[]).is_ok();
        prop_assert_eq!(whole_body(BodyLength::Chunked, line.as_bytes(), &every_byte(line.as_bytes())).is_ok(), taken);
        prop_assert_eq!(taken, is_extensions(&extension), "{}", line);
    }

    #[test]
    fn readings_are_those_of_the_model(target in target_like()) {
        prop_assert_eq!(readings(&target).map(BTreeSet::from_iter), model(&target));
    }

    /// A decision about a path is the decision about its normal form.
    #[test]
    fn the_normal_form_has_the_same_readings(target in target_like()) {
        if let Ok(all) = readings(&target) {
            prop_assert_eq!(readings(&all[0]), Ok(all.clone()));
            for reading in &all {
                let of_reading = readings(reading).unwrap();
                prop_assert!(of_reading.iter().all(|one| all.contains(one)), "{} has more", reading);
            }
        }
    }
}

/// The same cases in every run; what else there is to find is for the fuzz target.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    }
}

// What is tried.

/// Bytes that are nearly a head: mutations of what parsers look at.
fn head_like() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        "GET / HTTP/1.1\r\nHost: x\r\n",
        "POST /a%2f..;b?c HTTP/1.0\r\n",
        "GET http://x:80/ HTTP/1.1\r\nHost: x\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 204\r\n",
        "",
    ]);
    let piece = prop::sample::select(vec![
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        ",",
        "\0",
        "\u{e9}",
        "a",
        "#",
        "/",
        "*",
        "GET ",
        "PRI ",
        "CONNECT x:1",
        " HTTP/1.1",
        "Host: x\r\n",
        "Host:",
        "Content-Length: 5\r\n",
        "Content-Length: ",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding:",
        "chunked",
        "Connection: ",
        "close",
        "keep-alive",
        "Upgrade",
        "Upgrade: h2c\r\n",
        "HTTP2-Settings: AA\r\n",
        "Expect: 100-continue\r\n",
        "X: y\r\n",
        "Y:  z\t\r\n",
        "\r\n\r\n",
    ]);
    let noise = prop_oneof![9 => piece.prop_map(|text: &str| text.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..4)];
    let end = prop::sample::select(vec!["\r\n", "\r\n\r\n", ""]);
    (start, prop::collection::vec(noise, 0..16), end)
        .prop_map(|(start, pieces, end)| [start.as_bytes(), &pieces.concat(), end.as_bytes()].concat())
}

fn body_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "0",
        "1",
        "5",
        "a",
        "F",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        ";",
        ";a=b",
        "=",
        "\"",
        "\\",
        " ",
        "\t",
        "hello",
        "x",
        ":",
        "A: b\r\n",
        "Host: x\r\n",
        "\0",
        "0\r\n\r\n",
        "5\r\nhello\r\n",
        "1;a\r\nx\r\n",
        "0\r\nA: b\r\n\r\n",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
}

fn extension_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        ";", ";a", "=b", "=\"", "\"", "\"", "\\", " ", "\t", "a", "~", "=", ",", "\0", "\x7f", "\u{e9}",
        "c=\"d\"",
    ]);
    prop::collection::vec(piece, 0..9).prop_map(|pieces| format!(";{}", pieces.concat()))
}

/// A field line of a name that means nothing, mostly.
fn field_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "X-A", "b", ":", ": ", " ", "\t", "\r", "\r\n", "\n", "\0", "\x7f", "\u{e9}", "(", "~", "\"", ",",
    ]);
    prop::collection::vec(piece, 1..7).prop_map(|pieces| pieces.concat().into_bytes())
}

fn target_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "a", "b", ".", "..", "%2e", "%2f", "%2F", "%5c", "\\", ";", ";x", "%41", "%20", "%25",
        "%00", "%", "?", "?a=/../", "%2", "%3b", "34", "2f", "%3f", "%3F", "%23", "%20", "%c0", "%e0", "%80",
        "@", "%0a",
    ]);
    prop::collection::vec(piece, 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn length() -> impl Strategy<Value = BodyLength> {
    prop_oneof![
        6 => Just(BodyLength::Chunked),
        1 => (0_u64..20).prop_map(BodyLength::Length),
        1 => Just(BodyLength::None),
        1 => Just(BodyLength::UntilClose),
    ]
}

fn splits() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::btree_set(0_usize..200, 0..6).prop_map(|splits| splits.into_iter().collect())
}

fn every_byte(input: &[u8]) -> Vec<usize> {
    (0..input.len()).collect()
}

fn offer_line() -> impl Strategy<Value = String> {
    let option = prop::sample::select(vec![
        "Upgrade",
        "HTTP2-Settings",
        "close",
        "keep-alive",
        "TE",
        "",
        " ",
        "upgrade ",
    ]);
    prop_oneof![
        3 => prop::collection::vec(option, 1..5).prop_map(|options| format!("Connection: {}\r\n", options.join(","))),
        2 => Just("Upgrade: h2c\r\n".to_owned()),
        1 => Just("HTTP2-Settings: AA\r\n".to_owned()),
        1 => Just("X: y\r\n".to_owned()),
    ]
}

#[derive(Clone, Debug)]
struct Sent {
    method: String,
    path: String,
    host: String,
    body: BodyLength,
    close: bool,
    more: Vec<(String, String)>,
}

fn sent_request() -> impl Strategy<Value = Sent> {
    let body = prop_oneof![
        Just(BodyLength::None),
        Just(BodyLength::Chunked),
        (0..=i64::MAX.unsigned_abs()).prop_map(BodyLength::Length)
    ];
    let more = prop::collection::vec(
        ("[xX]-[a-zA-Z!#$%&'*+.^_`|~0-9-]{0,8}", "([!-~\u{e9}]([ -~\t]{0,40}[!-~])?)?"),
        0..6,
    );
    (
        "[A-Z]{4,6}",
        "/[a-zA-Z0-9/._~%;?=&!$'()*+,:@-]{0,20}",
        "[a-z0-9.-]{1,12}(:[1-9][0-9]{0,3})?",
        body,
        any::<bool>(),
        more,
    )
        .prop_filter("methods that mean something else", |sent| {
            !["PRI", "CONNECT"].contains(&sent.0.as_str())
        })
        .prop_map(|(method, path, host, body, close, more)| Sent {
            method,
            path,
            host,
            body,
            close,
            more,
        })
}

impl Sent {
    fn fields(&self) -> Vec<(String, Vec<u8>)> {
        let mut fields = vec![("Host".to_owned(), self.host.clone())];
        fields.extend(self.more.iter().cloned());
        match self.body {
            BodyLength::Chunked => fields.push(("transfer-encoding".to_owned(), "chunked".to_owned())),
            BodyLength::Length(bytes) => fields.push(("Content-Length".to_owned(), bytes.to_string())),
            BodyLength::None | BodyLength::UntilClose => {}
        }
        if self.close {
            fields.push(("connection".to_owned(), "close".to_owned()));
        }
        fields.into_iter().map(|(name, value)| (name, value.into_bytes())).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        for (name, value) in self.fields() {
            bytes.extend([name.as_bytes(), b": ", &value, b"\r\n"].concat());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

// How it is read.

fn whole_request(input: &[u8], splits: &[usize]) -> String {
    let mut scan = HeadScan::default();
    first_outcome(input, splits, |prefix| request(&mut scan, prefix, &LIMITS).map(|read| format!("{read:?}")))
}

fn whole_response(input: &[u8], to: AnsweredMethod, splits: &[usize]) -> String {
    let mut scan = HeadScan::default();
    first_outcome(input, splits, |prefix| {
        response(&mut scan, prefix, to, &LIMITS).map(|read| format!("{read:?}"))
    })
}

fn first_outcome(
    input: &[u8],
    splits: &[usize],
    mut read: impl FnMut(&[u8]) -> Result<String, HeadError>,
) -> String {
    for end in splits.iter().filter(|end| **end < input.len()).chain([&input.len()]) {
        match read(&input[..*end]) {
            Ok(outcome) if outcome == "Incomplete" => {}
            Ok(outcome) => return outcome,
            Err(error) => return format!("{error:?}"),
        }
    }
    "Incomplete".to_owned()
}

fn whole_body(length: BodyLength, input: &[u8], splits: &[usize]) -> Result<(usize, bool), BodyError> {
    let mut body = Body::new(length);
    let mut taken = 0;
    for end in splits.iter().filter(|end| **end < input.len()).chain([&input.len()]) {
        if *end > taken {
            taken += body.advance(&input[taken..*end], &LIMITS)?.taken;
        }
    }
    Ok((taken, body.is_done()))
}

fn accepted(input: &[u8]) -> Option<Request<'_>> {
    let limits = Limits { head_bytes_max: 65_536, fields_max: 16, ..LIMITS };
    match request(&mut HeadScan::default(), input, &limits) {
        Ok(Progress::Complete { message, .. }) => Some(message),
        Ok(Progress::Incomplete) | Err(_) => None,
    }
}

fn options(request: &Request<'_>) -> Vec<String> {
    let lists = request.values("connection").collect::<Vec<_>>().join(b",".as_slice());
    let options = String::from_utf8(lists).unwrap();
    options.split(',').map(str::trim).filter(|option| !option.is_empty()).map(str::to_owned).collect()
}

fn is_offer(option: &str) -> bool {
    option.eq_ignore_ascii_case("upgrade") || option.eq_ignore_ascii_case("http2-settings")
}

fn readings(target: &str) -> Result<Vec<String>, TargetError> {
    let mut readings = Readings::default();
    readings.read(target, usize::MAX)?;
    Ok(readings.iter().map(|reading| String::from_utf8(reading.to_vec()).unwrap()).collect())
}

/// RFC 9112 section 7.1.1, by recursive descent, on ASCII.
fn is_extensions(text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    let Some(rest) = text.strip_prefix(';') else { return false };
    let Some(rest) = after_token(blank(rest)) else { return false };
    let Some(value) = blank(rest).strip_prefix('=') else { return is_more(rest) };
    let value = blank(value);
    after_token(value).or_else(|| after_quoted(value)).is_some_and(is_more)
}

/// Nothing, or whitespace and one more extension.
fn is_more(rest: &str) -> bool {
    rest.is_empty() || (blank(rest).starts_with(';') && is_extensions(blank(rest)))
}

fn blank(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

fn after_token(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c));
    (rest.len() < text.len()).then_some(rest)
}

fn after_quoted(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('"')?.chars();
    loop {
        match rest.next()? {
            '"' => return Some(rest.as_str()),
            '\\' => drop(rest.next().filter(|c| *c == '\t' || (' '..='~').contains(c))?),
            c => drop(Some(c).filter(|c| *c == '\t' || (' '..='~').contains(c))?),
        }
    }
}

// The model: the rules once more, as plainly as they can be said.

fn model(target: &str) -> Result<BTreeSet<String>, TargetError> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut all = BTreeSet::from([normal_form(path)? + query]);
    loop {
        let next =
            all.iter().flat_map(|path| steps(path)).chain(all.iter().cloned()).collect::<BTreeSet<_>>();
        if next.len() > Readings::READINGS_MAX {
            return Err(TargetError::TooManyReadings);
        }
        if next == all {
            return Ok(all);
        }
        all = next;
    }
}

fn normal_form(path: &str) -> Result<String, TargetError> {
    let mut parts = path.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, after) = part.split_at_checked(2).ok_or(TargetError::BrokenEscape)?;
        if !is_hex(digits) {
            return Err(TargetError::BrokenEscape);
        }
        match u8::from_str_radix(digits, 16).unwrap() {
            0 => return Err(TargetError::EscapedNul),
            1..0x20 | 0x7f => return Err(TargetError::EscapedControl),
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => out.push(char::from(byte)),
            _ => out.extend(["%", digits]),
        }
        out.push_str(after);
    }
    if out.split("%25").skip(1).any(|after| after.get(..2).is_some_and(is_hex)) {
        return Err(TargetError::EscapedEscape);
    }
    if is_overlong(&out) {
        return Err(TargetError::OverlongUtf8);
    }
    Ok(out)
}

/// No decoder of UTF-8, however careless, takes bytes beyond ASCII for a shorter form.
fn is_overlong(path: &str) -> bool {
    let mut bytes = Vec::new();
    let mut parts = path.split('%');
    bytes.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(part[2..].bytes());
    }
    (0..bytes.len()).any(|at| {
        let [first, second, rest @ ..] = &bytes[at..] else { return matches!(bytes[at], 0xc0 | 0xc1) };
        match first {
            0xc0 | 0xc1 => true,
            0xe0 => (0x80..=0x9f).contains(second) || (b"@A".contains(second) && !rest.is_empty()),
            0xf0 => (0x80..=0x8f).contains(second),
            _ => false,
        }
    })
}

fn is_hex(digits: &str) -> bool {
    digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn steps(target: &str) -> Vec<String> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let merged = path.split('/').skip(1).filter(|segment| !segment.is_empty()).collect::<Vec<_>>().join("/");
    let end = if path.ends_with('/') && !merged.is_empty() { "/" } else { "" };
    let spaces = |segment: &str| match segment.trim_end_matches("%20") {
        dots @ ("." | "..") => dots.to_owned(),
        _ => segment.to_owned(),
    };
    let dots = path.split('/').any(|segment| {
        let word = segment.split("%20").next().unwrap().split(';').next().unwrap();
        [".", ".."].contains(&word)
    });
    let before = |path: &str, mark: &str| path.split(mark).next().unwrap().to_owned();
    let hash = before(path, "%23");
    let (space, semicolon) =
        if dots { (before(path, "%20"), before(path, ";")) } else { (path.to_owned(), path.to_owned()) };
    let question = path.replace("%3F", "%3f");
    let mut all = vec![
        path.replace("%2f", "/").replace("%2F", "/"),
        path.replace("%5c", "\\").replace("%5C", "\\"),
        path.replace("%3b", ";").replace("%3B", ";"),
        path.replace('\\', "/"),
        format!("/{merged}{end}"),
        path.split('/').map(|segment| segment.split(';').next().unwrap()).collect::<Vec<_>>().join("/"),
        path.split('/').map(spaces).collect::<Vec<_>>().join("/"),
        without_dots(path),
        without_host(path),
        hash.clone(),
        space.clone(),
        semicolon,
    ];
    if let Some(at) = question.find("%3f") {
        all.extend([format!("{}?{}", &path[..at], &path[at + 3..]), path[..at].to_owned()]);
    }
    let mut all: Vec<String> = all.into_iter().map(|path| path + query).collect();
    all.extend([&hash, &space].into_iter().filter(|cut| *cut != path).cloned());
    all
}

fn without_host(path: &str) -> String {
    match path.strip_prefix("//").map(|behind| behind.split_once('/')) {
        None => path.to_owned(),
        Some(None) => "/".to_owned(),
        Some(Some((_host, behind))) => format!("/{behind}"),
    }
}

fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}
