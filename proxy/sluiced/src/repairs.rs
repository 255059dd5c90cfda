//! What other programs did to our things in the kernel, as findings and log lines. Pure: `now` is an argument.
//!
//! What was put back is over, but whatever removed it may do so again: it is reported for [`REPORTED_FOR`].

use crate::findings::of_machine;
use proxy_core::api::Finding;
use redirect::{Fault, Look, Severity};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// After the last time.
const REPORTED_FOR: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
pub(crate) struct Repairs {
    /// By what was removed: how often, and when last.
    put_back: BTreeMap<String, (u64, Instant)>,
    faults: Vec<Fault>,
}

impl Repairs {
    /// Takes what a look has found; each thing is logged once, faults when they begin and when they end.
    pub(crate) fn add(&mut self, look: Look, now: Instant) {
        for part in look.put_back {
            tracing::warn!(part, "restored after another program removed or changed it");
            let (times, last) = self.put_back.entry(part).or_insert((0, now));
            (*times, *last) = (*times + 1, now);
        }
        for fault in look.faults.iter().filter(|fault| !self.faults.contains(fault)) {
            tracing::warn!(fix = fault.fix, "{}", fault.message);
        }
        for fault in self.faults.iter().filter(|fault| !look.faults.contains(fault)) {
            tracing::info!("resolved: {}", fault.message);
        }
        self.faults = look.faults;
    }

    pub(crate) fn findings(&mut self, now: Instant) -> Vec<Finding> {
        self.put_back.retain(|_, (_, last)| now.saturating_duration_since(*last) < REPORTED_FOR);
        let put_back = self.put_back.iter().map(|(part, (times, _))| of_part(part, *times));
        self.faults.iter().map(of_fault).chain(put_back).collect()
    }
}

fn of_part(part: &str, times: u64) -> Finding {
    let times = if times == 1 { "once".into() } else { format!("{times} times") };
    Finding {
        fix: "find the program that does it; this is reported for an hour after the last time".into(),
        ..of_machine(format!("{part}: removed or changed by another program, {times}; restored"))
    }
}

fn of_fault(fault: &Fault) -> Finding {
    let severity = match fault.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    Finding { severity: severity.into(), fix: fault.fix.clone(), ..of_machine(fault.message.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "the IPv4 rule";

    fn put_back() -> Look {
        Look { put_back: vec![RULE.into()], faults: Vec::new() }
    }

    fn messages(repairs: &mut Repairs, now: Instant) -> Vec<String> {
        repairs.findings(now).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn what_was_put_back_is_reported_for_an_hour_after_the_last_time() {
        let (mut repairs, begin) = (Repairs::default(), Instant::now());
        repairs.add(put_back(), begin);
        assert_eq!(
            messages(&mut repairs, begin),
            ["the IPv4 rule: removed or changed by another program, once; restored"]
        );
        let again = begin + REPORTED_FOR / 2;
        repairs.add(put_back(), again);
        repairs.add(Look::default(), again);
        let almost = again + REPORTED_FOR - Duration::from_nanos(1);
        assert_eq!(
            messages(&mut repairs, almost),
            ["the IPv4 rule: removed or changed by another program, 2 times; restored"]
        );
        assert_eq!(messages(&mut repairs, again + REPORTED_FOR), [""; 0]);
    }

    #[test]
    fn a_fault_is_reported_while_it_lasts() {
        let (mut repairs, now) = (Repairs::default(), Instant::now());
        let fault = Fault { severity: Severity::Error, message: "it is dead".into(), fix: "mend it".into() };
        repairs.add(Look { put_back: Vec::new(), faults: vec![fault] }, now);
        let found = repairs.findings(now);
        let said = found.iter().map(|f| (f.severity.as_str(), f.message.as_str(), f.fix.as_str()));
        assert_eq!(said.collect::<Vec<_>>(), [("error", "it is dead", "mend it")]);
        repairs.add(Look::default(), now);
        assert_eq!(messages(&mut repairs, now), [""; 0]);
    }
}
