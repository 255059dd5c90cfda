//! Where attacks happen: a server behind Sluice, the same server without policy, an attacker and a victim.

use crate::daemon::Daemon;
use crate::deathstar::Deathstar;
use crate::echo;
use crate::netns::Namespace;
use crate::pods::{Family, NODE_V4, Node, PodSpec, pod};
use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// `[limits] connections`.
    pub connections: usize,
    /// Of the victim, in one round.
    pub asks: usize,
    pub rounds: usize,
    /// Of an attack, in one round.
    pub actions_max: usize,
}

/// Seconds, for `make test`: who is answered, and what is counted.
pub const SHORT: Scale = Scale { connections: 200, asks: 40, rounds: 1, actions_max: 3_000 };
/// For `make fair`, which measures.
pub const WHOLE: Scale = Scale { connections: 2_000, asks: 400, rounds: 3, actions_max: 150_000 };

/// Where an attack bears down on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The same load, to a pod that no policy speaks of.
    Past,
    Through,
}

/// A node, its daemon and the servers.
#[derive(Debug)]
pub struct Arena {
    pub node: Node,
    pub daemon: Daemon,
    pub scale: Scale,
    silent: Vec<Held>,
}

/// Connections of a server that never answers.
type Held = Arc<Mutex<VecDeque<TcpStream>>>;

/// Answers HTTP requests. Inspected.
pub const HTTP: u16 = 80;
/// Accepts connections and never answers. Inspected.
pub const SILENT: u16 = 8080;
/// Echoes datagrams. Allowed without a look inside.
pub const ECHO: u16 = 53;
/// Nothing may be sent there.
pub const DENIED: u16 = 9;

/// Connections that the silent server holds; older ones are closed.
const SILENT_MAX: usize = 4_000;
const METRICS_PORT: u16 = 9964;

const PODS: [PodSpec; 4] = [
    pod("server", 11, 0x11, &[("app", "server")]),
    pod("past", 12, 0x12, &[("app", "past")]),
    pod("victim", 13, 0x13, &[("app", "victim")]),
    pod("attacker", 14, 0x14, &[("app", "attacker")]),
];

const POLICY: &str = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: server, namespace: default}\n\
spec:\n  endpointSelector: {matchLabels: {app: server}}\n  ingress:\n  - fromEndpoints: [{}]\n    toPorts:\n    \
- ports: [{port: \"80\", protocol: TCP}, {port: \"8080\", protocol: TCP}]\n      \
rules: {http: [{method: POST, path: /v1/request-landing}, {method: GET, path: /never}]}\n    \
- ports: [{port: \"53\", protocol: UDP}]\n";

impl Arena {
    pub fn start(scale: Scale) -> Result<Self> {
        raise_descriptor_limit();
        let node = Node::new(&PODS)?;
        let mut servers = Vec::new();
        for name in ["server", "past"] {
            let pod = &node.pod(name).namespace;
            let _server = Deathstar::start(pod, HTTP)?;
            servers.push(silent(pod, SILENT)?);
            let _arrivals = echo::udp(pod, ECHO)?;
        }
        let more = format!(
            "\n[limits]\nconnections = {}\nflow_records = 65536\n\n[metrics]\nlisten = \"{NODE_V4}:{METRICS_PORT}\"\n",
            scale.connections
        );
        let daemon = Daemon::start_with(&node, &more)?;
        let _revision = daemon.apply("server.yaml", POLICY)?;
        Ok(Self { node, daemon, scale, silent: servers })
    }

    pub fn server(&self, way: Way, family: Family, port: u16) -> SocketAddr {
        let name = match way {
            Way::Past => "past",
            Way::Through => "server",
        };
        SocketAddr::new(self.node.pod(name).spec.address(family), port)
    }

    pub fn attacker(&self) -> &Namespace {
        &self.node.pod("attacker").namespace
    }

    pub fn victim(&self) -> &Namespace {
        &self.node.pod("victim").namespace
    }

    /// Where policies are read from; past Sluice, a directory beside it.
    pub fn policies(&self, way: Way) -> Result<PathBuf> {
        let directory = match way {
            Way::Past => self.daemon.directory.join("past"),
            Way::Through => self.daemon.policies(),
        };
        std::fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// The sum of a metric over all series whose labels hold this text.
    pub fn metric(&self, name: &str, labels: &str) -> Result<u64> {
        let text = self.node.namespace.run(scrape)??;
        let series = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        series.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<u64>().context("a count")).sum()
    }

    /// Descriptors that the daemon has open.
    pub fn descriptors(&self) -> Result<usize> {
        let pid = self.daemon.pid().context("the daemon runs")?;
        Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
    }
}

fn scrape() -> Result<String> {
    let mut stream = TcpStream::connect((NODE_V4, METRICS_PORT))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    let _bytes = stream.read_to_string(&mut text)?;
    Ok(text)
}

fn silent(pod: &Namespace, port: u16) -> Result<Held> {
    let listener = pod.run(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))??;
    let held = Held::default();
    let all = Arc::clone(&held);
    let _detached = std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut held = all.lock().unwrap_or_else(PoisonError::into_inner);
            held.push_back(stream);
            if held.len() > SILENT_MAX {
                drop(held.pop_front());
            }
        }
    });
    Ok(held)
}

impl Drop for Arena {
    /// The servers' threads outlive it; what they hold must not.
    fn drop(&mut self) {
        for held in &self.silent {
            held.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

/// Attackers and servers are all in this process.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // What it has may be enough.
    let _raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
