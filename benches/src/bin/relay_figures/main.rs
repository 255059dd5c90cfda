//! One figure: what a request costs the daemon, and an idle connection, beside a raw relay that looks at nothing.
//!
//! `relay_figures [REPETITIONS [SECONDS [SHAPE]]]` starts a backend, a relay and the daemon (mode `none`, one HTTP rule, one worker),
//! each its own process, and lets them serve the same load in turn. The proxy runs on one processor, client and backend on
//! the other one. Processor time is that of the proxy's threads (`schedstat`), which includes the network work its sends cause.

mod daemon;
mod load;
mod measure;
mod peers;

use daemon::Daemon;
use load::{Load, Shape};
use measure::{cpu_ns, median, pss_bytes};
use peers::Peer;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

const BACKEND: &str = "127.0.77.1:9080";
const RELAY: &str = "127.0.77.2:9081";
const DAEMON: &str = "127.0.77.11:8080";
/// The client's address: an endpoint that the rule lets in.
const CLIENT: &str = "127.0.77.21";
/// Load before that is weighed.
const WARM_UP: Duration = Duration::from_millis(200);
/// Idle connections whose memory is weighed.
const IDLE: usize = 4000;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["backend"] => peers::backend(address(BACKEND)),
        ["relay"] => peers::relay(address(RELAY), address(BACKEND)),
        numbers => {
            let number = |index: usize| numbers.get(index).and_then(|text| text.parse().ok());
            let only = numbers.get(2).copied().unwrap_or_default();
            compare(number(0).unwrap_or(5), Duration::from_secs(number(1).unwrap_or(2)), only)
        }
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_error| SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// A proxy under measurement.
struct Measured {
    name: &'static str,
    pid: u32,
    listener: SocketAddr,
}

/// Shapes whose name does not contain `only` are left out.
fn compare(repetitions: u64, time: Duration, only: &str) -> io::Result<()> {
    let _backend = Peer::spawn("backend", 0)?;
    let relay = Peer::spawn("relay", 1)?;
    let daemon = Daemon::spawn(1)?;
    let proxies = [
        Measured { name: "relay", pid: relay.pid(), listener: address(RELAY) },
        Measured { name: "sluiced", pid: daemon.pid(), listener: address(DAEMON) },
    ];
    let mut out = io::stdout().lock();
    for proxy in &proxies {
        let bytes = idle(proxy)?;
        writeln!(out, "{:<34} {:<7} {bytes} bytes", "an idle connection (PSS)", proxy.name)?;
    }
    for shape in Shape::ALL.into_iter().filter(|shape| shape.name().contains(only)) {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..repetitions {
            for (proxy, figures) in proxies.iter().zip(&mut figures) {
                figures.push(cost(proxy, shape, time)?);
            }
        }
        let [relay, sluiced] = figures.map(median);
        let ratio = sluiced / relay;
        let name = shape.name();
        writeln!(out, "{name:<34} relay {relay:>7.2} us   sluiced {sluiced:>7.2} us   ratio {ratio:.2}")?;
    }
    Ok(())
}

/// Microseconds of the proxy's processor time per request.
fn cost(proxy: &Measured, shape: Shape, time: Duration) -> io::Result<f64> {
    let mut load = Load::connect(proxy.listener, address_ip(CLIENT), shape)?;
    let _warm = load.run(time / 10)?;
    let before = cpu_ns(proxy.pid)?;
    let requests = load.run(time)?;
    let spent = cpu_ns(proxy.pid)?.saturating_sub(before);
    Ok(measure::ratio(spent, requests) / 1000.0)
}

/// Bytes of the proxy's own memory per connection that has served one request.
fn idle(proxy: &Measured) -> io::Result<u64> {
    // What a worker allocates once is no connection's.
    let _warm = cost(proxy, Shape::Tiny, WARM_UP)?;
    let before = pss_bytes(proxy.pid)?;
    let mut load = Load::connect_many(proxy.listener, address_ip(CLIENT), Shape::Tiny, IDLE)?;
    load.once()?;
    let after = pss_bytes(proxy.pid)?;
    Ok(after.saturating_sub(before) / u64::try_from(IDLE).unwrap_or(1))
}

fn address_ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))
}
