//! `make fair`: every attack on both families, and what it costs the victim, as a table.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "it is a program for people")]

use anyhow::Result;
use e2e::fair::arena::{Arena, SHORT, WHOLE};
use e2e::fair::revocation::{self, Others};
use e2e::fair::{attacks, run, table};
use e2e::pods::Family;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if !rustix::process::geteuid().is_root() {
        eprintln!("fair: makes network namespaces and loads eBPF, so it needs root");
        return ExitCode::FAILURE;
    }
    match measure(&wanted).and_then(|fair| measure_revocation(&wanted).map(|()| fair)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fair: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// All attacks, or those whose names hold one of these words. Returns whether all are fair.
fn measure(wanted: &[String]) -> Result<bool> {
    println!("{}", table::HEAD);
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str()));
    let mut fair = true;
    for attack in attacks::ALL.iter().filter(|attack| is_wanted(attack.name)) {
        for family in Family::BOTH {
            // Each from nothing: what one attack leaves behind is no part of the next one's measurement.
            let arena = Arena::start(WHOLE)?;
            match run(&arena, attack, family) {
                Ok(row) => {
                    println!("{row}");
                    row.attacked.lost.iter().take(3).for_each(|lost| eprintln!("  lost: {lost}"));
                    fair &= row.is_fair();
                }
                Err(error) => {
                    println!(
                        "| {} | {} | | | | | {} | FAILED: {error:#} |",
                        attack.name,
                        family.name(),
                        attack.bound
                    );
                    fair = false;
                }
            }
        }
    }
    Ok(fair)
}

/// How long a revocation takes beside very many flows of another pod: medians, for comparison with one another.
fn measure_revocation(wanted: &[String]) -> Result<()> {
    const ROUNDS: usize = 5;
    if !wanted.is_empty() && !wanted.iter().any(|word| word == "revocation") {
        return Ok(());
    }
    println!("\n{}", revocation::HEAD);
    let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
    for others in Others::ALL {
        let arena = Arena::start(SHORT)?;
        let rounds = (0..ROUNDS).map(|_| revocation::round(&arena, Family::V4, others));
        let Some(times) = revocation::medians(&rounds.collect::<Result<Vec<_>>>()?) else { continue };
        print!("| {} | {:.0} ms ", others.name(), milliseconds(times.direct));
        println!("| {:.0} ms | {:.0} ms |", milliseconds(times.inspected), milliseconds(times.in_force));
    }
    Ok(())
}
