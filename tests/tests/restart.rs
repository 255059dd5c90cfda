//! The daemon's absence: what the kernel keeps enforcing, and what the next process takes over.

use e2e::daemon::Daemon;
use e2e::deathstar::{Deathstar, LANDED};
use e2e::echo;
use e2e::netns::Namespace;
use e2e::pods::{Family, Node, STAR_WARS};
use e2e::policies::empire_may_reach;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(2);

/// Port 80 inspected, port 7 plain.
fn both() -> String {
    empire_may_reach(
        "[{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{method: POST, path: /v1/request-landing}]}}, \
         {ports: [{port: \"7\", protocol: TCP}]}]",
    )
}

fn lands(ship: &Namespace, server: SocketAddr) -> bool {
    let url = format!("http://{server}/v1/request-landing");
    let output = ship.command("curl").args(["-s", "--max-time", "2", "-XPOST", &url]).output().unwrap();
    output.stdout == LANDED.as_bytes()
}

fn connects(ship: &Namespace, server: SocketAddr) -> bool {
    ship.run(move || TcpStream::connect_timeout(&server, WAIT)).unwrap().is_ok()
}

#[test]
#[ignore = "needs root"]
fn without_the_daemon_the_kernel_enforces_and_redirected_ports_are_dropped() {
    let node = Node::new(&STAR_WARS).unwrap();
    let _deathstar = Deathstar::start(&node.pod("deathstar-1").namespace, 80).unwrap();
    let _arrivals = echo::tcp(&node.pod("deathstar-1").namespace, 7).unwrap();
    let mut daemon = Daemon::start(&node).unwrap();
    let _revision = daemon.apply("rule1.yaml", &both()).unwrap();
    for family in Family::BOTH {
        let at = |port| SocketAddr::new(node.pod("deathstar-1").spec.address(family), port);
        let (tiefighter, xwing) = (&node.pod("tiefighter").namespace, &node.pod("xwing").namespace);
        assert!(lands(tiefighter, at(80)), "{family:?}");
        daemon.kill().unwrap();
        assert!(!connects(tiefighter, at(80)), "{family:?}: a redirected port passed");
        assert!(connects(tiefighter, at(7)), "{family:?}: L4 allow is gone");
        assert!(!connects(xwing, at(7)), "{family:?}: L4 deny is gone");
        daemon.spawn().unwrap();
        assert!(lands(tiefighter, at(80)), "{family:?}");
        assert!(!connects(xwing, at(7)), "{family:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn kill_and_restart_under_load_lose_no_established_l4_connection() {
    let node = Node::new(&STAR_WARS).unwrap();
    let _arrivals = echo::tcp(&node.pod("deathstar-1").namespace, 7).unwrap();
    let mut daemon = Daemon::start(&node).unwrap();
    let _revision = daemon.apply("rule1.yaml", &both()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = Family::BOTH
        .iter()
        .cycle()
        .take(8)
        .map(|family| {
            let server = SocketAddr::new(node.pod("deathstar-1").spec.address(*family), 7);
            let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
            node.pod("tiefighter").namespace.spawn(move || -> std::io::Result<()> {
                let mut stream = TcpStream::connect_timeout(&server, WAIT)?;
                stream.set_read_timeout(Some(WAIT))?;
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(b"0123456789")?;
                    stream.read_exact(&mut [0; 10])?;
                    let _before = rounds.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    for _restart in 0..3 {
        more_rounds(&daemon, &rounds);
        daemon.kill().unwrap();
        more_rounds(&daemon, &rounds);
        daemon.spawn().unwrap();
        more_rounds(&daemon, &rounds);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap().unwrap().unwrap();
    }
}

/// Waits until the clients have gone round a thousand times more.
fn more_rounds(daemon: &Daemon, rounds: &AtomicUsize) {
    let before = rounds.load(Ordering::Relaxed);
    daemon.wait_until("clients go on", |_| rounds.load(Ordering::Relaxed) > before + 1_000).unwrap();
}
