//! The deathstar: an HTTP/1.1 server that keeps a log of its own. What a backend saw is read here, never inferred.

use crate::netns::Namespace;
use anyhow::Result;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub client: SocketAddr,
    /// `POST /v1/request-landing`.
    pub request: String,
    pub body_bytes: usize,
}

/// A running server. Its threads end with its listener's namespace, at the latest with the process.
#[derive(Clone, Debug, Default)]
pub struct Deathstar {
    log: Arc<Mutex<Vec<Seen>>>,
}

pub const LANDED: &str = "Ship landed\n";
pub const PANIC: &str = "Panic: deathstar exploded\n\ngoroutine 1 [running]:\nmain.HandleGarbage(0x2080c3f50, 0x2, 0x4, 0x425c0)\n";

impl Deathstar {
    /// Listens on a port of both families inside `namespace`.
    pub fn start(namespace: &Namespace, port: u16) -> Result<Self> {
        let listener = namespace.run(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))??;
        let deathstar = Self::default();
        let server = deathstar.clone();
        let _detached = std::thread::spawn(move || server.accept(&listener));
        Ok(deathstar)
    }

    /// What arrived so far, in order.
    pub fn log(&self) -> Vec<Seen> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves every connection; returns when the listener fails.
    pub fn accept(&self, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            let server = self.clone();
            let _detached = std::thread::spawn(move || {
                let _closed = server.serve(stream);
            });
        }
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let client = stream.peer_addr()?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some(Head { request, length, last }) = read_head(&mut reader)? {
            let body_bytes =
                usize::try_from(io::copy(&mut (&mut reader).take(length), &mut io::sink())?).unwrap_or(0);
            let reply = reply_to(&request);
            self.log.lock().unwrap_or_else(PoisonError::into_inner).push(Seen {
                client,
                request,
                body_bytes,
            });
            writer.write_all(reply.as_bytes())?;
            if last {
                break;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Head {
    /// Method and target.
    request: String,
    /// Of the body, in bytes.
    length: u64,
    /// The client asked for the connection to be closed.
    last: bool,
}

/// `None` at the end of the connection.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let request = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut head = Head { request, ..Head::default() };
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            return Ok(Some(head));
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            head.length = value.trim().parse().unwrap_or(0);
        } else if name.eq_ignore_ascii_case("connection") {
            head.last = value.trim().eq_ignore_ascii_case("close");
        }
    }
}

fn reply_to(request: &str) -> String {
    let (status, body) = match request {
        "POST /v1/request-landing" => ("200 OK", LANDED),
        "PUT /v1/exhaust-port" => ("503 Service Unavailable", PANIC),
        _other => ("404 Not Found", "No such port\n"),
    };
    format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
