//! The life of TCP connections: ports that are used again, halves that close first, resets.

use crate::stage::Stage;
use e2e::deathstar::{Deathstar, LANDED, PANIC};
use e2e::netns::Namespace;
use e2e::pods::Family;
use e2e::policies::{CLOSED, empire_may_ask, empire_may_reach};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

const DENIED: &str = "Access denied\r\n";
const PORT_7: &str = "[{ports: [{port: \"7\", protocol: TCP}]}]";

/// A SYN may be sent three times; a packet of an established connection is sent again within a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who resets a connection; as long as each other.
const CLIENT: &str = "client";
const SERVER: &str = "server";

/// How a test ends a connection before its ports are used again.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The server's end is in TIME_WAIT after.
    ServerFirst,
    Reset,
}

#[test]
#[ignore = "needs root"]
fn an_ended_connection_does_not_vouch_for_the_next_on_its_ports() {
    let stage = Stage::new();
    let arrived = servers(stage.pod("deathstar-1"), 7, |mut stream| stream.read_exact(&mut [0; 1]));
    for family in Family::BOTH {
        for (port, end) in [(4001, End::ServerFirst), (4002, End::Reset)] {
            let from = stage.at("tiefighter", family, port);
            let connect = || stage.connect("tiefighter", from, stage.at("deathstar-1", family, 7));
            for _round in 0..2 {
                stage.apply("rule1.yaml", &empire_may_reach(PORT_7));
                let mut stream = connect().unwrap();
                stream.write_all(b"x").unwrap();
                close(stream, end);
                arrived.recv().unwrap().unwrap();
                stage.apply("rule1.yaml", CLOSED);
                assert_eq!(connect().unwrap_err().kind(), ErrorKind::TimedOut, "{family:?} {end:?}");
            }
        }
    }
    assert!(arrived.try_recv().is_err(), "a connection that was denied has arrived");
}

