//! Numbers that the kernel keeps about another process.

use std::{fs, io};

/// Time on a processor of all its threads.
pub(crate) fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// Memory that is its own, and its share of what is not.
pub(crate) fn pss_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0");
    let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    Ok(kib * 1024)
}

pub(crate) fn ratio(spent: u64, of: u64) -> f64 {
    let exact = |n: u64| f64::from(u32::try_from(n / 1024).unwrap_or(u32::MAX)) * 1024.0;
    if of < 1024 { 0.0 } else { exact(spent) / exact(of) }
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}
