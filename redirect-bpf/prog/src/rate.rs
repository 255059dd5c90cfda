//! How many events a sender may cause: so many a second, and a burst at once. What is beyond is counted for the sender, so that nobody's
//! flood of refused packets hides what others did.
//!
//! The account holds when all that it has used up is earned again (a leaky bucket as a meter: GCRA, ITU-T I.371). Two CPUs at once
//! may count one for both: that lets one more through.

use redirect_abi::EVENTS_BURST;

use crate::tables::{Account, Tables};

/// Whether one more may be told now. Counts it as told, or as lost.
#[inline(always)]
pub fn may_tell(tables: &impl Tables, account: &Account, now_ns: u64) -> bool {
    let interval_ns = tables.event_interval_ns();
    let until_ns = account.events_until_ns.load().max(now_ns);
    if until_ns - now_ns > (EVENTS_BURST - 1) * interval_ns {
        lose(tables, account);
        return false;
    }
    account.events_until_ns.store(until_ns + interval_ns);
    true
}

#[inline(always)]
pub fn lose(tables: &impl Tables, account: &Account) {
    tables.add(&account.events_lost, 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::model::world::SECOND_NS;

    const PER_SECOND: u64 = 500;

    fn at_a_rate() -> Model {
        let model = Model::default();
        model.event_interval_ns.set(SECOND_NS / PER_SECOND);
        model
    }

    fn told(model: &Model, account: &Account, times: u64) -> u64 {
        (0..times).map(|_| u64::from(may_tell(model, account, model.now_ns.get()))).sum()
    }

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let model = at_a_rate();
        let account = Account::default();
        model.now_ns.set(SECOND_NS);
        assert_eq!(told(&model, &account, EVENTS_BURST), EVENTS_BURST);
        assert_eq!(told(&model, &account, 1), 0);
        assert_eq!(account.events_lost.load(), 1);
        model.now_ns.set(2 * SECOND_NS);
        assert_eq!(told(&model, &account, 2 * PER_SECOND), PER_SECOND);
        assert_eq!(account.events_lost.load(), 1 + PER_SECOND);
        // Silence earns a burst again, and no more.
        model.now_ns.set(3_600 * SECOND_NS);
        assert_eq!(told(&model, &account, 2 * EVENTS_BURST), EVENTS_BURST);
    }

    #[test]
    fn one_sender_s_flood_is_its_own() {
        let model = at_a_rate();
        let (greedy, other) = (Account::default(), Account::default());
        assert_eq!(told(&model, &greedy, 100_000), EVENTS_BURST);
        assert_eq!(told(&model, &other, EVENTS_BURST), EVENTS_BURST);
        assert_eq!((greedy.events_lost.load(), other.events_lost.load()), (100_000 - EVENTS_BURST, 0));
    }

    #[test]
    fn without_a_rate_all_are_told() {
        let (model, account) = (Model::default(), Account::default());
        assert_eq!(told(&model, &account, 10 * EVENTS_BURST), 10 * EVENTS_BURST);
    }
}
