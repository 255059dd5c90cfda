//! Hosts and authorities: what may be one, and when two of them are the same.

use crate::http1::syntax::name_len;

/// Whether `authority` is a name or an address, and a port where there is a colon.
///
/// Narrower than RFC 3986: no user, no escapes, none of `!$&'()*+,;=`, no empty port. A comma is how a proxy joins two
/// Hosts, an `@` moves the host for some parsers, and no service has such a name.
pub(super) fn is_authority(authority: &[u8]) -> bool {
    let (host, port) = split(authority);
    !host.is_empty() && matches!(port, [] | [b':', _, ..]) && is_port(port.get(1..).unwrap_or_default())
}

/// Whether an absolute form's authority names the same host and port as Host does. Letter case does not count,
/// and the scheme's own port may be left out on either side.
pub(super) fn agree(authority: &[u8], host: &[u8], scheme_port: &[u8]) -> bool {
    let (one, one_port) = split(authority);
    let (other, other_port) = split(host);
    let or_default = |port: &[u8]| port.is_empty() || port.get(1..) == Some(scheme_port);
    one.eq_ignore_ascii_case(other)
        && (one_port == other_port || or_default(one_port) && or_default(other_port))
}

pub(super) fn has_port(authority: &[u8]) -> bool {
    !split(authority).1.is_empty()
}

/// The host, and what follows it: nothing, or a colon and a port, unless this is no authority.
fn split(authority: &[u8]) -> (&[u8], &[u8]) {
    let host_len = match authority {
        [b'[', rest @ ..] => address_len(rest).map_or(0, |len| len + 2),
        _ => name_len(authority),
    };
    authority.split_at_checked(host_len).unwrap_or_default()
}

/// Length of an IPv6 address (or of what can't be told from one by its letters) before its bracket.
fn address_len(bytes: &[u8]) -> Option<usize> {
    let len = bytes.iter().position(|byte| !byte.is_ascii_hexdigit() && !matches!(byte, b':' | b'.'))?;
    (len >= 2 && bytes.get(len) == Some(&b']')).then_some(len)
}

/// At most 65535; nothing is one too.
fn is_port(port: &[u8]) -> bool {
    let digits = |number: u32, digit: &u8| Some(number * 10 + char::from(*digit).to_digit(10)?);
    port.len() <= 5 && port.iter().try_fold(0, digits).is_some_and(|number| number <= 65_535)
}
