//! Servers that write down what reaches them.

use super::daemon::PATIENCE;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

/// A server in a thread of this process.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

/// A server whose every connection is given to the test.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    accepted: Receiver<TcpStream>,
}

impl Backend {
    /// Answers every request with 200 and its own path, and logs `client METHOD path body-length`.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        let _thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let log = Arc::clone(&kept);
                let _thread = std::thread::spawn(move || serve(stream.unwrap(), &log));
            }
        });
        Self { address, log }
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// What was logged without the clients' addresses.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.log().iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }
}

/// Ends with the connection, however that ends.
fn serve(stream: TcpStream, log: &Mutex<Vec<String>>) -> Option<()> {
    let client = stream.peer_addr().ok()?.ip();
    stream.set_nodelay(true).ok()?;
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut words = line.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let length = body_length(&mut reader)?;
        let body = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).ok()?;
        log.lock().ok()?.push(format!("{client} {method} {path} {body}"));
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
        writer.write_all(answer.as_bytes()).ok()?;
    }
}

fn body_length(reader: &mut impl BufRead) -> Option<u64> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        let _read = reader.read_line(&mut line).ok()?;
        match line.to_ascii_lowercase().trim_end() {
            "" => return Some(length),
            field => {
                if let Some(value) = field.strip_prefix("content-length: ") {
                    length = value.parse().ok()?;
                }
            }
        }
    }
}

impl Script {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, received) = channel();
        let _thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepted.send(stream.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { address, accepted: received }
    }

    pub(crate) fn accept(&self) -> TcpStream {
        self.accepted.recv_timeout(PATIENCE).unwrap()
    }
}
