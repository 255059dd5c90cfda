//! The daemon as a process.

use super::Client;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// What a daemon is started with.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) policies: Vec<(&'static str, String)>,
    /// Lines of `[limits]`.
    pub(crate) limits: String,
    pub(crate) backend: SocketAddr,
}

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    /// Lines, as they come.
    log: Receiver<String>,
    directory: PathBuf,
    net: u8,
    /// The last revision that was reported in force.
    pub(crate) revision: u64,
}

/// How a daemon ended.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) status: Option<i32>,
    pub(crate) stderr: String,
}

/// Only an error that hangs the test is ever waited for that long.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Every daemon of a process gets its own /24 of 127/8, every process its own /16: tests run side by side.
static NEXT_NET: AtomicU8 = AtomicU8::new(1);

fn second_octet() -> u8 {
    u8::try_from(std::process::id() % 251).unwrap() + 1
}

impl Daemon {
    pub(crate) const DEATHSTAR: u8 = 11;
    pub(crate) const TIEFIGHTER: u8 = 21;
    pub(crate) const XWING: u8 = 31;

    /// Starts, and waits until it accepts.
    pub(crate) fn start(plan: &Plan) -> Self {
        let net = NEXT_NET.fetch_add(1, Ordering::SeqCst);
        let directory = std::env::temp_dir().join(format!("sluiced-test-{}-{net}", std::process::id()));
        drop(fs::remove_dir_all(&directory));
        fs::create_dir_all(directory.join("policies")).unwrap();
        for (name, text) in &plan.policies {
            fs::write(directory.join("policies").join(name), text).unwrap();
        }
        fs::write(directory.join("node.toml"), node_file(&directory, net, plan)).unwrap();
        Self::spawn(directory, net)
    }

    fn spawn(directory: PathBuf, net: u8) -> Self {
        let mut child = command(&directory).stderr(Stdio::piped()).spawn().unwrap();
        let log = lines(child.stderr.take().unwrap());
        let mut daemon = Self { child, log, directory, net, revision: 0 };
        let _ready = daemon.wait_for("ready");
        daemon
    }

    /// Runs a daemon that is expected to end by itself.
    pub(crate) fn start_and_fail(plan: &Plan) -> Exit {
        let net = NEXT_NET.fetch_add(1, Ordering::SeqCst);
        let directory = std::env::temp_dir().join(format!("sluiced-test-{}-{net}", std::process::id()));
        fs::create_dir_all(directory.join("policies")).unwrap();
        for (name, text) in &plan.policies {
            fs::write(directory.join("policies").join(name), text).unwrap();
        }
        fs::write(directory.join("node.toml"), node_file(&directory, net, plan)).unwrap();
        let output = command(&directory).output().unwrap();
        fs::remove_dir_all(directory).unwrap();
        Exit { status: output.status.code(), stderr: String::from_utf8(output.stderr).unwrap() }
    }

