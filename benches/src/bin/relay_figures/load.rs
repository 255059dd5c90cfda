//! A closed loop of clients on one thread: each sends its next requests when the answers to the last ones are complete.

use rustix::event::epoll;
use rustix::io::Errno;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A head with ten more fields.
    Fields,
    /// Sixteen requests at once.
    Pipelined,
    Tiny,
}

impl Shape {
    pub(crate) const ALL: [Self; 3] = [Self::Tiny, Self::Fields, Self::Pipelined];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fields => "GET with 11 fields, 64 connections",
            Self::Pipelined => "GET pipelined x16, 64 connections",
            Self::Tiny => "GET, 64 connections",
        }
    }

    fn requests(self) -> usize {
        match self {
            Self::Fields | Self::Tiny => 1,
            Self::Pipelined => 16,
        }
    }

    fn bytes(self) -> Vec<u8> {
        let fields = match self {
            Self::Fields => (0..10).map(|n| format!("X-Some-Field-{n}: {}\r\n", "v".repeat(40))).collect(),
            Self::Pipelined | Self::Tiny => String::new(),
        };
        let one = format!("GET /api/v1/items/42 HTTP/1.1\r\nHost: server\r\n{fields}\r\n");
        one.repeat(self.requests()).into_bytes()
    }
}

const CONNECTIONS: usize = 64;
/// The backend's answer: its length is all that is looked at.
pub(crate) const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: figures\r\nContent-Length: 3\r\n\r\nok\n";

pub(crate) struct Load {
    epoll: OwnedFd,
    clients: Vec<Client>,
    message: Vec<u8>,
    requests: usize,
}

struct Client {
    stream: TcpStream,
    /// Bytes of answers that are still to come.
    awaited: usize,
}

impl Load {
    pub(crate) fn connect(to: SocketAddr, from: IpAddr, shape: Shape) -> io::Result<Self> {
        Self::connect_many(to, from, shape, CONNECTIONS)
    }

    pub(crate) fn connect_many(to: SocketAddr, from: IpAddr, shape: Shape, n: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients = Vec::new();
        for index in 0..n {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket.connect(&to.into())?;
            let stream: TcpStream = socket.into();
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(u64::try_from(index).unwrap_or(0));
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
            clients.push(Client { stream, awaited: 0 });
        }
        Ok(Self { epoll, clients, message: shape.bytes(), requests: shape.requests() })
    }

    /// Every client asks once and reads its answer.
    pub(crate) fn once(&mut self) -> io::Result<()> {
        for index in 0..self.clients.len() {
            self.send(index)?;
        }
        let mut open = self.clients.len();
        while open > 0 {
            open -= self.turn(|_load, _index| Ok(()))?;
        }
        Ok(())
    }

    /// Requests answered in that time.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<u64> {
        let end = Instant::now() + time;
        for index in 0..self.clients.len() {
            if self.clients.get(index).is_some_and(|client| client.awaited == 0) {
                self.send(index)?;
            }
        }
        let mut rounds = 0;
        while Instant::now() < end {
            rounds += self.turn(Self::send)?;
        }
        let mut open = self.clients.iter().filter(|client| client.awaited > 0).count();
        while open > 0 {
            let done = self.turn(|_load, _index| Ok(()))?;
            open -= done;
            rounds += done;
        }
        Ok(u64::try_from(rounds * self.requests).unwrap_or(u64::MAX))
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        if let Some(client) = self.clients.get_mut(index) {
            client.stream.write_all(&self.message)?;
            client.awaited = RESPONSE.len() * self.requests;
        }
        Ok(())
    }

    /// Reads what came; calls `then` for each client whose answers are complete and says how many those were.
    fn turn(&mut self, mut then: impl FnMut(&mut Self, usize) -> io::Result<()>) -> io::Result<usize> {
        let mut events = Vec::with_capacity(64);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut complete = 0;
        for event in events {
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(client) = self.clients.get_mut(index) else { continue };
            let mut buffer = [0; 16_384];
            let n = client.stream.read(&mut buffer)?;
            if n == 0 || n > client.awaited {
                return Err(io::Error::other("the answer is not what the backend sends"));
            }
            client.awaited -= n;
            if client.awaited == 0 {
                complete += 1;
                then(self, index)?;
            }
        }
        Ok(complete)
    }
}
