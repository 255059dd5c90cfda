//! The question of `policy explain`: names to addresses, and a request as a client would send it, put to a snapshot. The
//! daemon asks the snapshot in force, the command line one that it resolved itself.

use crate::Reason;
use crate::api::ExplainRequest;
use crate::denial;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use parsers::http1::Readings;
use policy_model::explain::{self, Explanation};
use policy_model::http::{Headers, Request};
use policy_model::rule::Protocol;
use policy_model::snapshot::Endpoint;
use policy_model::{Flow, IdentityId, Snapshot};

/// The question can't be answered; the text says what to ask instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExplainError {
    AmbiguousParty(String),
    BadHeader(String),
    /// The target, and the reason that a client would be answered 400 or 414 for.
    BadTarget(String, Reason),
    NoCommonFamily(String, String),
    UnknownParty(String),
    UnknownProtocol(String),
}

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AmbiguousParty(text) => {
                write!(f, "`{text}` is an endpoint in more than one namespace: write `namespace/{text}`")
            }
            Self::BadHeader(line) => write!(f, "header `{line}` is not `Name: value`"),
            Self::BadTarget(target, reason) => {
                write!(
                    f,
                    "a request on `{target}` is refused with {} whatever policy says: {}",
                    denial::status(*reason),
                    reason.name()
                )
            }
            Self::NoCommonFamily(from, to) => {
                write!(f, "`{from}` and `{to}` have no address of the same family")
            }
            Self::UnknownParty(text) => write!(
                f,
                "`{text}` is no endpoint of this node, no address and no reserved name (`host`, `world`)"
            ),
            Self::UnknownProtocol(name) => {
                write!(f, "protocol `{name}` is none of TCP, UDP, SCTP, ICMP, ICMPv6")
            }
        }
    }
}

impl core::error::Error for ExplainError {}

/// `path_bytes_max`: of the node's limits.
///
/// # Errors
/// A name, the target or a header of the question means nothing.
pub fn explain(
    snapshot: &Snapshot,
    path_bytes_max: usize,
    question: &ExplainRequest,
) -> Result<Explanation, ExplainError> {
    let (source, destination) = addresses(snapshot, &question.from, &question.to)?;
    let protocol = protocol(question.protocol.as_deref().unwrap_or("TCP"))?;
    let flow = Flow { source, destination, port: question.port, protocol };
    if question.method.is_none() && question.path.is_none() {
        return Ok(explain::explain(snapshot, &flow, None));
    }
    let path = question.path.as_deref().unwrap_or("/");
    let mut readings = Readings::default();
    readings
        .read(path, path_bytes_max)
        .map_err(|error| ExplainError::BadTarget(path.into(), Reason::from(error)))?;
    let headers = headers(&question.headers)?;
    let requests: Vec<Request<'_>> = readings
        .iter()
        .map(|target| Request {
            method: question.method.as_deref().unwrap_or("GET").as_bytes(),
            target,
            host: question.host.as_deref().unwrap_or_default().as_bytes(),
            headers: &headers,
        })
        .collect();
    Ok(explain::explain(snapshot, &flow, Some(&requests)))
}

/// Addresses of both, of one family where there is a choice: IPv4 first.
fn addresses(snapshot: &Snapshot, from: &str, to: &str) -> Result<(IpAddr, IpAddr), ExplainError> {
    let (sources, destinations) = (party(snapshot, from)?, party(snapshot, to)?);
    let pairs = sources.iter().flat_map(|source| destinations.iter().map(move |to| (*source, *to)));
    pairs
        .filter(|(source, destination)| source.is_ipv4() == destination.is_ipv4())
        .min_by_key(|(source, _destination)| source.is_ipv6())
        .ok_or_else(|| ExplainError::NoCommonFamily(from.into(), to.into()))
}

fn party(snapshot: &Snapshot, text: &str) -> Result<Vec<IpAddr>, ExplainError> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let mut named = snapshot.endpoints().iter().filter(|endpoint| is_named(endpoint, text));
    match (named.next(), named.next()) {
        (Some(endpoint), None) => return Ok(endpoint.inputs.addresses.clone()),
        (Some(_), Some(_)) => return Err(ExplainError::AmbiguousParty(text.into())),
        (None, _) => {}
    }
    let reserved = match text.trim_start_matches("reserved:") {
        "host" => of_identity(snapshot, IdentityId::HOST),
        "world" => outside(snapshot),
        _other => Vec::new(),
    };
    if reserved.is_empty() { Err(ExplainError::UnknownParty(text.into())) } else { Ok(reserved) }
}

fn is_named(endpoint: &Endpoint, text: &str) -> bool {
    match text.split_once('/') {
        Some((namespace, name)) => *endpoint.inputs.namespace == *namespace && *endpoint.inputs.name == *name,
        None => *endpoint.inputs.name == *text,
    }
}

/// Whether `text` is an endpoint's name, `namespace/name` or number.
pub fn is_endpoint(endpoint: &Endpoint, text: &str) -> bool {
    is_named(endpoint, text) || text.parse() == Ok(endpoint.id)
}

fn of_identity(snapshot: &Snapshot, identity: IdentityId) -> Vec<IpAddr> {
    let of_it = snapshot.ipcache().filter(|(_prefix, id)| *id == identity);
    of_it.map(|(prefix, _id)| prefix.address()).collect()
}

/// One address of each family that nobody here claims and no policy names: those that are kept for documentation.
fn outside(snapshot: &Snapshot) -> Vec<IpAddr> {
    let examples = [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1)),
    ];
    examples.into_iter().filter(|address| is_world(snapshot.identity_of(*address).id)).collect()
}

fn is_world(id: IdentityId) -> bool {
    [IdentityId::WORLD, IdentityId::WORLD_IPV4, IdentityId::WORLD_IPV6].contains(&id)
}

fn protocol(name: &str) -> Result<Protocol, ExplainError> {
    match name.to_ascii_uppercase().as_str() {
        "ICMP" => Ok(Protocol::ICMP),
        "ICMPV6" => Ok(Protocol::ICMPV6),
        "SCTP" => Ok(Protocol::SCTP),
        "TCP" => Ok(Protocol::TCP),
        "UDP" => Ok(Protocol::UDP),
        _other => Err(ExplainError::UnknownProtocol(name.into())),
    }
}

#[derive(Debug)]
struct Given(Vec<(String, String)>);

impl Headers for Given {
    fn each(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.iter().for_each(|(name, value)| each(name.as_bytes(), value.as_bytes()));
    }
}

fn headers(written: &[String]) -> Result<Given, ExplainError> {
    let split = |line: &String| match line.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        Some(_) | None => Err(ExplainError::BadHeader(line.clone())),
    };
    written.iter().map(split).collect::<Result<_, _>>().map(Given)
}