#[test]
#[ignore = "needs root"]
fn each_connection_on_the_same_ports_is_inspected_or_not_by_its_own_policy() {
    let stage = Stage::new();
    let deathstar = Deathstar::start(stage.pod("deathstar-1"), 80).unwrap();
    let uninspected = empire_may_reach("[{ports: [{port: \"80\", protocol: TCP}]}]");
    stage.apply("rule1.yaml", &uninspected);
    for family in Family::BOTH {
        let before = deathstar.log().len();
        let from = stage.at("tiefighter", family, 4000);
        let exhaust = |end| {
            exhaust(stage.connect("tiefighter", from, stage.at("deathstar-1", family, 80)).unwrap(), end)
        };
        assert_eq!(exhaust(End::Reset), PANIC, "{family:?}");
        stage.apply("rule1.yaml", &empire_may_ask("[{method: POST, path: /v1/request-landing}]"));
        assert_eq!(exhaust(End::Reset), DENIED, "{family:?}");
        assert_eq!(exhaust(End::ServerFirst), DENIED, "{family:?}");
        assert_eq!(exhaust(End::ServerFirst), DENIED, "{family:?}");
        stage.apply("rule1.yaml", &uninspected);
        assert_eq!(exhaust(End::Reset), PANIC, "{family:?}");
        let clients: Vec<_> = deathstar.log()[before..].iter().map(|seen| seen.client.port()).collect();
        assert_eq!(clients, [4000, 4000], "{family:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn the_server_of_an_inspected_connection_sees_the_clients_own_port() {
    let stage = Stage::new();
    let deathstar = Deathstar::start(stage.pod("deathstar-1"), 80).unwrap();
    stage.apply("rule1.yaml", &empire_may_ask("[{method: PUT, path: /v1/exhaust-port}]"));
    for family in Family::BOTH {
        let before = deathstar.log().len();
        let from = |port| stage.at("tiefighter", family, port);
        let ports = 4000..4010;
        for port in ports.clone() {
            let stream =
                stage.connect("tiefighter", from(port), stage.at("deathstar-1", family, 80)).unwrap();
            assert_eq!(exhaust(stream, End::ServerFirst), PANIC, "{family:?}");
        }
        let clients: Vec<_> = deathstar.log()[before..].iter().map(|seen| seen.client.port()).collect();
        assert_eq!(clients, ports.collect::<Vec<_>>(), "{family:?}");
    }
}

/// Its connection to the server may not be over when the next one has to be made: none of them is lost.
#[test]
#[ignore = "needs root"]
fn a_port_is_used_again_before_the_proxy_knows_that_it_is_free() {
    let stage = Stage::new();
    let _deathstar = Deathstar::start(stage.pod("deathstar-1"), 80).unwrap();
    stage.apply("rule1.yaml", &empire_may_ask("[{method: PUT, path: /v1/exhaust-port}]"));
    for family in Family::BOTH {
        let from = stage.at("tiefighter", family, 4000);
        for _again in 0..200 {
            let stream = stage.connect("tiefighter", from, stage.at("deathstar-1", family, 80)).unwrap();
            assert_eq!(exhaust(stream, End::Reset), PANIC, "{family:?}");
        }
    }
}

/// The client, and the node for the proxy, have so few ports that each is soon used again, inspected or not. Each connection
/// is answered, or reset because it has to be inspected from now on; none waits for what another one's end was told.
#[test]
#[ignore = "needs root"]
fn no_connection_stalls_while_inspection_comes_and_goes() {
    const FLIPS: usize = 200;
    let stage = Stage::new();
    let _deathstar = Deathstar::start(stage.pod("deathstar-1"), 80).unwrap();
    for chooser in [stage.pod("tiefighter"), &stage.node.namespace] {
        chooser.sysctl("net.ipv4.ip_local_port_range=40000 40063").unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4).map(|number| lander(&stage, Family::BOTH[number % 2], &stop)).collect();
    for flip in 0..FLIPS {
        let inspected = empire_may_ask("[{method: POST, path: /v1/request-landing}]");
        let uninspected = empire_may_reach("[{ports: [{port: \"80\", protocol: TCP}]}]");
        stage.apply("rule1.yaml", if flip % 2 == 0 { &inspected } else { &uninspected });
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let landed = client.join().unwrap().unwrap();
        assert!(landed > FLIPS, "too few connections to meet another's port: {landed}");
    }
}

/// Lands again and again, a connection each, until stopped. How often it landed.
fn lander(stage: &Stage, family: Family, stop: &Arc<AtomicBool>) -> JoinHandle<anyhow::Result<usize>> {
    let server = stage.at("deathstar-1", family, 80);
    let stop = Arc::clone(stop);
    stage.pod("tiefighter").spawn(move || {
        let mut landed = 0;
        while !stop.load(Ordering::Relaxed) {
            match land(server) {
                Ok(answer) => {
                    assert!(answer.ends_with(LANDED), "{family:?} {answer:?}");
                    landed += 1;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{family:?} {error}"),
            }
        }
        landed
    })
}

fn land(server: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"POST /v1/request-landing HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    let _bytes = stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The body of the answer.
fn exhaust(mut stream: TcpStream, end: End) -> String {
    let connection = match end {
        End::ServerFirst => "close",
        End::Reset => "keep-alive",
    };
    write!(stream, "PUT /v1/exhaust-port HTTP/1.1\r\nHost: deathstar\r\nConnection: {connection}\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(head(&mut stream).unwrap()).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    close(stream, end);
    String::from_utf8(body).unwrap()
}

#[test]
#[ignore = "needs root"]
fn the_other_half_goes_on_when_one_has_closed() {
    const ANSWER: usize = 300_000;
    let stage = Stage::new();
    let answers = servers(stage.pod("deathstar-1"), 7, |mut stream| {
        let mut question = Vec::new();
        let _read = stream.read_to_end(&mut question)?;
        assert_eq!(question, b"question");
        stream.write_all(&[b'x'; ANSWER])
    });
    stage.apply("rule1.yaml", &empire_may_reach(PORT_7));
    for family in Family::BOTH {
        let mut stream = connect(&stage, family, 7);
        stream.write_all(b"question").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        assert_eq!(stream.read_to_end(&mut answer).unwrap(), ANSWER, "{family:?}");
        answers.recv().unwrap().unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn resets_reach_the_other_end() {
    let stage = Stage::new();
    let ends = servers(stage.pod("deathstar-1"), 7, |mut stream| {
        let mut word = [0; SERVER.len()];
        stream.read_exact(&mut word)?;
        stream.write_all(b"pong")?;
        if word == *SERVER.as_bytes() {
            reset(stream)
        } else {
            assert_reset(&stream)
        }
        Ok(())
    });
    stage.apply("rule1.yaml", &empire_may_reach(PORT_7));
    check_resets(&stage, 7, &ends, |mut stream, word| {
        stream.write_all(word.as_bytes()).unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        stream
    });
}

#[test]
#[ignore = "needs root"]
fn resets_pass_an_inspected_connection() {
    let stage = Stage::new();
    let ends = servers(stage.pod("deathstar-1"), 80, |mut stream| {
        let head = head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        if head.starts_with(b"POST /server") {
            reset(stream);
        } else {
            assert_reset(&stream);
        }
        Ok(())
    });
    stage.apply(
        "rule1.yaml",
        &empire_may_ask("[{method: POST, path: /client}, {method: POST, path: /server}]"),
    );
    check_resets(&stage, 80, &ends, |mut stream, word| {
        write!(
            stream,
            "POST /{word} HTTP/1.1\r\nHost: d\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        )
        .unwrap();
        stream.read_exact(&mut [0; "HTTP/1.1 100 Continue\r\n\r\n".len()]).unwrap();
        stream
    });
}

/// `begin` says whose reset it will be, and returns when the server has read it and answered.
#[track_caller]
fn check_resets(
    stage: &Stage,
    port: u16,
    ends: &Receiver<io::Result<()>>,
    begin: impl Fn(TcpStream, &str) -> TcpStream,
) {
    for family in Family::BOTH {
        assert_reset(&begin(connect(stage, family, port), SERVER));
        ends.recv().unwrap().unwrap();
        reset(begin(connect(stage, family, port), CLIENT));
        ends.recv().unwrap().unwrap();
    }
}

fn connect(stage: &Stage, family: Family, port: u16) -> TcpStream {
    stage
        .connect("tiefighter", stage.at("tiefighter", family, 0), stage.at("deathstar-1", family, port))
        .unwrap()
}

/// Serves connections one after the other in a pod. Each sends what came of it; a panic ends them all.
fn servers(
    pod: &Namespace,
    port: u16,
    serve: impl Fn(TcpStream) -> io::Result<()> + Send + 'static,
) -> Receiver<io::Result<()>> {
    let listener = pod.run(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap()).unwrap();
    let (ended, ends) = channel();
    let _detached = std::thread::spawn(move || {
        for stream in listener.incoming() {
            if ended.send(stream.and_then(&serve)).is_err() {
                return;
            }
        }
    });
    ends
}

/// A message's head, byte by byte: what follows it is left.
fn head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(head)
}

/// Waits for the server's end, or goes first.
fn close(mut stream: TcpStream, end: End) {
    match end {
        End::ServerFirst => assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0),
        End::Reset => reset(stream),
    }
}

/// Ends it with a reset at once. Closing would not: a process that another test starts just now may hold a copy of the socket.
fn reset(stream: TcpStream) {
    rustix::net::connect_unspec(stream).unwrap();
}

#[track_caller]
fn assert_reset(mut stream: &TcpStream) {
    let error = stream.read(&mut [0; 1]).expect_err("the connection goes on, or ended without a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
