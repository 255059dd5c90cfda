//! Which ports an entry speaks of, and what is asked of the requests on them.
//!
//! Closed form: an element of toPorts that can't be read grants nothing in an allow entry, and in a deny entry makes it
//! cover every port. Rules of a kind that is not understood keep their ports inspected and every request denied.

use super::diagnostic::{Complaints, Severity, Unreadable, quoted};
use super::http;
use super::place::{Place, Refused, Schema, Written, nearest};
use super::scope::{ANY, Effect, Scope};
use super::tree::Value;
use crate::rule::{L7, Port, PortMatch, PortRule, Ports, Protocol};

const PORTS_MAX: usize = 40;

const TLS_FIX: &str = "leave it out; until it is supported the entry grants nothing";

const ALLOW_RULE: Schema = Schema {
    what: "an element of `toPorts`",
    known: &["ports", "rules"],
    refused: &[
        Refused::NotYet("listener", TLS_FIX),
        Refused::NotYet("originatingTLS", TLS_FIX),
        Refused::NotYet("serverNames", TLS_FIX),
        Refused::NotYet("terminatingTLS", TLS_FIX),
    ],
    unknown: Severity::Error,
};

const DENY_FIX: &str = "a deny entry denies whole ports; write what is allowed instead";

/// Everything refused here could only narrow what is denied.
const DENY_RULE: Schema = Schema {
    what: "an element of `toPorts` in a deny entry",
    known: &["ports"],
    refused: &[
        Refused::Misplaced("listener", DENY_FIX),
        Refused::Misplaced("originatingTLS", DENY_FIX),
        Refused::Misplaced("rules", DENY_FIX),
        Refused::Misplaced("serverNames", DENY_FIX),
        Refused::Misplaced("terminatingTLS", DENY_FIX),
    ],
    unknown: Severity::Error,
};

const PORT: Schema = Schema {
    what: "a port",
    known: &["port", "endPort", "protocol"],
    refused: &[],
    unknown: Severity::Error,
};

const L7_FIX: &str = "write `http` rules, or leave `rules` out";

const L7_RULES: Schema = Schema {
    what: "`rules`",
    known: &["http"],
    refused: &[
        Refused::NotYet("dns", L7_FIX),
        Refused::NotYet("kafka", L7_FIX),
        Refused::NotYet("l7", L7_FIX),
        Refused::NotYet("l7proto", L7_FIX),
    ],
    unknown: Severity::Error,
};

const PROTOCOLS: [&str; 4] = ["TCP", "UDP", "SCTP", "ANY"];
const PROTOCOLS_REFUSED: [&str; 9] = ["ICMP", "ICMPV6", "VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH"];

/// The ports of one entry. An empty list is no list.
pub(super) fn read(
    written: Written<'_>,
    scope: &Scope<'_>,
    effect: Effect,
    complaints: &mut Complaints,
) -> Result<Ports, Unreadable> {
    let place = match written {
        Written::Absent => return Ok(Ports::All),
        Written::Unreadable => return Err(Unreadable),
        Written::Value(place) => place,
    };
    let items = place.list(complaints)?;
    if items.is_empty() {
        return Ok(Ports::All);
    }
    let mut rules = Vec::new();
    let mut unreadable = false;
    for item in items {
        match (port_rule(&item, scope, effect, complaints), effect) {
            (Ok(rule), _) => rules.push(rule),
            (Err(Unreadable), Effect::Allow) => rules.push(closed(&item, scope)),
            (Err(Unreadable), Effect::Deny) => unreadable = true,
        }
    }
    match unreadable {
        true => Err(Unreadable),
        false => Ok(Ports::Of(rules)),
    }
}

/// An element that grants nothing.
fn closed(place: &Place<'_>, scope: &Scope<'_>) -> PortRule {
    PortRule { path: scope.inside(&place.path).into(), ports: Vec::new(), l7: L7::Unjudgeable }
}

fn port_rule(
    place: &Place<'_>,
    scope: &Scope<'_>,
    effect: Effect,
    complaints: &mut Complaints,
) -> Result<PortRule, Unreadable> {
    let schema = if effect == Effect::Allow { &ALLOW_RULE } else { &DENY_RULE };
    let mut fields = place.fields(schema, complaints)?;
    let ports = ports(fields.take("ports"), place, effect, complaints);
    let l7 = l7(fields.take("rules"), scope, complaints);
    let (written, inspected) = (ports?, !matches!(l7, L7::None));
    if fields.unknown || (effect == Effect::Allow && !fields.refused.is_empty()) {
        return Err(Unreadable);
    }
    if let L7::Http(_) = l7 {
        written.iter().try_for_each(|port| port.may_carry_http(complaints))?;
    }
    // Rules that can't be judged are about what can be inspected: TCP.
    let ports =
        written.into_iter().flat_map(|w| w.matches).filter(|m| !inspected || m.protocol == Protocol::TCP);
    Ok(PortRule { path: scope.inside(&place.path).into(), ports: ports.collect(), l7 })
}

