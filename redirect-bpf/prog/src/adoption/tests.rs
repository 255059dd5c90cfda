//! Who is called the opener of a flow that nobody has seen opened, and a model: nothing that has to be inspected passes without
//! the proxy, whatever was there before the programs, was evicted, or comes of policy.

use proptest::prelude::*;
use redirect_abi::{direction::*, mark, verdict::*};
use std::collections::BTreeSet;
use std::vec::Vec;

use super::*;
use crate::model::frames::{TestFrame, tcp as segment, udp};
use crate::model::world::{FAMILIES, Family, Party, SECOND_NS, World, any, flow, frame, peer, port};
use crate::protocol::{TCP, UDP};
use crate::verdict::{Decision, Pass};
use Party::{A, B, Host, Outside};
use tcp::{ACK, FIN, RST, SYN};

const OTHERS: [u8; 5] = [ACK, FIN | ACK, SYN | ACK, RST, RST | ACK];

#[test]
fn what_may_answer_an_inspected_connection_is_cut() {
    for family in FAMILIES {
        for flags in OTHERS {
            let mut world = World::open();
            world.policy(B, &[port(INGRESS, A, TCP, 80, REDIRECT), any(EGRESS)]);
            // Not in the first seconds either.
            attach(&mut world, B);
            check(&world, B, &answer(family, flags), Err(Reason::RedirectRequired));
            check(&world, A, &request(family, ACK), Err(cut_for(flags)));
            check(&world, A, &request(family, SYN), Ok(Pass::ToProxy));
        }
    }
}

fn cut_for(flags: u8) -> Reason {
    if flags & RST != 0 { Reason::RedirectRequired } else { Reason::Revoked }
}

#[test]
fn what_may_answer_a_denied_connection_is_adopted_in_the_first_seconds_only() {
    for family in FAMILIES {
        let mut world = serving_others();
        check(&world, B, &answer(family, ACK), Err(Reason::UntrackedAnswer));
        check(&world, A, &request(family, ACK), Err(Reason::Policy));
        attach(&mut world, B);
        world.pass_time(EARLY_NS + 1);
        check(&world, B, &answer(family, ACK), Err(Reason::UntrackedAnswer));
        attach(&mut world, B);
        world.pass_time(EARLY_NS);
        check(&world, B, &answer(family, ACK), Ok(Pass::Checked));
        check(&world, A, &request(family, ACK), Ok(Pass::Checked));
        // What was adopted stays, also under the next policy, as long as that does not want it inspected.
        world.pass_time(EARLY_NS);
        world.next_epoch();
        check(&world, A, &request(family, ACK), Ok(Pass::Checked));
        world.policy(B, &[port(INGRESS, A, TCP, 80, REDIRECT), any(EGRESS)]);
        world.next_epoch();
        check(&world, A, &request(family, ACK), Err(Reason::RedirectRequired));
        check(&world, B, &answer(family, ACK), Err(Reason::Revoked));
    }
}

#[test]
fn who_sends_from_a_port_that_no_rule_names_is_the_opener() {
    for family in FAMILIES {
        let mut world = serving_others();
        let (there, back) = (
            frame(family, B, A, TCP, &segment(4000, 80, ACK)),
            frame(family, A, B, TCP, &segment(80, 4000, ACK)),
        );
        check(&world, A, &back, Err(Reason::Policy));
        check(&world, B, &there, Ok(Pass::Checked));
        check(&world, A, &back, Ok(Pass::Checked));
        // Rules without ports name none.
        world.policy(B, &[peer(INGRESS, Outside, ALLOW), any(EGRESS)]);
        check(&world, B, &answer(family, ACK), Ok(Pass::Checked));
        check(&world, A, &request(family, ACK), Ok(Pass::Checked));
        // The port is named now: it looks like an answer.
        world.policy(B, &[port(INGRESS, Outside, TCP, 80, ALLOW), any(EGRESS)]);
        world.next_epoch();
        check(&world, A, &request(family, ACK), Err(Reason::Revoked));
        check(&world, B, &answer(family, ACK), Err(Reason::Revoked));
    }
}

/// The client's egress policy denies, and names the port; or only says so for others.
#[test]
fn rules_of_either_end_name_ports() {
    for family in FAMILIES {
        let mut world = World::open();
        world.policy(A, &[any(INGRESS), port(EGRESS, Outside, TCP, 80, ALLOW)]);
        check(&world, B, &answer(family, ACK), Err(Reason::UntrackedAnswer));
        world.policy(A, &[any(INGRESS), port(EGRESS, Outside, TCP, 443, ALLOW)]);
        check(&world, B, &answer(family, ACK), Ok(Pass::Checked));
    }
}

