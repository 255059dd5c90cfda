//! The four pods and the daemon, and what these suites ask of them.

use e2e::daemon::Daemon;
use e2e::netns::Namespace;
use e2e::pods::{Family, Node, STAR_WARS};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Longer than anything takes that is not dropped; what is dropped is waited for this long.
pub(crate) const WAIT: Duration = Duration::from_secs(2);

/// Nobody may open anything to tiefighters: what still reaches them are answers.
pub(crate) const DEAF_TIEFIGHTERS: &str = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
metadata: {name: rule3, namespace: default}\nspec: {endpointSelector: {matchLabels: {class: tiefighter}}, ingress: [{}]}\n";

pub(crate) struct Stage {
    pub(crate) node: Node,
    pub(crate) daemon: Daemon,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let node = Node::new(&STAR_WARS).unwrap();
        let daemon = Daemon::start(&node).unwrap();
        Self { node, daemon }
    }

    pub(crate) fn apply(&self, name: &str, policy: &str) {
        let _revision = self.daemon.apply(name, policy).unwrap();
    }

    pub(crate) fn pod(&self, name: &str) -> &Namespace {
        &self.node.pod(name).namespace
    }

    pub(crate) fn ip(&self, pod: &str, family: Family) -> IpAddr {
        self.node.pod(pod).spec.address(family)
    }

    pub(crate) fn at(&self, pod: &str, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(pod, family), port)
    }

    /// A connection from this address of the pod. An earlier one from there is over only when the last acknowledgement has come,
    /// and no process that was just started has a copy of it: until then the address is not free.
    pub(crate) fn connect(&self, pod: &str, from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
        let asked = Instant::now();
        loop {
            match self.pod(pod).run(move || connect(from, to)).unwrap() {
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable && asked.elapsed() < WAIT => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                connected => return connected,
            }
        }
    }

    /// A datagram socket of the pod that talks to one address.
    pub(crate) fn datagrams(&self, pod: &str, from: SocketAddr, to: SocketAddr) -> UdpSocket {
        let socket = self.pod(pod).run(move || UdpSocket::bind(from).unwrap()).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        socket
    }

    /// Waits until a drop is recorded: why, and from where.
    pub(crate) fn wait_for_drop(&self, reason: &str, source: IpAddr) {
        let _record = self.drop_record(reason, source);
    }

    /// As [`Stage::wait_for_drop`]: the record.
    pub(crate) fn drop_record(&self, reason: &str, source: IpAddr) -> serde_json::Value {
        let recorded = |_: &Daemon| self.find_drop(reason, source).is_some();
        self.daemon.wait_until(&format!("{source}: {reason}"), recorded).unwrap();
        self.find_drop(reason, source).unwrap()
    }

    /// The record of a drop, if there is one.
    pub(crate) fn find_drop(&self, reason: &str, source: IpAddr) -> Option<serde_json::Value> {
        self.daemon.flows().unwrap().into_iter().find(|flow| {
            flow["verdict"] == "dropped"
                && flow["reason"] == reason
                && flow["source"]["address"] == source.to_string()
        })
    }

    pub(crate) fn identity(&self, pod: &str) -> serde_json::Value {
        let shown = self.daemon.sluice(&["endpoint", "get", pod, "-o", "json"]).unwrap();
        serde_json::from_str::<serde_json::Value>(&shown).unwrap()["identity"].clone()
    }
}

fn connect(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&from.into())?;
    socket.connect_timeout(&to.into(), WAIT)?;
    socket.set_read_timeout(Some(WAIT))?;
    Ok(socket.into())
}