/// One element of `ports`.
struct WrittenPort<'t> {
    place: Place<'t>,
    matches: Vec<PortMatch>,
}

impl WrittenPort<'_> {
    fn may_carry_http(&self, complaints: &mut Complaints) -> Result<(), Unreadable> {
        if !matches!(self.matches[..], [PortMatch { protocol: Protocol::TCP, .. }]) {
            let message = "HTTP rules apply to TCP only, not to other protocols or `ANY`";
            return Err(self.place.error(complaints, message, "write `protocol: TCP`"));
        }
        if matches!(self.matches[..], [PortMatch { port: Port::Range(0, _), .. }]) {
            return Err(self.place.error(
                complaints,
                "HTTP rules need a port; 0 is every port",
                "write the port",
            ));
        }
        Ok(())
    }
}

fn ports<'t>(
    written: Written<'t>,
    rule: &Place<'_>,
    effect: Effect,
    complaints: &mut Complaints,
) -> Result<Vec<WrittenPort<'t>>, Unreadable> {
    let place = match written {
        Written::Absent => {
            let message = "an element of `toPorts` without `ports` covers no port at all";
            rule.warn(complaints, message, "list the `ports`; port \"0\" is every port");
            return Ok(Vec::new());
        }
        Written::Unreadable => return Err(Unreadable),
        Written::Value(place) => place,
    };
    let items = place.list(complaints)?;
    if items.len() > PORTS_MAX {
        let message = format!("too many ports: {} are written, {PORTS_MAX} are the most", items.len());
        let error = place.error(complaints, message, "split them into several elements of `toPorts`");
        // A deny entry covers them all the same.
        if effect == Effect::Allow {
            return Err(error);
        }
    }
    let mut ports = Vec::new();
    for item in items {
        match port(&item, complaints) {
            Ok(matches) => ports.push(WrittenPort { place: item, matches }),
            Err(Unreadable) if effect == Effect::Allow => {}
            Err(Unreadable) => return Err(Unreadable),
        }
    }
    Ok(ports)
}

fn port(place: &Place<'_>, complaints: &mut Complaints) -> Result<Vec<PortMatch>, Unreadable> {
    let mut fields = place.fields(&PORT, complaints)?;
    // Before the port: a protocol without ports is refused by its own name.
    let protocols = protocols(fields.take("protocol"), complaints);
    let last = last_port(fields.take("endPort"), complaints);
    let first = match (fields.take("port"), protocols) {
        (Written::Absent, Err(Unreadable)) | (Written::Unreadable, _) => Err(Unreadable),
        (Written::Absent, Ok(_)) => {
            let fix = "write a number or a name as a string; \"0\" is every port";
            Err(place.error(complaints, "the port must be specified", fix))
        }
        (Written::Value(place), _) => first_port(&place, complaints),
    };
    let port = match (first?, last?) {
        (Port::Range(0, _), None) => Port::Range(0, u16::MAX),
        (Port::Range(0, _), Some(_)) => {
            let message = "port 0 is every port, and takes no `endPort`";
            return Err(place.error(complaints, message, "leave `endPort` out, or begin at port 1"));
        }
        (Port::Range(first, _), Some(last)) if last > first => Port::Range(first, last),
        (Port::Range(first, _), Some(last)) if last < first => {
            place.warn(
                complaints,
                format!("`endPort` {last} lies before port {first} and is ignored"),
                "swap them",
            );
            Port::Range(first, first)
        }
        (Port::Named(name), Some(last @ 1..)) => {
            let message =
                "a range from a named port is followed in ingress only; in egress it is that one port";
            place.warn(complaints, message, "write the first port as a number");
            Port::NamedRange(name, last)
        }
        (port, _) => port,
    };
    let protocols = protocols?;
    match fields.unknown {
        true => Err(Unreadable),
        false => Ok(protocols
            .iter()
            .map(|protocol| PortMatch { protocol: *protocol, port: port.clone() })
            .collect()),
    }
}

fn first_port(place: &Place<'_>, complaints: &mut Complaints) -> Result<Port, Unreadable> {
    let text = match &place.node.value {
        // Without a leading zero a number means the same with and without quotes.
        Value::Number(text)
            if text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0')) =>
        {
            place.warn(complaints, "Kubernetes wants the port as a string", format!("write {text:.5?}"));
            text
        }
        Value::Ambiguous(_)
        | Value::Bool(_)
        | Value::List(_)
        | Value::Map(_)
        | Value::Null
        | Value::Number(_)
        | Value::Text(_) => place.string(complaints)?,
    };
    port_text(text, place, complaints)
}