#[test]
fn datagrams_are_adopted_as_connections_are() {
    for family in FAMILIES {
        let reply = frame(family, B, A, UDP, &udp(53, 4000));
        let query = frame(family, A, B, UDP, &udp(4000, 53));
        let mut world = World::open();
        world.policy(B, &[port(INGRESS, A, UDP, 53, ALLOW), any(EGRESS)]);
        check(&world, A, &query, Ok(Pass::Checked));
        crate::quota::remove(&world.model, &flow(family, A, B, UDP, (4000, 53)));
        world.policy(B, &[port(INGRESS, Outside, UDP, 53, ALLOW), any(EGRESS)]);
        world.next_epoch();
        check(&world, B, &reply, Err(Reason::UntrackedAnswer));
        check(&world, A, &query, Err(Reason::Policy));
        world.policy(B, &[port(INGRESS, A, UDP, 53, REDIRECT), any(EGRESS)]);
        check(&world, B, &reply, Err(Reason::NotRedirectable));
        // From a port that no rule names it is a question.
        check(&world, B, &frame(family, B, A, UDP, &udp(4001, 53)), Ok(Pass::Checked));
        check(&world, A, &frame(family, A, B, UDP, &udp(53, 4001)), Ok(Pass::Checked));
    }
}

#[test]
fn answers_from_elsewhere() {
    for family in FAMILIES {
        let mut world = World::open();
        let answer = frame(family, Outside, B, TCP, &segment(80, 4000, ACK));
        world.policy(B, &[any(INGRESS), port(EGRESS, Outside, TCP, 80, REDIRECT)]);
        assert_eq!(world.to(B, Outside, 0, &answer).0, Err(Reason::RedirectRequired));
        world.policy(B, &[any(INGRESS), port(EGRESS, A, TCP, 80, ALLOW)]);
        world.next_epoch();
        crate::quota::remove(&world.model, &flow(family, Outside, B, TCP, (80, 4000)));
        assert_eq!(world.to(B, Outside, 0, &answer).0, Err(Reason::UntrackedAnswer));
        world.policy(B, &[any(INGRESS)]);
        assert_eq!(world.to(B, Outside, 0, &answer).0, Ok(Pass::Unmarked));
    }
}

#[test]
fn without_a_word_of_the_policy_map_nothing_is_adopted() {
    let mut world = World::open();
    world.model.set_policy(B.id(), &[any(EGRESS)]);
    check(&world, B, &answer(Family::V4, ACK), Err(Reason::UntrackedAnswer));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Connections of A and of Outside to B, some older than the programs: A and Outside open from 4000, to 80 and 90 of B, and B to
    /// those of theirs. Of a connection that has to be inspected nothing passes without the proxy; of one that is denied nothing
    /// passes but what is adopted; what the opener sends passes only after.
    #[test]
    fn nothing_passes_that_must_not(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::open();
        let mut policies: [Rules; 4] = Default::default();
        let mut early_until = 0;
        let mut adopted: BTreeSet<(Connection, bool)> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Policy(which, rules) => {
                    policies[which] = rules;
                    for (party, first) in [(A, 0), (B, 2)] {
                        world.policy(party, &entries(&policies[first..first + 2]));
                    }
                    world.next_epoch();
                }
                Step::Attach => {
                    attach(&mut world, A);
                    attach(&mut world, B);
                    early_until = world.model.now_ns.get() + EARLY_NS;
                }
                Step::Wait(seconds) => world.pass_time(seconds * SECOND_NS),
                Step::Evict(nth) => {
                    let keys = world.model.flow_keys();
                    if !keys.is_empty() {
                        crate::quota::remove(&world.model, &keys[nth % keys.len()]);
                    }
                }
                Step::ProxyDials(port) => {
                    let syn = frame(Family::V4, A, B, TCP, &segment(4000, port, SYN));
                    prop_assert_eq!(world.to(B, Host, mark::PROXY_UPSTREAM, &syn).0, Ok(Pass::Unmarked));
                }
                Step::Send(connection, by_opener, flags) => {
                    let passed = send(&world, connection, by_opener, flags);
                    let (verdict, named) = truth(&policies, connection);
                    let early = world.model.now_ns.get() <= early_until;
                    // A datagram makes its sender the opener where both ways are allowed.
                    if passed && verdict == ALLOW && !by_opener && connection.2 == UDP {
                        let _new: bool = adopted.insert((connection, false));
                    }
                    if !passed || verdict == ALLOW {
                        continue;
                    }
                    prop_assert_eq!(verdict, DENY, "has to be inspected: {:?}", connection);
                    if by_opener {
                        prop_assert!(adopted.contains(&(connection, true)) || !named && adopted.contains(&(connection, false)));
                    } else {
                        prop_assert!(!named || early || adopted.contains(&(connection, true)));
                        let _new: bool = adopted.insert((connection, named));
                    }
                }
            }
        }
    }
}

/// From port 4000 of the opener to this port of the other.
type Connection = (Party, Party, u8, u16);
/// What one direction says: nothing, or of peers and ports (0: all of them).
type Rules = Option<Vec<(Party, u16, u8)>>;

