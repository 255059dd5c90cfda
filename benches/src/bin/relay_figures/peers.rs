//! The other two processes: a backend that answers heads, and a relay that moves bytes. Both are one edge-triggered loop.

use crate::load::RESPONSE;
use rustix::event::epoll::{self, EventData, EventFlags};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};

/// One of this program's other roles, as a process on one processor.
pub(crate) struct Peer(Child);

impl Peer {
    pub(crate) fn spawn(role: &str, processor: usize) -> io::Result<Self> {
        let own = std::env::current_exe()?;
        let peer = Command::new("taskset").args(["-c", &processor.to_string()]).arg(own).arg(role).spawn()?;
        Ok(Self(peer))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

const LISTENER: u64 = u64::MAX;
const EDGES: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

fn listen(at: SocketAddr, epoll: &OwnedFd) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    epoll::add(epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    Ok(listener)
}

fn events(epoll: &OwnedFd) -> io::Result<Vec<epoll::Event>> {
    let mut events = Vec::with_capacity(512);
    let _count = epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), None)?;
    Ok(events)
}

/// Answers every head that ends in what it reads.
pub(crate) fn backend(at: SocketAddr) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let listener = listen(at, &epoll)?;
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut free = Vec::new();
    let mut buffer = vec![0; 65_536];
    loop {
        for event in events(&epoll)? {
            if event.data.u64() == LISTENER {
                while let Ok((stream, _from)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(true)?;
                    let index = free.pop().unwrap_or(streams.len());
                    epoll::add(&epoll, &stream, EventData::new_u64(data(index)), EventFlags::IN)?;
                    put(&mut streams, index, stream);
                }
                continue;
            }
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(place) = streams.get_mut(index) else { continue };
            let Some(stream) = place else { continue };
            match stream.read(&mut buffer) {
                Ok(n @ 1..) => {
                    let bytes = buffer.get(..n).unwrap_or_default();
                    let heads = bytes.windows(4).filter(|window| *window == b"\r\n\r\n").count();
                    stream.write_all(&RESPONSE.repeat(heads))?;
                }
                Ok(0) | Err(_) => {
                    *place = None;
                    free.push(index);
                }
            }
        }
    }
}

fn data(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(LISTENER)
}

fn put<T>(places: &mut Vec<Option<T>>, index: usize, value: T) {
    match places.get_mut(index) {
        Some(place) => *place = Some(value),
        None => places.push(Some(value)),
    }
}

/// Two sockets; the bit says which.
struct Pair {
    ends: [TcpStream; 2],
    waiting: [Vec<u8>; 2],
    ended: [bool; 2],
}

/// Moves bytes both ways and looks at none: the least that a proxy of two sockets can cost.
pub(crate) fn relay(at: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let listener = listen(at, &epoll)?;
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    let mut free = Vec::new();
    let mut buffer = vec![0; 131_072];
    loop {
        for event in events(&epoll)? {
            if event.data.u64() == LISTENER {
                while let Ok((client, _from)) = listener.accept() {
                    let server = TcpStream::connect(to)?;
                    let index = free.pop().unwrap_or(pairs.len());
                    for (bit, stream) in [&client, &server].into_iter().enumerate() {
                        stream.set_nodelay(true)?;
                        stream.set_nonblocking(true)?;
                        epoll::add(&epoll, stream, EventData::new_u64(data(index * 2 + bit)), EDGES)?;
                    }
                    let pair =
                        Pair { ends: [client, server], waiting: Default::default(), ended: [false; 2] };
                    put(&mut pairs, index, pair);
                }
                continue;
            }
            let token = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(place) = pairs.get_mut(token / 2) else { continue };
            let Some(pair) = place else { continue };
            let from = token % 2;
            let flags = event.flags;
            let writable = flags.contains(EventFlags::OUT);
            let readable = flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP);
            let alive = (!writable || pair.flush(from)) && (!readable || pair.pump(from, &mut buffer));
            if !alive {
                *place = None;
                free.push(token / 2);
            }
        }
    }
}

impl Pair {
    /// Sends what waits for this end; `false` where the pair is done.
    fn flush(&mut self, to: usize) -> bool {
        let (Some(end), Some(waiting)) = (self.ends.get_mut(to), self.waiting.get_mut(to)) else {
            return false;
        };
        while !waiting.is_empty() {
            match end.write(waiting) {
                Ok(n) => drop(waiting.drain(..n)),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }

    fn pump(&mut self, from: usize, buffer: &mut [u8]) -> bool {
        loop {
            let Some(end) = self.ends.get_mut(from) else { return false };
            let n = match end.read(buffer) {
                Ok(0) => return self.end(from),
                Ok(n) => n,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            };
            let bytes = buffer.get(..n).unwrap_or_default();
            let (Some(other), Some(waiting)) = (self.ends.get_mut(1 - from), self.waiting.get_mut(1 - from))
            else {
                return false;
            };
            let sent = if waiting.is_empty() { other.write(bytes).unwrap_or(0) } else { 0 };
            waiting.extend_from_slice(bytes.get(sent..).unwrap_or_default());
            // A short read left nothing behind.
            if n < buffer.len() {
                return true;
            }
        }
    }

    fn end(&mut self, from: usize) -> bool {
        if let Some(ended) = self.ended.get_mut(from) {
            *ended = true;
        }
        let shut = self.ends.get(1 - from).map(|other| other.shutdown(std::net::Shutdown::Write));
        matches!(shut, Some(Ok(()))) && self.ended.contains(&false)
    }
}
