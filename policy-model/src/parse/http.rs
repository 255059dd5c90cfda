//! HTTP rules as written: method, path, host and the list form of headers.
//!
//! Closed form: a rule of which any part can't be judged matches nothing; the other rules stand.

use super::diagnostic::{Complaints, Severity, Unreadable, quoted};
use super::place::{Fields, Place, Refused, Schema, Written};
use super::scope::Scope;
use crate::pattern;
use crate::rule::{HeaderMatch, HttpMatch, HttpRule};

const HTTP_RULE: Schema = Schema {
    what: "an HTTP rule",
    known: &["path", "method", "host", "headers"],
    refused: &[Refused::NotYet("headerMatches", "ask for headers with `headers`")],
    unknown: Severity::Error,
};

pub(super) fn read(place: &Place<'_>, scope: &Scope<'_>, complaints: &mut Complaints) -> HttpRule {
    let matches = matches(place, complaints);
    HttpRule {
        path: scope.inside(&place.path).into(),
        unjudgeable: matches.is_err(),
        matches: matches.unwrap_or_default(),
    }
}

fn matches(place: &Place<'_>, complaints: &mut Complaints) -> Result<HttpMatch, Unreadable> {
    let mut fields = place.fields(&HTTP_RULE, complaints)?;
    let path = regex("path", &mut fields, complaints);
    let method = regex("method", &mut fields, complaints);
    let host = regex("host", &mut fields, complaints);
    let headers = headers(fields.take("headers"), complaints);
    match fields.unknown || !fields.refused.is_empty() {
        true => Err(Unreadable),
        false => Ok(HttpMatch { method: method?, path: path?, host: host?, headers: headers? }),
    }
}

/// An empty pattern matches anything, as an absent one does.
fn regex(
    name: &str,
    fields: &mut Fields<'_>,
    complaints: &mut Complaints,
) -> Result<Option<Box<str>>, Unreadable> {
    let place = match fields.take(name) {
        Written::Absent => return Ok(None),
        Written::Unreadable => return Err(Unreadable),
        Written::Value(place) => place,
    };
    let text = place.string(complaints)?;
    if text.is_empty() {
        return Ok(None);
    }
    match pattern::check(text) {
        Ok(()) => Ok(Some(text.into())),
        Err(reason) => {
            let message = format!("{} is not a regular expression: {reason}", quoted(text));
            Err(place.error(complaints, message, "escape characters that are meant literally with `\\`"))
        }
    }
}

fn headers(written: Written<'_>, complaints: &mut Complaints) -> Result<Vec<HeaderMatch>, Unreadable> {
    match written {
        Written::Absent => Ok(Vec::new()),
        Written::Unreadable => Err(Unreadable),
        Written::Value(place) => {
            place.list(complaints)?.iter().map(|item| header(item, complaints)).collect()
        }
    }
}

/// Split at the first space: `X-Foo: bar` asks for a value, `X-Foo` for presence.
fn header(place: &Place<'_>, complaints: &mut Complaints) -> Result<HeaderMatch, Unreadable> {
    let text = place.string(complaints)?;
    let (name, value) = text.split_once(' ').map_or((text, None), |(name, value)| (name, Some(value)));
    let name = if value.is_some() { name.trim_end_matches(':') } else { name };
    if name.is_empty() {
        return Err(place.error(
            complaints,
            "the name of the header is missing",
            "write `X-Name: value` or `X-Name`",
        ));
    }
    if !name.bytes().all(is_token) {
        let message = format!("no request has a header called {}: the rule matches nothing", quoted(name));
        place.warn(complaints, message, "write `X-Name: value`, with a space, or `X-Name`");
    }
    Ok(HeaderMatch { name: name.to_ascii_lowercase().into(), value: value.map(Into::into) })
}

/// RFC 9110: "tchar".
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
