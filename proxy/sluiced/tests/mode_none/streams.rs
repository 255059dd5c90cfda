//! Bytes pass as they came, ends are mirrored, and every bound holds.

use crate::common::{Backend, Client, Daemon, L7, OK, Plan, Script};
use rustix::process::Signal;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

fn start(backend: SocketAddr, limits: &str) -> Daemon {
    let policies = vec![("a.yaml", OK.to_owned())];
    Daemon::start(&Plan { policies, limits: limits.to_owned(), backend })
}

/// Bytes that are different in every 64 and cheap to make: their number, then zeros.
fn pattern(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for (number, block) in bytes.chunks_exact_mut(64).enumerate() {
        block[..8].copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// A request head, up to and with the empty line.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn a_large_upload_arrives_whole() {
    let server = Script::start();
    let daemon = start(server.address, "");
    let body = pattern(100_000_000);
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    let mut sender = client.stream();
    let sent = body.clone();
    let upload = std::thread::spawn(move || {
        let head = format!("POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", sent.len());
        sender.write_all(head.as_bytes()).unwrap();
        sender.write_all(&sent).unwrap();
    });
    let mut stream = server.accept();
    let _head = read_head(&mut stream);
    let mut received = vec![0; body.len()];
    stream.read_exact(&mut received).unwrap();
    upload.join().unwrap();
    assert!(received == body, "the upload differs");
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert_eq!(client.response().status, 204);
}

#[track_caller]
fn check_download(head: &str, encode: impl Fn(&mut TcpStream, &[u8]) + Sync) {
    let server = Script::start();
    let daemon = start(server.address, "");
    let body = pattern(100_000_000);
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    client.request("GET", "/ok");
    let mut stream = server.accept();
    let _head = read_head(&mut stream);
    let (head, sent) = (head.to_owned(), body.clone());
    std::thread::scope(|scope| {
        let _server = scope.spawn(|| {
            stream.write_all(head.as_bytes()).unwrap();
            encode(&mut stream, &sent);
        });
        assert_eq!(client.exactly(head.len()), head.as_bytes());
        assert!(client.exactly(body.len()) == body, "the download differs");
    });
}

#[test]
fn a_large_download_by_length_arrives_whole() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n";
    check_download(head, |stream, body| stream.write_all(body).unwrap());
}

