//! `make demo`: plays the walk on both families, tells it like a terminal would, cleans up after itself.
//!
//! INVARIANT: whichever way it ends, an answer that differs, Ctrl-C, SIGTERM or a closed terminal, nothing that it made stays.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "it is a program for people")]

use anyhow::Result;
use e2e::pods::{Family, STAR_WARS};
use e2e::walk::Walk;
use e2e::{binaries, leftovers};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// How the walk ended.
enum End {
    Interrupted,
    Played(Box<Result<Walk<'static>>>),
}

const SIGNALS: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

/// What a shell answers for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let keep = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--keep"] => true,
        _ => return refuse("usage: demo [--keep]"),
    };
    if !rustix::process::geteuid().is_root() {
        return refuse(
            "the demo makes network namespaces and loads eBPF, so it needs root; the README's laptop walk does not",
        );
    }
    let (ends, end) = channel();
    let interrupted = match watch_signals(ends.clone()) {
        Ok(interrupted) => interrupted,
        Err(error) => return refuse(&format!("cannot watch for Ctrl-C: {error}")),
    };
    let _walk = std::thread::spawn(move || {
        let _closed = ends.send(End::Played(Box::new(play())));
    });
    let result = match end.recv() {
        // A step that a signal has cut short answered nothing.
        Ok(End::Played(result)) if !interrupted.load(Ordering::Relaxed) => *result,
        Ok(End::Interrupted | End::Played(_)) | Err(_) => {
            eprintln!("\ninterrupted; cleaning up");
            leftovers::remove_own();
            return ExitCode::from(INTERRUPTED);
        }
    };
    match result.and_then(|walk| if keep { keep_up(&walk, &end) } else { Ok(()) }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe walk went differently: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(2)
}

fn play() -> Result<Walk<'static>> {
    let mut walk = Walk::new(Box::leak(Box::new(std::io::stdout())))?;
    for family in Family::BOTH {
        walk.play(family)?;
    }
    println!("\nEvery step answered as it should.");
    Ok(walk)
}

/// Leaves everything up until Ctrl-C.
fn keep_up(walk: &Walk<'_>, end: &Receiver<End>) -> Result<()> {
    println!("\nThe pods are up, without a policy. In another terminal:\n");
    for pod in &walk.node.pods {
        println!("  nsenter --net={} bash    # a shell in {}", pod.namespace.path(), pod.spec.name);
    }
    println!("  nsenter --net={} bash    # a shell on the node", walk.node.namespace.path());
    if let Some(deathstar) = STAR_WARS.first() {
        println!("\n  curl -XPOST http://{}/v1/request-landing    # in a ship", deathstar.v4);
    }
    let policy = binaries::checkout().join("examples/starwars/l7.yaml");
    let sluice = binaries::program("sluice")?;
    let socket = walk.daemon.directory.join("sluiced.sock");
    println!("\n  cp {} {}/rule1.yaml", policy.display(), walk.daemon.policies().display());
    println!("  {} --socket {} monitor", sluice.display(), socket.display());
    println!("\nCtrl-C here, or `kill {}` anywhere, takes everything down.", std::process::id());
    let _interrupted = end.recv();
    Ok(())
}

/// Tells of signals: at once by what it returns, in turn by `ends`.
fn watch_signals(ends: Sender<End>) -> std::io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in SIGNALS {
        let _registered = signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let mut signals = Signals::new(SIGNALS)?;
    let _watcher = std::thread::spawn(move || {
        for _signal in signals.forever() {
            let _closed = ends.send(End::Interrupted);
        }
    });
    Ok(interrupted)
}