#[derive(Clone, Debug)]
enum Step {
    /// Of A ingress, A egress, B ingress, B egress.
    Policy(usize, Rules),
    Attach,
    Wait(u64),
    Evict(usize),
    ProxyDials(u16),
    Send(Connection, bool, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let connection = (
        prop_oneof![Just((A, B)), Just((B, A)), Just((Outside, B)), Just((B, Outside))],
        prop_oneof![3 => Just(TCP), 1 => Just(UDP)],
        prop_oneof![Just(80_u16), Just(90)],
    );
    let flags = prop_oneof![4 => Just(ACK), 1 => Just(SYN), 1 => Just(SYN | ACK), 1 => Just(RST), 1 => Just(FIN | ACK)];
    let rule = (
        prop_oneof![Just(A), Just(B), Just(Outside)],
        prop_oneof![2 => Just(0_u16), 2 => Just(80), 1 => Just(90), 1 => Just(4000)],
        prop_oneof![2 => Just(ALLOW), 1 => Just(DENY), 2 => Just(REDIRECT)],
    );
    let rules = proptest::option::of(proptest::collection::vec(rule, 0..4));
    prop_oneof![
        3 => (0_usize..4, rules).prop_map(|(which, rules)| Step::Policy(which, rules)),
        1 => Just(Step::Attach),
        1 => (1_u64..90).prop_map(Step::Wait),
        3 => (0_usize..8).prop_map(Step::Evict),
        1 => prop_oneof![Just(80_u16), Just(90)].prop_map(Step::ProxyDials),
        16 => (connection, proptest::bool::ANY, flags).prop_map(|(((opener, other), protocol, port), by_opener, flags)| {
            // Servers open nothing from their ports.
            let flags = if !by_opener && flags == SYN { ACK } else { flags };
            Step::Send((opener, other, protocol, port), by_opener, flags)
        }),
    ]
}

/// Whether it goes on its way, and not to the proxy.
fn send(world: &World, (opener, other, protocol, port): Connection, by_opener: bool, flags: u8) -> bool {
    let (from, to, ports) =
        if by_opener { (opener, other, (4000, port)) } else { (other, opener, (port, 4000)) };
    let payload = if protocol == TCP { segment(ports.0, ports.1, flags) } else { udp(ports.0, ports.1) };
    let frame = frame(Family::V4, from, to, protocol, &payload);
    let decision = if from == Outside { world.to(to, from, 0, &frame).0 } else { world.from(from, &frame).0 };
    matches!(decision, Ok(Pass::Unmarked | Pass::Checked))
}

/// What policy says of a connection, and whether a rule of either end names its port.
fn truth(policies: &[Rules; 4], (opener, other, _, port): Connection) -> (u8, bool) {
    let of = |party: Party, direction: u8| match party {
        A => policies[if direction == INGRESS { 0 } else { 1 }].as_ref(),
        B => policies[if direction == INGRESS { 2 } else { 3 }].as_ref(),
        Host | Outside => None,
    };
    let half = |rules: Option<&Vec<(Party, u16, u8)>>, peer: Party| match rules {
        None => ALLOW,
        Some(rules) => {
            let last = |wanted: u16| rules.iter().rfind(|(who, at, _)| *who == peer && *at == wanted);
            last(port).or_else(|| last(0)).map_or(DENY, |(.., verdict)| *verdict)
        }
    };
    let halves = [(of(opener, EGRESS), other), (of(other, INGRESS), opener)];
    let verdicts = halves.map(|(rules, peer)| half(rules, peer));
    let verdict = [DENY, REDIRECT].into_iter().find(|verdict| verdicts.contains(verdict)).unwrap_or(ALLOW);
    let named =
        halves.iter().any(|(rules, _)| rules.is_some_and(|rules| rules.iter().any(|(_, at, _)| *at == port)));
    (verdict, named)
}

/// The policy map of ingress and egress rules.
fn entries(rules: &[Rules]) -> Vec<(u32, redirect_abi::PolicyKey, u8)> {
    let mut entries = Vec::new();
    for (direction, rules) in [INGRESS, EGRESS].into_iter().zip(rules) {
        match rules {
            None => entries.push(any(direction)),
            Some(rules) => entries.extend(rules.iter().flat_map(|(who, at, verdict)| match at {
                0 => Vec::from([peer(direction, *who, *verdict)]),
                at => Vec::from([TCP, UDP].map(|protocol| port(direction, *who, protocol, *at, *verdict))),
            })),
        }
    }
    entries
}

/// B serves port 80 to others than A, and may say to A what it likes.
fn serving_others() -> World {
    let mut world = World::open();
    world.policy(B, &[port(INGRESS, Outside, TCP, 80, ALLOW), any(EGRESS)]);
    world
}

/// Programs are attached to its interface for the first time.
fn attach(world: &mut World, party: Party) {
    let _before: Option<u64> = world.model.attached_ns.insert(party.id(), world.model.now_ns.get());
}

fn request(family: Family, flags: u8) -> TestFrame {
    frame(family, A, B, TCP, &segment(4000, 80, flags))
}

fn answer(family: Family, flags: u8) -> TestFrame {
    frame(family, B, A, TCP, &segment(80, 4000, flags))
}

#[track_caller]
fn check(world: &World, from: Party, frame: &TestFrame, expect: Decision) {
    assert_eq!(world.from(from, frame).0, expect);
}
