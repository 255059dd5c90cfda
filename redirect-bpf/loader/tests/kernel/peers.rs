//! Programs in pods and on the node: an echo server, clients, and a proxy that passes bytes on.

use crate::fixture::{Node, addresses};
use redirect::sockets::{redirect_listeners, upstream_socket};
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longer than anything takes that is not dropped.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// What is dropped never comes; this long is waited for it.
const DROPPED: Duration = Duration::from_millis(400);

/// Accepts connections until dropped.
pub(crate) struct Server {
    listeners: Vec<TcpListener>,
    threads: Vec<JoinHandle<()>>,
    /// Who connected, in order.
    pub(crate) clients: Arc<Mutex<Vec<SocketAddr>>>,
    /// How many connections each listener accepted.
    accepted: Vec<Arc<AtomicUsize>>,
}

impl Server {
    /// Echoes on both addresses of a pod.
    pub(crate) fn echo(node: &Node, pod: usize, port: u16) -> Self {
        let bound =
            addresses(pod, port).map(|address| node.run_in_pod(pod, || TcpListener::bind(address).unwrap()));
        Self::new(bound.into(), |stream| echo(&stream))
    }

    /// Passes bytes on to where clients wanted to go, from their own address. One of each family comes first in `listeners`.
    pub(crate) fn proxy(node: &Node, workers: usize) -> Self {
        let listeners = node.run(|| [false, true].map(|v6| redirect_listeners(v6, workers).unwrap()));
        let [mut v4, mut v6] = listeners;
        let first = [v4.remove(0), v6.remove(0)];
        let all: Vec<TcpListener> = first.into_iter().chain(v4).chain(v6).collect();
        all.iter().for_each(|listener| listener.set_nonblocking(false).unwrap());
        let netns = node.netns();
        Self::new(all, move |stream| drop(crate::fixture::run_in(&netns, || relay(stream))))
    }

    fn new(listeners: Vec<TcpListener>, serve: impl Fn(TcpStream) + Clone + Send + 'static) -> Self {
        let clients = Arc::new(Mutex::new(Vec::new()));
        let accepted: Vec<_> = listeners.iter().map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let threads = listeners.iter().zip(&accepted).map(|(listener, accepted)| {
            let (listener, serve) = (listener.try_clone().unwrap(), serve.clone());
            let (clients, accepted) = (Arc::clone(&clients), Arc::clone(accepted));
            std::thread::spawn(move || accept(&listener, &clients, &accepted, serve))
        });
        Self { threads: threads.collect(), listeners, clients, accepted }
    }

    /// By listener.
    pub(crate) fn accepted(&self) -> Vec<usize> {
        self.accepted.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    pub(crate) fn listeners(&self) -> (&TcpListener, &TcpListener) {
        (&self.listeners[0], &self.listeners[1])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for listener in &self.listeners {
            SockRef::from(listener).shutdown(Shutdown::Both).unwrap();
        }
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn accept(
    listener: &TcpListener,
    clients: &Mutex<Vec<SocketAddr>>,
    accepted: &AtomicUsize,
    serve: impl Fn(TcpStream) + Clone + Send + 'static,
) {
    while let Ok((stream, client)) = listener.accept() {
        clients.lock().unwrap().push(client);
        let _before = accepted.fetch_add(1, Ordering::Relaxed);
        let serve = serve.clone();
        drop(std::thread::spawn(move || serve(stream)));
    }
}

fn echo(mut stream: &TcpStream) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Bytes are answered before the next are sent, which is all that these tests do.
fn relay(mut client: TcpStream) -> io::Result<()> {
    let server = upstream_socket(client.peer_addr()?, true)?;
    server.set_nonblocking(false)?;
    server.connect_timeout(&client.local_addr()?.into(), PATIENCE)?;
    let mut server: TcpStream = server.into();
    let mut buffer = [0; 1024];
    loop {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        server.write_all(&buffer[..count])?;
        let count = server.read(&mut buffer)?;
        client.write_all(&buffer[..count])?;
    }
}

/// Connects from a pod.
pub(crate) fn connect(node: &Node, pod: usize, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = node.run_in_pod(pod, || TcpStream::connect_timeout(&to, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a word and reads it back.
pub(crate) fn talk(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    if answer == *b"hello" { Ok(()) } else { Err(io::Error::other("another answer")) }
}

#[track_caller]
pub(crate) fn assert_lands(node: &Node, pod: usize, to: SocketAddr) {
    let answer = connect(node, pod, to).and_then(|stream| talk(&stream));
    assert!(answer.is_ok(), "pod {pod} to {to}: {answer:?}");
}

#[track_caller]
pub(crate) fn assert_dropped(node: &Node, pod: usize, to: SocketAddr) {
    let answer = node.run_in_pod(pod, || TcpStream::connect_timeout(&to, DROPPED));
    let error = answer.map(|_| format!("pod {pod} reached {to}")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "pod {pod} to {to}: {error}");
}

/// Reads until the end comes: it must be a reset.
#[track_caller]
pub(crate) fn assert_reset(mut stream: &TcpStream) {
    let error = stream.read(&mut [0; 16]).expect_err("the connection goes on");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}

/// Binds a datagram socket in a pod; both of its waits are short.
pub(crate) fn datagrams(node: &Node, pod: usize, address: SocketAddr) -> UdpSocket {
    let socket = node.run_in_pod(pod, || UdpSocket::bind(address).unwrap());
    socket.set_read_timeout(Some(DROPPED)).unwrap();
    socket
}

/// Whether a datagram from one reaches the other.
pub(crate) fn reaches(from: &UdpSocket, to: &UdpSocket) -> bool {
    let _sent = from.send_to(b"ping", to.local_addr().unwrap()).unwrap();
    to.recv(&mut [0; 16]).is_ok()
}

/// The accepted end of the one connection that a listener in a pod gets.
pub(crate) fn pair(node: &Node, client: usize, server: usize, to: SocketAddr) -> (TcpStream, TcpStream) {
    let listener = node.run_in_pod(server, || TcpListener::bind(to).unwrap());
    let near = connect(node, client, to).unwrap();
    let (far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    (near, far)
}

/// A byte each way, so that both ends have acknowledged.
pub(crate) fn exchange(mut near: &TcpStream, mut far: &TcpStream) {
    near.write_all(b"a").unwrap();
    far.read_exact(&mut [0; 1]).unwrap();
    far.write_all(b"b").unwrap();
    near.read_exact(&mut [0; 1]).unwrap();
}
