//! Shares: who is charged, at how many an opener is stopped, and that counters are sums over entries.

use proptest::prelude::*;
use redirect_abi::{Address, Quota, direction::INGRESS, lifetime, prefix_of, verdict::REDIRECT};
use std::collections::BTreeMap;

use super::*;
use crate::model::frames::{TestFrame, tcp as segment, udp};
use crate::model::world::{FAMILIES, Family, Party, World, flow, frame, peer};
use crate::model::{Model, OUTSIDERS_MAX};
use crate::packet::tcp::{ACK, FIN, RST, SYN};
use crate::protocol::{TCP, UDP};
use crate::verdict::Pass;
use Party::{A, B, Host, Outside};

#[test]
fn an_endpoint_has_its_guarantee_then_borrows_then_overflows() {
    for family in FAMILIES {
        let world = limited(Quota { endpoint: 2, other: 1, pool: 9 });
        for port in 0..12 {
            assert_eq!(world.from(A, &datagram(family, A, B, 4000 + port)).0, Ok(Pass::Checked));
        }
        // 8 of 9: when 8 are borrowed, 1 is free, and 8 times that is what one may have.
        assert_eq!(counts(&world, payer::ENDPOINT, A), (2, 8));
        assert_eq!(world.model.overflow.borrow().len(), 2);
    }
}

#[test]
fn what_one_borrows_is_nobody_elses_guarantee() {
    for family in FAMILIES {
        let world = limited(Quota { endpoint: 3, other: 2, pool: 4 });
        for port in 0..40 {
            assert!(world.from(A, &datagram(family, A, B, 4000 + port)).0.is_ok());
        }
        for port in 0..3 {
            assert!(world.from(B, &datagram(family, B, A, 4000 + port)).0.is_ok());
        }
        for port in 0..2 {
            let probe = frame(family, Host, B, TCP, &segment(5000 + port, 8080, SYN));
            assert!(world.to(B, Host, 0, &probe).0.is_ok());
        }
        assert_eq!(counts(&world, payer::ENDPOINT, B).0, 3);
        assert_eq!(counts(&world, payer::NODE, B), (2, 0), "who asks is charged");
        assert!(world.model.overflow.borrow().keys().all(|key| key.source == address(family, A)));
    }
}

#[test]
fn greedy_ones_share_what_is_free_and_leave_some() {
    let world = limited(Quota { endpoint: 0, other: 0, pool: 34 });
    for port in 0..100 {
        assert!(world.from(A, &datagram(Family::V4, A, B, 4000 + port)).0.is_ok());
    }
    let (_, first) = counts(&world, payer::ENDPOINT, A);
    for port in 0..100 {
        assert!(world.from(B, &datagram(Family::V4, B, A, 4000 + port)).0.is_ok());
    }
    let (_, second) = counts(&world, payer::ENDPOINT, B);
    assert_eq!((first, second), (31, 3));
    assert!(first + second <= 34);
}

#[test]
fn outsiders_are_charged_by_prefix_and_never_the_asked() {
    for family in FAMILIES {
        let world = limited(Quota { endpoint: 1, other: 2, pool: 0 });
        for port in 0..3 {
            assert!(world.to(B, Outside, 0, &from_prefix(family, 1, port)).0.is_ok());
        }
        assert_eq!(world.model.overflow.borrow().len(), 1);
        // Another prefix is not of the same account,
        assert!(world.to(B, Outside, 0, &from_prefix(family, 2, 9)).0.is_ok());
        assert_eq!(world.model.overflow.borrow().len(), 1);
        // ... and the endpoint's own is untouched.
        assert_eq!(counts(&world, payer::ENDPOINT, B), (0, 0));
        assert_eq!(counts(&world, payer::NODE, B), (0, 0));
    }
}

