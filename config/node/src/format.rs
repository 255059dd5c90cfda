//! What a string of the node file must look like, by the name of its `format` in the schema.

use core::net::{IpAddr, SocketAddr};

/// What is wrong with a string, and what to write instead.
pub(crate) type Complaint = (String, String);

/// # Errors
/// `text` is not of the format, or has it and is refused all the same.
pub(crate) fn check(format: &str, text: &str) -> Result<(), Complaint> {
    match format {
        "address" => address(text).map(drop),
        "interface" => interface(text),
        "label-key" => label_key(text),
        "label-value" => label_value(text),
        "log-level" => log_level(text),
        "name" => name(text, 253),
        "namespace" => name(text, 63),
        "network" => network(text).map(drop),
        "path" => path(text),
        "port" => port(text).map(drop),
        "port-name" => port_name(text),
        "socket" => socket(text).map(drop),
        _ => complain(format!("the format `{format}` is unknown"), "report this as a bug of sluice"),
    }
}

/// An address that one endpoint or node can own.
pub(crate) fn address(text: &str) -> Result<IpAddr, Complaint> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return match text.split_once('/') {
            Some((address, _)) => complain(
                format!("`{text}` is a network, not an address"),
                format!("write the address alone: `{address}`"),
            ),
            None => complain(
                format!("`{text}` is not an IPv4 or IPv6 address"),
                "write one such as `10.0.0.1` or `fd00::1`",
            ),
        };
    };
    not_mapped(text, address)?;
    if address.is_unspecified() || address.is_multicast() {
        return complain(format!("`{text}` can't be anybody's own address"), "write a unicast address");
    }
    Ok(address)
}

/// An IPv4-mapped address is IPv4 to some and IPv6 to others: a rule for one family would miss the other's packets.
fn not_mapped(text: &str, address: IpAddr) -> Result<(), Complaint> {
    match address.to_canonical() {
        canonical if canonical == address => Ok(()),
        canonical => {
            complain(format!("`{text}` is an IPv4-mapped IPv6 address"), format!("write it as `{canonical}`"))
        }
    }
}

pub(crate) fn network(text: &str) -> Result<(IpAddr, u8), Complaint> {
    let Some((address, length)) = text.split_once('/') else {
        return complain(
            format!("`{text}` has no prefix length"),
            format!("write the network, such as `{text}/24`"),
        );
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return complain(
            format!("`{address}` is not an IPv4 or IPv6 address"),
            "write a network such as `10.0.0.0/16` or `fd00::/64`",
        );
    };
    not_mapped(&address.to_string(), address)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let Some(length) = length.parse::<u8>().ok().filter(|length| digits && *length <= bits) else {
        return complain(
            format!("`{length}` is not a prefix length"),
            format!("write a number from 0 to {bits} behind the `/`"),
        );
    };
    match first_of(address, length) {
        first if first == address => Ok((address, length)),
        first => complain(
            format!("`{text}` has bits behind its prefix"),
            format!("write it as `{first}/{length}`"),
        ),
    }
}

/// Whether `address` lies in the network.
pub(crate) fn contains((first, length): (IpAddr, u8), address: IpAddr) -> bool {
    first.is_ipv4() == address.is_ipv4() && first_of(address, length) == first
}

fn first_of(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(length.into())).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length.into())).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

pub(crate) fn socket(text: &str) -> Result<SocketAddr, Complaint> {
    let Ok(socket) = text.parse::<SocketAddr>() else {
        return complain(
            format!("`{text}` is not an address with a port"),
            "write it such as `127.0.0.1:8080` or `[::1]:8080`; names are not looked up",
        );
    };
    not_mapped(text, socket.ip())?;
    match socket.port() {
        0 => complain(format!("`{text}` has port 0"), "write the port, from 1 to 65535"),
        _ => Ok(socket),
    }
}

