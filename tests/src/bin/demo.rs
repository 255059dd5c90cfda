//! `make demo`: plays the walk on both families, tells it like a terminal would, cleans up after itself.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "it is a program for people")]

use anyhow::Result;
use e2e::pods::Family;
use e2e::walk::Walk;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};

/// How the walk ended.
enum End {
    Interrupted,
    Played(Box<Result<Walk<'static>>>),
}

fn main() -> ExitCode {
    let keep = std::env::args().any(|argument| argument == "--keep");
    let (ends, end) = channel();
    if let Err(error) = watch_signals(ends.clone()) {
        eprintln!("cannot watch for Ctrl-C: {error}");
        return ExitCode::from(2);
    }
    let _walk = std::thread::spawn(move || {
        let _closed = ends.send(End::Played(Box::new(play())));
    });
    match end.recv() {
        Ok(End::Played(result)) => match *result {
            Ok(walk) => {
                println!("\nEvery step answered as it should.");
                if keep {
                    keep_up(&walk, &end);
                }
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("\nthe walk went differently: {error:#}");
                ExitCode::FAILURE
            }
        },
        Ok(End::Interrupted) | Err(_) => {
            eprintln!("\ninterrupted; cleaning up");
            e2e::leftovers::remove_own();
            ExitCode::from(130)
        }
    }
}

fn play() -> Result<Walk<'static>> {
    let mut walk = Walk::new(Box::leak(Box::new(std::io::stdout())))?;
    for family in Family::BOTH {
        walk.play(family)?;
    }
    Ok(walk)
}

/// Leaves everything up until Ctrl-C.
fn keep_up(walk: &Walk<'_>, end: &Receiver<End>) {
    println!("\nThe pods are up. To enter one:");
    for pod in &walk.node.pods {
        println!("  nsenter --net={} bash    # {}", pod.namespace.path(), pod.spec.name);
    }
    println!("  nsenter --net={} bash    # the node", walk.node.namespace.path());
    println!("The daemon's files: {}", walk.daemon.directory.display());
    println!("Ctrl-C removes everything.");
    let _interrupted = end.recv();
}

fn watch_signals(ends: Sender<End>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let _watcher = std::thread::spawn(move || {
        for _signal in signals.forever() {
            let _closed = ends.send(End::Interrupted);
        }
    });
    Ok(())
}
