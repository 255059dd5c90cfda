//! A thousand flips between two L7 policies under load: each answer is the one of the revision that its record names.

use e2e::daemon::Daemon;
use e2e::deathstar::Deathstar;
use e2e::pods::{Family, Node, STAR_WARS};
use e2e::policies::empire_may_ask;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FLIPS: usize = 1_000;
/// The path of every request is its own, so that an answer finds its record.
const EVEN: &str = "[{method: GET, path: \"/even/.*\"}]";
const ODD: &str = "[{method: GET, path: \"/odd/.*\"}]";

/// Path -> status, as one client saw it.
type Answers = HashMap<String, u16>;

#[test]
#[ignore = "needs root"]
fn every_answer_is_that_of_the_revision_it_names() {
    let node = Node::new(&STAR_WARS).unwrap();
    let deathstar = Deathstar::start(&node.pod("deathstar-1").namespace, 80).unwrap();
    let daemon = Daemon::start(&node).unwrap();
    let mut even_of = HashMap::new();
    let _before = even_of.insert(daemon.apply("rule1.yaml", &empire_may_ask(EVEN)).unwrap(), true);
    let mut monitor = daemon
        .sluice_command()
        .unwrap()
        .args(["monitor", "--follow", "--last", "100000", "--type", "http-request", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let records = follow(monitor.stdout.take().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4).map(|number| client(&node, number, Arc::clone(&stop))).collect();

    for flip in 1..=FLIPS {
        let even = flip % 2 == 0;
        let revision = daemon.apply("rule1.yaml", &empire_may_ask(if even { EVEN } else { ODD })).unwrap();
        let _before = even_of.insert(revision, even);
    }

    stop.store(true, Ordering::Relaxed);
    let mut answers = Answers::new();
    for client in clients {
        answers.extend(client.join().unwrap().unwrap());
    }
    daemon
        .wait_until("every answer is recorded", |_| records.lock().unwrap().len() >= answers.len())
        .unwrap();
    monitor.kill().unwrap();
    let _status = monitor.wait().unwrap();
    check(&answers, &records.lock().unwrap(), &even_of);
    let forwarded = answers.values().filter(|&&status| status != 403).count();
    assert_eq!(deathstar.log().len(), forwarded, "the backend's log disagrees");
}

/// Asks in turn for even and odd paths on one connection until stopped. Losing the connection is a failure.
fn client(
    node: &Node,
    number: usize,
    stop: Arc<AtomicBool>,
) -> std::thread::JoinHandle<anyhow::Result<Answers>> {
    let family = Family::BOTH[number % 2];
    let server = SocketAddr::new(node.pod("deathstar-1").spec.address(family), 80);
    node.pod("tiefighter").namespace.spawn(move || {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut answers = Answers::new();
        for round in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let path = format!("/{}/{number}-{round}", if round % 2 == 0 { "even" } else { "odd" });
            write!(stream, "GET {path} HTTP/1.1\r\nHost: deathstar\r\n\r\n").unwrap();
            let _before = answers.insert(path, status_of_answer(&mut stream));
            std::thread::sleep(Duration::from_millis(1));
        }
        answers
    })
}

fn status_of_answer(stream: &mut TcpStream) -> u16 {
    let mut text = Vec::new();
    let mut byte = [0; 1];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    stream.read_exact(&mut vec![0; length]).unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Lines as they come.
fn follow(output: ChildStdout) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&lines);
    let _reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            all.lock().unwrap().push(line);
        }
    });
    lines
}

fn check(answers: &Answers, records: &[String], even_of: &HashMap<u64, bool>) {
    let mut seen = HashMap::new();
    for line in records {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let path = record["path"].as_str().unwrap().to_owned();
        let revision = record["revision"].as_u64().unwrap();
        assert!(seen.insert(path, revision).is_none(), "two records of one request: {line}");
    }
    for (path, status) in answers {
        let revision = seen.get(path).unwrap_or_else(|| panic!("no record of {path}"));
        let even = even_of.get(revision).unwrap_or_else(|| panic!("revision {revision} was never in force"));
        let allowed = path.starts_with("/even/") == *even;
        // The deathstar answers 404 to what it does not know.
        assert_eq!(*status, if allowed { 404 } else { 403 }, "{path} at revision {revision}");
    }
}
