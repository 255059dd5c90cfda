//! A client that keeps one connection open and asks again and again: what it loses, users would lose.

use crate::netns::Namespace;
use anyhow::{Context, Result};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the client met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub connections: usize,
    pub landed: usize,
    /// Connections that ended with a reset.
    pub resets: usize,
    /// Anything else: other answers, silence, ends that were no reset.
    pub lost: Vec<String>,
}

/// Asks to land every few milliseconds until stopped.
#[derive(Debug)]
pub struct KeepAlive {
    stop: Arc<AtomicBool>,
    landed: Arc<AtomicUsize>,
    thread: JoinHandle<Result<Tally>>,
}

impl KeepAlive {
    pub fn start(namespace: &Namespace, server: SocketAddr, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let landed = Arc::new(AtomicUsize::new(0));
        let (seen, count) = (Arc::clone(&stop), Arc::clone(&landed));
        let thread = namespace.spawn(move || {
            let mut tally = Tally::default();
            while !seen.load(Ordering::Relaxed) {
                connection(server, every, &seen, &count, &mut tally);
            }
            tally
        });
        Self { stop, landed, thread }
    }

    /// How often it has landed so far.
    pub fn landed(&self) -> usize {
        self.landed.load(Ordering::Relaxed)
    }

    /// Ends the client after its present request.
    pub fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the keep-alive client panicked")?
    }
}

fn connection(
    server: SocketAddr,
    every: Duration,
    stop: &AtomicBool,
    landed: &AtomicUsize,
    tally: &mut Tally,
) {
    let stream = match TcpStream::connect_timeout(&server, Duration::from_secs(5)) {
        Ok(stream) => stream,
        Err(error) => return tally.lost.push(format!("connect: {error}")),
    };
    tally.connections += 1;
    while !stop.load(Ordering::Relaxed) {
        match ask(&stream) {
            Ok(answer) if answer == "200" => {
                tally.landed += 1;
                landed.store(tally.landed, Ordering::Relaxed);
            }
            Ok(answer) => tally.lost.push(format!("answered {answer}")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                tally.resets += 1;
                return;
            }
            Err(error) => {
                tally.lost.push(error.to_string());
                return;
            }
        }
        std::thread::sleep(every);
    }
}

/// The status of the answer to one request.
fn ask(stream: &TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut writer = stream;
    writer.write_all(b"POST /v1/request-landing HTTP/1.1\r\nHost: deathstar\r\nContent-Length: 0\r\n\r\n")?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    while line != "\r\n" {
        line.clear();
        let _bytes = reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let _bytes = io::copy(&mut reader.take(length), &mut io::sink())?;
    Ok(status)
}