    /// The next log line with this message; earlier ones are passed over. The daemon logs JSON.
    pub(crate) fn wait_for(&mut self, message: &str) -> Value {
        loop {
            let line = match self.log.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(error) => {
                    panic!("the daemon did not say `{message}`: {error}, {:?}", self.child.try_wait())
                }
            };
            let Ok(line) = serde_json::from_str::<Value>(&line) else { panic!("not a log line: {line}") };
            let fields = &line["fields"];
            if fields["message"] == "revision in force" {
                self.revision = fields["revision"].as_u64().unwrap();
            }
            if fields["message"] == message {
                return fields.clone();
            }
        }
    }

    /// Waits for this, looking again whenever the daemon has logged something.
    pub(crate) fn wait_until(&self, mut reached: impl FnMut(&Self) -> bool) {
        let asked = std::time::Instant::now();
        while !reached(self) {
            // What takes long on a busy machine says nothing for long.
            let _line = self.log.recv_timeout(Duration::from_secs(1));
            assert!(asked.elapsed() < 10 * PATIENCE, "waited in vain: {}", self.get("/v1/status"));
        }
    }

    /// What the process has in memory, its program's own pages left out.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    pub(crate) fn wait_for_revision(&mut self) -> u64 {
        self.wait_for("revision in force")["revision"].as_u64().unwrap()
    }

    /// Writes a policy and waits until it is in force.
    pub(crate) fn apply(&mut self, name: &str, text: &str) {
        self.write_policy(name, text);
        let _revision = self.wait_for_revision();
    }

    /// Replaces a file at once, as editors do.
    pub(crate) fn write_policy(&self, name: &str, text: &str) {
        let next = self.directory.join(format!("next-{name}"));
        fs::write(&next, text).unwrap();
        fs::rename(next, self.policy(name)).unwrap();
    }

    pub(crate) fn policy(&self, name: &str) -> PathBuf {
        self.directory.join("policies").join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    pub(crate) fn node_file(&self) -> PathBuf {
        self.directory.join("node.toml")
    }

    pub(crate) fn address(&self, host: u8) -> Ipv4Addr {
        address(self.net, host)
    }

    /// Where connections to the deathstar's port 80 are accepted.
    pub(crate) fn listener(&self) -> SocketAddr {
        (self.address(Self::DEATHSTAR), 8080).into()
    }

    /// A connection to the deathstar from this address.
    pub(crate) fn connect(&self, from: u8) -> Client {
        Client::connect(self.address(from), self.listener())
    }

    /// A question to the admin API.
    pub(crate) fn get(&self, path: &str) -> Value {
        let socket = self.directory.join("sluiced.sock");
        let mut client = UnixStream::connect(socket).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: sluiced\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut client, request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _read = client.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Flow records as they come, a line each, through the unix socket's chunks.
    pub(crate) fn follow(&self, filter: &str) -> impl Iterator<Item = Value> + use<> {
        let mut client = UnixStream::connect(self.directory.join("sluiced.sock")).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET /v1/flows?follow=true&{filter} HTTP/1.1\r\nHost: sluiced\r\n\r\n");
        std::io::Write::write_all(&mut client, request.as_bytes()).unwrap();
        let mut lines = BufReader::new(client).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "HTTP/1.1 200 OK");
        lines.filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(&line).unwrap())
    }

    /// The value of a metric, all its labels summed up.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> usize {
        let mut client = Client::connect(self.address(1), (self.address(1), 9099).into());
        client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let text = client.rest();
        let text = String::from_utf8(text).unwrap();
        let of_it = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        of_it.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(&mut self) -> Exit {
        self.signal(rustix::process::Signal::TERM);
        self.ended()
    }

    pub(crate) fn ended(&mut self) -> Exit {
        let status = self.child.wait().unwrap().code();
        let stderr = self.log.iter().map(|line| line + "\n").collect();
        Exit { status, stderr }
    }

    /// Ends the process as it is told, and starts another one with the same files.
    pub(crate) fn restart(mut self, signal: rustix::process::Signal) -> Self {
        self.signal(signal);
        let _exit = self.ended();
        let (directory, net) = (std::mem::take(&mut self.directory), self.net);
        drop(self);
        Self::spawn(directory, net)
    }
}

impl Daemon {
    /// As [`Daemon::restart`], with a log that nobody reads.
    pub(crate) fn restart_with_log(mut self, log: impl Into<Stdio>) -> Self {
        let _exit = self.terminate();
        let (directory, net) = (std::mem::take(&mut self.directory), self.net);
        drop(self);
        let child = command(&directory).stderr(log).spawn().unwrap();
        let daemon = Self { child, log: channel().1, directory, net, revision: 0 };
        let begun = std::time::Instant::now();
        while std::net::TcpStream::connect(daemon.listener()).is_err() {
            assert!(begun.elapsed() < PATIENCE, "it does not accept");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if !self.directory.as_os_str().is_empty() {
            drop(fs::remove_dir_all(&self.directory));
        }
    }
}

/// What the program prints that is asked for no daemon.
#[track_caller]
pub(crate) fn sluiced(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sluiced")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Until the daemon closes it.
fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    let _thread = std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            if line.is_ok_and(|line| sender.send(line).is_ok()) {
                continue;
            }
            return;
        }
    });
    receiver
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluiced"));
    let _command = command.arg("--config").arg(directory.join("node.toml")).stdin(Stdio::null());
    command
}

fn address(net: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, second_octet(), net, host)
}

fn node_file(directory: &Path, net: u8, plan: &Plan) -> String {
    let directory = directory.display();
    let endpoint = |name: &str, host: u8, org: &str, class: &str| {
        format!(
            "[[endpoint]]\nname = \"{name}\"\naddresses = [\"{}\"]\nlabels = {{ org = \"{org}\", class = \"{class}\" }}\n\n",
            address(net, host)
        )
    };
    let endpoints = [
        endpoint("deathstar-1", Daemon::DEATHSTAR, "empire", "deathstar"),
        endpoint("tiefighter", Daemon::TIEFIGHTER, "empire", "tiefighter"),
        endpoint("xwing", Daemon::XWING, "alliance", "xwing"),
    ]
    .concat();
    format!(
        r#"[node]
name = "node-1"
pod_networks = ["{}/24"]
state_directory = "{directory}/state"

[policies]
directories = ["{directory}/policies"]

[redirect]
mode = "none"

[api]
socket = "{directory}/sluiced.sock"

[metrics]
listen = "{}:9099"

[log]
format = "json"
level = "info"

[limits]
{}

{endpoints}
[[listener]]
endpoint = "deathstar-1"
port = 80
bind = "{}:8080"
upstream = "{}"
"#,
        address(net, 0),
        address(net, 1),
        plan.limits,
        address(net, Daemon::DEATHSTAR),
        plan.backend,
    )
}