/// A service name (RFC 6335) is a named port, so `0x50` is one; anything else must be a number.
fn port_text(text: &str, place: &Place<'_>, complaints: &mut Complaints) -> Result<Port, Unreadable> {
    if is_service_name(text) {
        return Ok(Port::Named(text.to_ascii_lowercase().into()));
    }
    let octal = text.len() > 1 && text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = u16::from_str_radix(text, if octal { 8 } else { 10 });
    match number {
        Ok(number) if digits => {
            if octal {
                place.warn(
                    complaints,
                    format!("a leading zero makes it octal: this is port {number}"),
                    format!("write \"{number}\""),
                );
            }
            Ok(Port::Range(number, number))
        }
        Ok(_) | Err(_) if text.is_empty() => {
            Err(place.error(complaints, "the port must be specified", "\"0\" is every port"))
        }
        Ok(_) | Err(_) => {
            let fix = "write a number up to 65535, or a name of at most 15 letters, digits and single dashes";
            Err(place.error(complaints, format!("{} is not a port", quoted(text)), fix))
        }
    }
}

fn is_service_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && text.bytes().any(|b| b.is_ascii_alphabetic())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

fn last_port(written: Written<'_>, complaints: &mut Complaints) -> Result<Option<u16>, Unreadable> {
    let place = match written {
        Written::Absent => return Ok(None),
        Written::Unreadable => return Err(Unreadable),
        Written::Value(place) => place,
    };
    let number = match &place.node.value {
        Value::Number(text) if !(text.len() > 1 && text.starts_with('0')) => text.parse().ok(),
        Value::Ambiguous(_)
        | Value::Bool(_)
        | Value::List(_)
        | Value::Map(_)
        | Value::Null
        | Value::Number(_)
        | Value::Text(_) => None,
    };
    number.map(Some).ok_or_else(|| {
        let message = format!("a number from 0 to 65535 is needed, this is {}", place.node.value.noun());
        place.error(complaints, message, "write the last port of the range without quotes")
    })
}

fn protocols(written: Written<'_>, complaints: &mut Complaints) -> Result<&'static [Protocol], Unreadable> {
    let place = match written {
        Written::Absent => return Ok(&ANY),
        Written::Unreadable => return Err(Unreadable),
        Written::Value(place) => place,
    };
    let text = place.string(complaints)?;
    match text {
        "ANY" => Ok(&ANY),
        "SCTP" => Ok(&[Protocol::SCTP]),
        "TCP" => Ok(&[Protocol::TCP]),
        "UDP" => Ok(&[Protocol::UDP]),
        _ if PROTOCOLS_REFUSED.contains(&text) => Err(place.error(
            complaints,
            format!("not supported yet: protocol `{text}`"),
            format!("one of {}", PROTOCOLS.join(", ")),
        )),
        _ => {
            let fix = match nearest(text, PROTOCOLS.into_iter()) {
                Some(name) => format!("write `{name}`"),
                None => format!("one of {}", PROTOCOLS.join(", ")),
            };
            Err(place.error(complaints, format!("unknown protocol {}", quoted(text)), fix))
        }
    }
}

/// `http: []` asks for nothing, as upstream has it; its schema wants one kind of rules to be there.
fn l7(written: Written<'_>, scope: &Scope<'_>, complaints: &mut Complaints) -> L7 {
    let place = match written {
        Written::Absent => return L7::None,
        Written::Unreadable => return L7::Unjudgeable,
        Written::Value(place) => place,
    };
    let Ok(mut fields) = place.fields(&L7_RULES, complaints) else {
        return L7::Unjudgeable;
    };
    let http = match fields.take("http") {
        Written::Absent => Ok(None),
        Written::Unreadable => Err(Unreadable),
        Written::Value(place) => place.list(complaints).map(|items| Some((place, items))),
    };
    let refused = fields.unknown || !fields.refused.is_empty();
    match http {
        Err(Unreadable) => L7::Unjudgeable,
        Ok(None) if refused => L7::Unjudgeable,
        Ok(None) => {
            let _unreadable = place.error(complaints, "`rules` without any kind of rules", L7_FIX);
            L7::Unjudgeable
        }
        Ok(Some((list, items))) => {
            if items.is_empty() {
                list.warn(
                    complaints,
                    "an empty list asks for nothing: every request is allowed",
                    "list the rules",
                );
            } else if !fields.refused.is_empty() {
                let message = "rules of several protocols in one element";
                let _unreadable =
                    place.error(complaints, message, "write one element of `toPorts` for each protocol");
            }
            let rules: Vec<_> = items.iter().map(|item| http::read(item, scope, complaints)).collect();
            match (refused, rules.is_empty()) {
                (true, _) => L7::Unjudgeable,
                (false, true) => L7::None,
                (false, false) => L7::Http(rules),
            }
        }
    }
}