/// `80/TCP`.
pub(crate) fn port(text: &str) -> Result<(u16, String), Complaint> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
    let protocol = protocol.to_ascii_uppercase();
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    let number = number.parse().ok().filter(|number| digits && *number != 0);
    match number {
        Some(number) if ["SCTP", "TCP", "UDP"].contains(&protocol.as_str()) => Ok((number, protocol)),
        Some(_) | None => complain(
            format!("`{text}` is not a port with its protocol"),
            "write it such as `80/TCP`; the protocols are SCTP, TCP and UDP",
        ),
    }
}

/// As the services of /etc/services are named: that is what policies may write for a port.
fn port_name(text: &str) -> Result<(), Complaint> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = (1..=15).contains(&text.len())
        && text.bytes().all(inner)
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--");
    if fits {
        return Ok(());
    }
    complain(
        format!("`{text}` can't name a port"),
        "write 1 to 15 lower-case letters, digits and single dashes, at least one letter among them",
    )
}

/// What Kubernetes takes for names; `/` separates namespace and name elsewhere.
fn name(text: &str, length_max: usize) -> Result<(), Complaint> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let edges = edge(text.bytes().next()) && edge(text.bytes().last());
    if text.len() <= length_max && text.bytes().all(inner) && edges {
        return Ok(());
    }
    complain(
        format!("`{text}` can't be a name"),
        format!(
            "write at most {length_max} lower-case letters, digits, `-` and `.`, a letter or digit at each end"
        ),
    )
}

/// The kernel's own bounds: 15 bytes, no slash, no space.
fn interface(text: &str) -> Result<(), Complaint> {
    let inner = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    if (1..=15).contains(&text.len()) && text.bytes().all(inner) && text != "." && text != ".." {
        return Ok(());
    }
    complain(
        format!("`{text}` can't be an interface"),
        "write 1 to 15 characters without `/`, `:` or spaces, as `ip link` shows it",
    )
}

/// Sources that say what an address is, not what somebody named it: an endpoint may not claim them.
const RESERVED_SOURCES: &[&str] = &["any", "cidr", "cidrgroup", "fqdn", "node", "reserved"];
const NAMESPACE_KEY: &str = "io.kubernetes.pod.namespace";

fn label_key(text: &str) -> Result<(), Complaint> {
    let (source, key) = text.split_once(':').unwrap_or(("k8s", text));
    if RESERVED_SOURCES.contains(&source) {
        return complain(
            format!("the source `{source}` can't be given to an endpoint"),
            format!("write `{key}`, which means `k8s:{key}`"),
        );
    }
    if key == NAMESPACE_KEY {
        return complain(
            format!("`{NAMESPACE_KEY}` is made from the endpoint's namespace"),
            "write `namespace = \"...\"` at the endpoint instead",
        );
    }
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    let source_fits = !source.is_empty() && source.bytes().all(|b| b.is_ascii_alphanumeric());
    if source_fits && (1..=317).contains(&key.len()) && key.bytes().all(inner) {
        return Ok(());
    }
    complain(
        format!("`{text}` can't be a label's key"),
        "write letters, digits, `-`, `_`, `.` and `/`, with at most one source before a `:`",
    )
}

fn label_value(text: &str) -> Result<(), Complaint> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.len() <= 63 && text.bytes().all(inner) {
        return Ok(());
    }
    complain(
        format!("`{text}` can't be a label's value"),
        "write at most 63 letters, digits, `-`, `_` and `.`",
    )
}

/// The log library would take any word for the name of a part of the program, and log nothing of all others.
fn log_level(text: &str) -> Result<(), Complaint> {
    let is_level = |word: &str| ["error", "warn", "info", "debug", "trace", "off"].contains(&word);
    let is_part = |part: &str| is_level(part.rsplit('=').next().unwrap_or_default());
    if text.split(',').all(is_part) && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    complain(
        format!("`{text}` is not a log level"),
        "write `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,sluiced=debug`",
    )
}

fn path(text: &str) -> Result<(), Complaint> {
    if text.is_empty() || text.contains('\0') {
        return complain(
            format!("`{}` is not a path", text.escape_debug()),
            "write the path of a file or directory",
        );
    }
    Ok(())
}

fn complain<T>(message: impl Into<String>, fix: impl Into<String>) -> Result<T, Complaint> {
    Err((message.into(), fix.into()))
}