#[test]
fn prefixes_without_an_account_of_their_own_share_one() {
    let world = limited(Quota { endpoint: 1, other: 1, pool: 0 });
    for prefix in 0..OUTSIDERS_MAX + 2 {
        let prefix = u8::try_from(prefix).unwrap();
        assert!(world.to(B, Outside, 0, &from_prefix(Family::V4, prefix, 1)).0.is_ok());
    }
    assert_eq!(counts(&world, payer::OUTSIDE_REST, B), (1, 0));
    assert_eq!(world.model.overflow.borrow().len(), 1);
}

#[test]
fn prefixes_are_slash_24_and_slash_64() {
    assert_eq!(prefix_of(&crate::packet::mapped([192, 0, 2, 77])), crate::packet::mapped([192, 0, 2, 0]));
    let six = [0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    assert_eq!(prefix_of(&six), [0xfd, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn an_inspected_connection_beyond_the_quota_is_refused() {
    for family in FAMILIES {
        let mut world = limited(Quota { endpoint: 2, other: 0, pool: 0 });
        world.policy(B, &[peer(INGRESS, A, REDIRECT)]);
        let syn = |port| frame(family, A, B, TCP, &segment(port, 80, SYN));
        assert_eq!(world.from(A, &syn(4000)).0, Ok(Pass::ToProxy));
        assert_eq!(world.from(A, &syn(4001)).0, Ok(Pass::ToProxy));
        assert_eq!(world.from(A, &syn(4002)).0, Err(Reason::FlowQuota));
        // Again on the ports of one that is there: no more than before.
        assert_eq!(world.from(A, &syn(4001)).0, Ok(Pass::ToProxy));
        // Direct flows are another account's line: none of them takes the place of one that is inspected.
        for port in 0..20 {
            assert!(world.from(A, &datagram(family, A, Outside, 6000 + port)).0.is_ok());
        }
        let data = frame(family, A, B, TCP, &segment(4000, 80, ACK));
        assert_eq!(world.from(A, &data).0, Ok(Pass::ToProxy));
    }
}

#[test]
fn what_the_proxy_dials_is_charged_to_its_client() {
    for family in FAMILIES {
        let world = limited(Quota { endpoint: 1, other: 5, pool: 0 });
        let dial = |port| frame(family, A, B, TCP, &segment(port, 80, SYN));
        let mark = redirect_abi::mark::PROXY_UPSTREAM;
        assert_eq!(world.to(B, Host, mark, &dial(4000)).0, Ok(Pass::Unmarked));
        assert_eq!(world.to(B, Host, mark, &dial(4001)).0, Err(Reason::FlowQuota));
        assert_eq!(account(&world, payer::ENDPOINT, A).own[2].load(), 1);
    }
}

#[test]
fn closed_connections_make_room_for_each_other() {
    let ends = [(FIN | ACK, FIN | ACK), (RST, ACK), (ACK, RST | ACK)];
    for (family, (there, back)) in FAMILIES.into_iter().zip(ends).chain([(Family::V4, ends[2])]) {
        let world = limited(Quota { endpoint: 8, other: 0, pool: 0 });
        for port in 4000..4100 {
            let pass = |from, to, ports: (u16, u16), flags| {
                let sent = frame(family, from, to, TCP, &segment(ports.0, ports.1, flags));
                assert_eq!(world.from(from, &sent).0, Ok(Pass::Checked));
            };
            pass(A, B, (port, 80), SYN);
            pass(B, A, (80, port), SYN | ACK);
            pass(A, B, (port, 80), there);
            pass(B, A, (80, port), back);
        }
        assert_eq!(counts(&world, payer::ENDPOINT, A).0, 2, "a quarter");
        assert_eq!(world.model.overflow.borrow().len(), 0);
    }
}

#[test]
fn the_proxy_closes_too() {
    for family in FAMILIES {
        let mut world = limited(Quota { endpoint: 8, other: 0, pool: 0 });
        world.policy(B, &[peer(INGRESS, A, REDIRECT)]);
        for port in 4000..4100 {
            let sent = |flags| frame(family, A, B, TCP, &segment(port, 80, flags));
            assert_eq!(world.from(A, &sent(SYN)).0, Ok(Pass::ToProxy));
            assert_eq!(world.from(A, &sent(FIN | ACK)).0, Ok(Pass::ToProxy));
            let end = frame(family, B, A, TCP, &segment(80, port, FIN | ACK));
            let mark = redirect_abi::mark::PROXY_DOWNSTREAM;
            assert_eq!(world.to(A, Host, mark, &end).0, Ok(Pass::Unmarked));
            assert_eq!(world.from(A, &sent(ACK)).0, Ok(Pass::ToProxy), "the last word");
        }
    }
}

#[test]
fn an_open_connection_is_not_taken_for_the_closed_one_before_it() {
    let world = limited(Quota { endpoint: 64, other: 0, pool: 0 });
    let pass = |port, flags| {
        let sent = frame(Family::V4, A, B, TCP, &segment(port, 80, flags));
        assert_eq!(world.from(A, &sent).0, Ok(Pass::Checked));
    };
    pass(4000, SYN);
    pass(4000, RST);
    pass(4000, SYN);
    for port in 0..40 {
        pass(5000 + port, SYN);
        pass(5000 + port, RST);
    }
    assert!(world.model.flow(&flow(Family::V4, A, B, TCP, (4000, 80))).is_some());
}

#[test]
fn what_expires_is_given_back() {
    let world = limited(Quota { endpoint: 1, other: 0, pool: 2 });
    for port in 0..3 {
        assert!(world.from(A, &datagram(Family::V6, A, B, 4000 + port)).0.is_ok());
    }
    assert_eq!(counts(&world, payer::ENDPOINT, A), (1, 2));
    let all = world.model.flow_keys();
    world.pass_time(lifetime::DATAGRAM_NS);
    all.iter().for_each(|key| remove_expired(&world.model, key));
    assert_eq!(counts(&world, payer::ENDPOINT, A), (1, 2), "not yet");
    world.pass_time(lifetime::DATAGRAM_NS + 1);
    all.iter().for_each(|key| remove_expired(&world.model, key));
    assert_eq!(counts(&world, payer::ENDPOINT, A), (0, 0));
    all.iter().for_each(|key| remove(&world.model, key));
    assert_eq!(counts(&world, payer::ENDPOINT, A), (0, 0), "once");
}

#[test]
fn what_was_lent_is_taken_back_and_goes_on() {
    for family in FAMILIES {
        let mut world = limited(Quota { endpoint: 1, other: 0, pool: 9 });
        let reply = |port| frame(family, B, A, UDP, &udp(53, port));
        for port in 4000..4004 {
            assert!(world.from(A, &datagram(family, A, B, port)).0.is_ok());
        }
        assert_eq!(counts(&world, payer::ENDPOINT, A), (1, 3));
        for key in world.model.flow_keys() {
            take_back(&world.model, &key);
            take_back(&world.model, &key);
        }
        assert_eq!(counts(&world, payer::ENDPOINT, A), (1, 0), "what is guaranteed is kept");
        assert_eq!(world.model.overflow.borrow().len(), 3);
        world.policy(B, &[peer(INGRESS, A, redirect_abi::verdict::ALLOW)]);
        for port in 4000..4004 {
            assert_eq!(world.from(B, &reply(port)).0, Ok(Pass::Checked));
        }
    }
}

proptest! {
    /// Whatever is sent, closed, forgotten and collected: each account is the sum of the entries that it was charged for.
    #[test]
    fn accounts_are_sums_over_entries(
        steps in proptest::collection::vec((0_u8..7, 0_u16..6, any::<u8>()), 1..200),
    ) {
        let mut world = limited(Quota { endpoint: 2, other: 1, pool: 3 });
        world.policy(B, &[peer(INGRESS, A, REDIRECT), peer(INGRESS, Outside, redirect_abi::verdict::ALLOW)]);
        for (step, port, flags) in steps {
            let (here, there) = (4000 + port, 4000 + port % 2);
            let _decision: crate::verdict::Decision = match step {
                0 => world.from(A, &frame(Family::V4, A, B, TCP, &segment(here, there, flags))).0,
                1 => world.from(B, &frame(Family::V4, B, A, TCP, &segment(there, here, flags))).0,
                2 => world.from(A, &datagram(Family::V4, A, Outside, here)).0,
                3 => world.to(B, Outside, 0, &from_prefix(Family::V6, flags, port)).0,
                4 => {
                    let dial = frame(Family::V4, A, B, TCP, &segment(here, there, flags));
                    world.to(B, Host, redirect_abi::mark::PROXY_UPSTREAM, &dial).0
                }
                5 => {
                    world.model.flow_keys().iter().for_each(|key| take_back(&world.model, key));
                    Ok(Pass::Unmarked)
                }
                _ => {
                    world.model.flow_keys().iter().filter(|key| key.source_port[1] & 1 == 0)
                        .for_each(|key| remove(&world.model, key));
                    Ok(Pass::Unmarked)
                }
            };
            check_sums(&world.model)?;
        }
    }
}

fn check_sums(model: &Model) -> Result<(), TestCaseError> {
    let mut charged: BTreeMap<(Payer, u32, u8), u64> = BTreeMap::new();
    let mut lent: BTreeMap<u32, u64> = BTreeMap::new();
    for key in model.flow_keys() {
        let flow = model.flow(&key).unwrap();
        let payer = Payer::of(flow.payer_endpoint.load(), flow.payer.load(), &key.source);
        let quota = quota_of(key.kind);
        *charged.entry((payer, quota, flow.share.load())).or_default() += 1;
        *lent.entry(quota).or_default() += u64::from(flow.share.load() == share::BORROWED);
    }
    for (payer, account) in model.all_accounts() {
        for (quota, (own, borrowed)) in (0..).zip(account.own.iter().zip(&account.borrowed)) {
            let sum = |share| charged.get(&(*payer, quota, share)).copied().unwrap_or_default();
            prop_assert_eq!(own.load(), sum(share::OWN));
            prop_assert_eq!(borrowed.load(), sum(share::BORROWED));
        }
    }
    for quota in 0..quota::COUNT {
        let lent = lent.get(&quota).copied().unwrap_or_default();
        prop_assert_eq!(model.pool(quota).unwrap().load(), lent);
    }
    Ok(())
}

/// Everybody may talk to everybody.
fn limited(quota: Quota) -> World {
    let mut world = World::open();
    world.model.quotas = [quota; 3];
    world
}

fn datagram(family: Family, from: Party, to: Party, port: u16) -> TestFrame {
    frame(family, from, to, UDP, &udp(port, 53))
}

/// To B.
fn from_prefix(family: Family, prefix: u8, port: u16) -> TestFrame {
    let payload = udp(4000 + port, 53);
    match family {
        Family::V4 => crate::model::frames::Ipv4::new([192, 0, prefix, 9], B.v4(), UDP).frame(&payload),
        Family::V6 => {
            let source = [0xfd, 2, 0, 0, 0, 0, 0, prefix, 0, 0, 0, 0, 0, 0, port.to_be_bytes()[1], 1];
            crate::model::frames::Ipv6::new(source, B.v6(), UDP).frame(&payload)
        }
    }
}

fn address(family: Family, party: Party) -> Address {
    match family {
        Family::V4 => crate::packet::mapped(party.v4()),
        Family::V6 => party.v6(),
    }
}

fn account(world: &World, kind: u8, party: Party) -> &Account {
    let payer = Payer { endpoint: party.id(), kind, ..Payer::default() };
    world.model.account(&payer).expect("an account")
}

/// Direct flows: of the guarantee, and borrowed.
fn counts(world: &World, kind: u8, party: Party) -> (u64, u64) {
    let account = account(world, kind, party);
    (account.own[0].load(), account.borrowed[0].load())
}
