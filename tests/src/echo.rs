//! Servers that give back what they get, and remember it: for what is not HTTP.

use crate::netns::Namespace;
use anyhow::Result;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

/// What a server saw: from whom, how many bytes.
pub type Arrivals = Arc<Mutex<Vec<(SocketAddr, usize)>>>;

/// A TCP echo server on both families. A connection counts as an arrival of 0 bytes.
pub fn tcp(namespace: &Namespace, port: u16) -> Result<Arrivals> {
    let listener = namespace.run(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))??;
    let arrivals = Arrivals::default();
    let seen = Arc::clone(&arrivals);
    let _detached = std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            let _detached = std::thread::spawn(move || -> std::io::Result<()> {
                let client = stream.peer_addr()?;
                note(&seen, client, 0);
                let mut buffer = [0; 4096];
                loop {
                    let read = stream.read(&mut buffer)?;
                    if read == 0 {
                        return Ok(());
                    }
                    note(&seen, client, read);
                    stream.write_all(buffer.get(..read).unwrap_or_default())?;
                }
            });
        }
    });
    Ok(arrivals)
}

/// A UDP echo server on both families.
pub fn udp(namespace: &Namespace, port: u16) -> Result<Arrivals> {
    let socket = namespace.run(move || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)))??;
    let arrivals = Arrivals::default();
    let seen = Arc::clone(&arrivals);
    let _detached = std::thread::spawn(move || -> std::io::Result<()> {
        let mut buffer = vec![0; 65_536];
        loop {
            let (read, client) = socket.recv_from(&mut buffer)?;
            note(&seen, client, read);
            let _sent = socket.send_to(buffer.get(..read).unwrap_or_default(), client)?;
        }
    });
    Ok(arrivals)
}

/// Copies what arrived so far.
pub fn list(arrivals: &Arrivals) -> Vec<(SocketAddr, usize)> {
    arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn note(arrivals: &Arrivals, client: SocketAddr, bytes: usize) {
    arrivals.lock().unwrap_or_else(PoisonError::into_inner).push((client, bytes));
}
