//! The daemon's totals against the clients' own, with records that are lost on the way.

use crate::common::{Backend, Client, Daemon, OK, Plan};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
const REQUESTS_OF_ONE: usize = 1_500;
/// Requests that a client sends before it reads the answers.
const AT_ONCE: usize = 50;

/// Only an error that hangs the test is ever waited for that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Denials counted = answered = recorded + counted as lost. Nobody reads the records before all is answered, so that
/// most of them find no room.
#[test]
fn denials_are_counted_answered_and_recorded_or_lost() {
    let backend = Backend::start();
    let limits = "flow_records = 16".to_owned();
    let daemon =
        Daemon::start(&Plan { policies: vec![("a.yaml", OK.to_owned())], limits, backend: backend.address });
    let records = daemon.follow("kind=http-request&verdict=denied");
    let (allowed, denied) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS)
            .map(|client| (client, daemon.connect(Daemon::TIEFIGHTER)))
            .map(|(number, client)| scope.spawn(move || ask(client, number)))
            .collect();
        let answered = threads.into_iter().map(|thread| thread.join().unwrap());
        answered.fold((0, 0), |sum, answered| (sum.0 + answered.0, sum.1 + answered.1))
    });
    assert_eq!(allowed + denied, CLIENTS * REQUESTS_OF_ONE);
    assert_eq!(backend.requests().len(), allowed);
    assert!(backend.requests().iter().all(|request| request.starts_with("GET /ok/")));

    let counted = |verdict| daemon.metric("sluice_requests_total", &format!("verdict=\"{verdict}\""));
    assert_eq!((counted("forwarded"), counted("denied")), (allowed, denied));

    let lost = || daemon.metric("sluice_records_lost_total", "verdict=\"denied\"");
    let seen = count(records);
    let recorded = until(&seen, |recorded| recorded + lost() >= denied);
    assert_eq!(recorded + lost(), denied);
    assert!(lost() > 0, "nothing was lost: the test tests less than it should");

    // Nothing is left behind: the next record is that of the next denial.
    let lost_before = lost();
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).ask("GET", "/no/last").status, 403);
    assert_eq!(seen.recv_timeout(PATIENCE).as_deref(), Ok("/no/last"));
    assert_eq!(lost(), lost_before);
}

/// A client's own totals: answered with 200, and with 403.
fn ask(mut client: Client, number: usize) -> (usize, usize) {
    let mut answered = (0, 0);
    let paths: Vec<String> = (0..REQUESTS_OF_ONE)
        .map(|n| {
            if (n + number).is_multiple_of(5) {
                format!("/ok/{number}/{n}")
            } else {
                format!("/no/{number}/{n}")
            }
        })
        .collect();
    for paths in paths.chunks(AT_ONCE) {
        paths.iter().for_each(|path| client.request("GET", path));
        for path in paths {
            let response = client.response();
            match response.status {
                200 => {
                    assert_eq!(response.body, path.as_bytes());
                    answered.0 += 1;
                }
                403 => {
                    assert!(path.starts_with("/no/"), "{path} was denied");
                    answered.1 += 1;
                }
                other => panic!("{other} for {path}"),
            }
        }
    }
    answered
}

/// The paths of the records, as they are read.
fn count(records: impl Iterator<Item = serde_json::Value> + Send + 'static) -> Receiver<String> {
    let (sender, seen) = channel();
    let _thread = std::thread::spawn(move || {
        let paths = records.map(|record| record["path"].as_str().unwrap().to_owned());
        paths.take_while(|path| sender.send(path.clone()).is_ok()).for_each(drop);
    });
    seen
}

/// Reads until so many were seen. Records on their way may be lost yet, so that none may come.
fn until(seen: &Receiver<String>, is_enough: impl Fn(usize) -> bool) -> usize {
    let start = Instant::now();
    let mut count = 0;
    while !is_enough(count) {
        assert!(start.elapsed() < PATIENCE, "{count} records were seen, and no more come");
        count += seen.recv_timeout(Duration::from_millis(20)).map_or(0, |_path| 1 + seen.try_iter().count());
    }
    count
}