#[test]
fn a_large_download_until_close_arrives_whole() {
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    check_download(head, |stream, body| {
        stream.write_all(body).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start();
    let daemon = start(backend.address, "");
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    let paths = ["/ok/1", "/no/2", "/ok/3", "/no/4", "/no/5", "/ok/6"];
    let requests = paths.map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    client.send(requests.concat().as_bytes());
    for path in paths {
        let response = client.response();
        let expect =
            if path.starts_with("/ok") { (200, path.as_bytes()) } else { (403, &b"Access denied\r\n"[..]) };
        assert_eq!((response.status, response.body.as_slice()), expect, "{path}");
    }
    assert_eq!(backend.requests(), ["GET /ok/1 0", "GET /ok/3 0", "GET /ok/6 0"]);
}

#[test]
fn a_thousand_pipelined_requests_pass_the_bound_on_those_under_way() {
    let backend = Backend::start();
    let daemon = start(backend.address, "pipelined_requests = 2");
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    client.send("GET /ok HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000).as_bytes());
    for _ in 0..1000 {
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(backend.requests().len(), 1000);
}

#[test]
fn a_denied_upload_is_swallowed_and_the_next_request_served() {
    let backend = Backend::start();
    let daemon = start(backend.address, "");
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    let head = "POST /no HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
    client.send(head.as_bytes());
    client.send(&pattern(1_000_000));
    assert_eq!(client.response().status, 403);
    assert_eq!(client.ask("GET", "/ok").status, 200);
    assert_eq!(backend.requests(), ["GET /ok 0"]);
}

#[test]
fn a_client_that_ends_its_side_still_gets_its_answer() {
    let server = Script::start();
    let daemon = start(server.address, "");
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    client.request("GET", "/ok");
    client.finish();
    let mut stream = server.accept();
    let mut request = String::new();
    let _read = stream.read_to_string(&mut request).unwrap();
    assert!(request.starts_with("GET /ok "), "{request}");
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
    assert_eq!(client.response().body, b"hi");
    drop(stream);
    assert_eq!(client.end(), Ok(()));
}

#[test]
fn a_server_s_reset_reaches_the_client() {
    let server = Script::start();
    let daemon = start(server.address, "");
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    client.request("GET", "/ok");
    let mut stream = server.accept();
    let _head = read_head(&mut stream);
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(client.end(), Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_client_s_reset_reaches_the_server() {
    let server = Script::start();
    let daemon = start(server.address, "");
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    client.request("GET", "/ok");
    let mut stream = server.accept();
    let _head = read_head(&mut stream);
    client.reset();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_refused_upstream_is_answered_and_recorded() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = start(nobody, "");
    let mut records = daemon.follow("kind=http-request");
    let response = daemon.connect(Daemon::TIEFIGHTER).ask("GET", "/ok");
    assert_eq!(response.status, 503);
    assert_eq!(records.next().unwrap()["reason"], "upstream_refused");
}

#[test]
fn a_head_that_takes_too_long_is_refused() {
    let backend = Backend::start();
    let daemon = start(backend.address, "head_ms = 50");
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    client.send(b"GET /ok HTTP/1.1\r\nHost:");
    assert_eq!(client.response().status, 408);
    assert_eq!(client.end(), Ok(()));
}

#[test]
fn an_idle_connection_is_not_timed_out() {
    let backend = Backend::start();
    let daemon = start(backend.address, "head_ms = 1");
    let mut idle = daemon.connect(Daemon::TIEFIGHTER);
    assert_eq!(idle.ask("GET", "/ok").status, 200);
    // Fifty others run into the bound meanwhile, one after the other.
    for _ in 0..50 {
        let mut slow = daemon.connect(Daemon::TIEFIGHTER);
        slow.send(b"GET");
        assert_eq!(slow.response().status, 408);
    }
    assert_eq!(idle.ask("GET", "/ok").status, 200);
}

#[test]
fn the_connection_limit_holds_at_max_and_max_plus_one() {
    let backend = Backend::start();
    let daemon = start(backend.address, "connections = 2");
    let mut records = daemon.follow("reason=connection_limit");
    let mut served: Vec<_> = (0..2).map(|_| daemon.connect(Daemon::TIEFIGHTER)).collect();
    for client in &mut served {
        assert_eq!(client.ask("GET", "/ok").status, 200);
    }
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).end(), Err(ErrorKind::ConnectionReset));
    assert_eq!(records.next().unwrap()["verdict"], "denied");
    assert_eq!(daemon.metric("sluice_events_total", "connection_limit"), 1);
}

/// The server's end of the connection is the last of the three.
fn start_with_a_request_under_way(limits: &str) -> (Daemon, Client, TcpStream) {
    let server = Script::start();
    let daemon = start(server.address, limits);
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    client.request("GET", "/ok");
    let mut stream = server.accept();
    let _head = read_head(&mut stream);
    (daemon, client, stream)
}

#[test]
fn draining_lets_requests_end_and_accepts_no_more() {
    let (mut daemon, mut client, mut stream) = start_with_a_request_under_way("drain_ms = 20000");
    daemon.signal(Signal::TERM);
    let _draining = daemon.wait_for("draining");
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
    assert_eq!(client.response().body, b"hi");
    drop(client);
    let exit = daemon.ended();
    assert_eq!(exit.status, Some(0), "{}", exit.stderr);
}

#[test]
fn a_drain_that_runs_out_cuts_what_is_left() {
    let (mut daemon, mut client, _stream) = start_with_a_request_under_way("drain_ms = 20");
    assert_eq!(daemon.terminate().status, Some(0));
    assert!(client.end() != Ok(()), "the client must not take the cut for an end");
}

#[test]
fn a_drain_ends_at_once_when_told_again() {
    let (mut daemon, mut client, _stream) = start_with_a_request_under_way("drain_ms = 3600000");
    daemon.signal(Signal::TERM);
    let _draining = daemon.wait_for("draining");
    assert_eq!(daemon.terminate().status, Some(0));
    assert!(client.end() != Ok(()), "the client must not take the cut for an end");
}

#[test]
fn a_hostile_client_that_reads_nothing_is_held_back() {
    let backend = Backend::start();
    let policies = vec![("a.yaml", L7.to_owned())];
    let daemon = Daemon::start(&Plan { policies, limits: String::new(), backend: backend.address });
    let client = daemon.connect(Daemon::TIEFIGHTER);
    let mut stream = client.stream();
    stream.set_nonblocking(true).unwrap();
    let request = b"GET /no HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let mut written = 0_usize;
    // Every request is denied, every denial is an answer that nobody reads: writing must stop being possible.
    loop {
        match stream.write(&request) {
            Ok(n) => written += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let full = rustix::event::PollFd::new(&stream, rustix::event::PollFlags::OUT);
                let patience = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
                if rustix::event::poll(&mut [full], Some(&patience)).unwrap() == 0 {
                    break;
                }
            }
            Err(error) => panic!("{error}"),
        }
        assert!(written < 100_000_000, "answers pile up");
    }
}
