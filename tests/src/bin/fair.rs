//! `make fair`: every attack on both families, and what it costs the victim, as a table.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "it is a program for people")]

use anyhow::Result;
use e2e::fair::arena::{Arena, WHOLE};
use e2e::fair::{attacks, run, table};
use e2e::pods::Family;
use std::process::ExitCode;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if !rustix::process::geteuid().is_root() {
        eprintln!("fair: makes network namespaces and loads eBPF, so it needs root");
        return ExitCode::FAILURE;
    }
    match measure(&wanted) {
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
