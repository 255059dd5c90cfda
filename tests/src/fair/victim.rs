//! A pod that wants no more than its share: a connection and a request at a time, and a few connections that it keeps.

use super::arena::{Arena, HTTP, Way};
use crate::netns::Namespace;
use crate::pods::Family;
use anyhow::Result;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What became of requests.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub count: usize,
    /// Of those that were answered on connections of their own.
    pub latencies: Vec<Duration>,
    /// Why others were not.
    pub lost: Vec<String>,
}

/// With its kept connections open.
#[derive(Debug)]
pub struct Victim<'a> {
    namespace: &'a Namespace,
    server: SocketAddr,
    kept: Vec<TcpStream>,
}

/// Idle while others attack.
const KEPT: usize = 20;
/// Longer than any answer takes that comes.
const PATIENCE: Duration = Duration::from_secs(5);

impl Asked {
    pub fn add(&mut self, other: Self) {
        self.count += other.count;
        self.latencies.extend(other.latencies);
        self.lost.extend(other.lost);
    }

    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    /// In percent.
    pub fn success(&self) -> f64 {
        let lossless = u32::try_from(self.count - self.lost.len()).unwrap_or(u32::MAX);
        f64::from(lossless) * 100.0 / f64::from(u32::try_from(self.count).unwrap_or(u32::MAX).max(1))
    }

    /// Zero where nothing was answered.
    pub fn p99(&self) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get(last * 99 / 100).copied().unwrap_or_default()
    }
}

impl<'a> Victim<'a> {
    /// Opens the connections that it keeps, each of them used once.
    pub fn start(arena: &'a Arena, family: Family) -> Result<Self> {
        let server = arena.server(Way::Through, family, HTTP);
        let namespace = arena.victim();
        let kept = namespace.run(move || {
            let open = || {
                let stream = connect(server)?;
                ask(&stream)?;
                Ok::<_, io::Error>(stream)
            };
            (0..KEPT).map(|_| open()).collect::<io::Result<Vec<_>>>()
        })??;
        Ok(Self { namespace, server, kept })
    }

    /// One that keeps none.
    pub fn connectionless(arena: &'a Arena, family: Family) -> Self {
        let server = arena.server(Way::Through, family, HTTP);
        Self { namespace: arena.victim(), server, kept: Vec::new() }
    }

    /// One connection and request after the other.
    pub fn ask(&mut self, count: usize) -> Result<Asked> {
        let server = self.server;
        self.namespace.run(move || {
            let mut asked = Asked { count, ..Asked::default() };
            for _ in 0..count {
                let begun = Instant::now();
                match connect(server).and_then(|stream| ask(&stream)) {
                    Ok(()) => asked.latencies.push(begun.elapsed()),
                    Err(error) => asked.lost.push(error.to_string()),
                }
            }
            asked
        })
    }

    /// One request on each kept connection.
    pub fn ask_kept(&mut self) -> Result<Asked> {
        let lost = self.kept.iter().filter_map(|stream| ask(stream).err());
        let lost = lost.map(|error| format!("a connection that was kept: {error}")).collect();
        Ok(Asked { count: self.kept.len(), latencies: Vec::new(), lost })
    }
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A request, and its whole answer.
fn ask(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"POST /v1/request-landing HTTP/1.1\r\nHost: server\r\nContent-Length: 0\r\n\r\n")?;
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    let _bytes = reader.read_line(&mut status)?;
    if !status.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("answered `{}`", status.trim_end())));
    }
    let (mut line, mut length) = (String::from("-"), 0);
    while !line.trim_end().is_empty() {
        line.clear();
        let _bytes = reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let _bytes = io::copy(&mut reader.take(length), &mut io::sink())?;
    Ok(())
}
