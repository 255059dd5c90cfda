//! Writes the seeds of the target `packet`: `cargo run --example packet_seeds` in this directory.

use Party::{A, B, Host, Outside};
use redirect_abi::mark;
use redirect_prog::model::frames::{Ipv4, Ipv6, TestFrame, fragment_header, icmp, icmp_error, tcp, udp};
use redirect_prog::model::world::{FAMILIES, Family, Party, frame};
use redirect_prog::packet::{mapped, tcp as flag};
use redirect_prog::protocol::{ICMP, ICMPV6, TCP, UDP};
use std::fs;
use std::path::Path;
use story::{Policy, Step};

const SYN_ACK: u8 = flag::SYN | flag::ACK;
const FROM_A: Step = Step::From(A);
const FROM_B: Step = Step::From(B);
const EVERYTHING: Step = Step::Policy(Policy::Everything);
const INSPECTED: Step = Step::Policy(Policy::Inspected);
const NOTHING: Step = Step::Policy(Policy::Nothing);
const DIALLED: Step = Step::To(B, Host, mark::PROXY_UPSTREAM);

type Told = Vec<(Step, Vec<u8>)>;

fn main() -> std::io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/packet");
    fs::create_dir_all(&directory)?;
    for family in FAMILIES {
        for (name, steps) in both(family) {
            let name = format!("{name}-{}", if family == Family::V4 { "v4" } else { "v6" });
            write(&directory, &name, steps)?;
        }
    }
    v4().into_iter().chain(v6()).chain(neither()).try_for_each(|(name, steps)| write(&directory, name, steps))
}

fn write(directory: &Path, name: &str, steps: Told) -> std::io::Result<()> {
    let steps: Vec<_> = steps.iter().map(|(step, bytes)| (*step, &bytes[..])).collect();
    fs::write(directory.join(name), story::write(&steps))
}

fn both(family: Family) -> Vec<(&'static str, Told)> {
    let there = |flags| frame(family, A, B, TCP, &tcp(4000, 80, flags)).bytes;
    let back = |flags| frame(family, B, A, TCP, &tcp(80, 4000, flags)).bytes;
    let request = frame(family, A, B, UDP, &udp(4000, 53)).bytes;
    let reply = frame(family, B, A, UDP, &udp(53, 4000)).bytes;
    let (protocol, echo, echo_reply, unreachable) =
        if family == Family::V4 { (ICMP, 8, 0, 3) } else { (ICMPV6, 128, 129, 1) };
    let error = |from, to, about: &[u8]| {
        let about = TestFrame { ethertype: 0, bytes: about.to_vec() };
        frame(family, from, to, protocol, &icmp_error(unreachable, &about)).bytes
    };
    vec![
        ("syn", vec![(FROM_A, there(flag::SYN))]),
        (
            "connection",
            vec![
                (EVERYTHING, vec![]),
                (FROM_A, there(flag::SYN)),
                (FROM_B, back(SYN_ACK)),
                (FROM_A, there(flag::ACK)),
                (FROM_A, there(flag::FIN | flag::ACK)),
                (FROM_B, back(flag::FIN | flag::ACK)),
                (FROM_A, there(flag::RST)),
                (FROM_A, there(flag::SYN)),
            ],
        ),
        (
            "revoked",
            vec![
                (EVERYTHING, vec![]),
                (FROM_A, request.clone()),
                (FROM_B, reply.clone()),
                (NOTHING, vec![]),
                (FROM_B, reply.clone()),
                (FROM_A, request.clone()),
                (EVERYTHING, vec![]),
                (FROM_A, request.clone()),
                (Step::Wait, vec![]),
                (FROM_B, reply),
            ],
        ),
        (
            "cut",
            vec![
                (EVERYTHING, vec![]),
                (FROM_A, there(flag::SYN)),
                (Step::Cut, vec![]),
                (FROM_A, there(flag::ACK)),
                (FROM_B, back(flag::ACK)),
                (FROM_A, there(flag::SYN)),
            ],
        ),
        (
            "inspected",
            vec![
                (INSPECTED, vec![]),
                (FROM_A, there(flag::SYN)),
                (FROM_A, there(flag::ACK)),
                (DIALLED, there(flag::SYN)),
                (FROM_B, back(SYN_ACK)),
                (Step::To(A, Host, mark::PROXY_DOWNSTREAM), back(SYN_ACK)),
                (FROM_A, error(A, B, &back(flag::ACK))),
                (FROM_B, error(B, A, &there(flag::ACK))),
                (FROM_A, frame(family, A, B, TCP, &tcp(4001, 80, flag::ACK)).bytes),
            ],
        ),
        (
            "inspected-now",
            vec![
                (EVERYTHING, vec![]),
                (FROM_A, there(flag::SYN)),
                (INSPECTED, vec![]),
                (FROM_A, there(flag::ACK)),
                (FROM_B, back(flag::ACK)),
                (FROM_A, request.clone()),
            ],
        ),
        (
            "echo",
            vec![
                (EVERYTHING, vec![]),
                (FROM_A, frame(family, A, B, protocol, &icmp(echo, 77)).bytes),
                (FROM_B, frame(family, B, A, protocol, &icmp(echo_reply, 77)).bytes),
            ],
        ),
        (
            "unreachable",
            vec![(EVERYTHING, vec![]), (FROM_A, request.clone()), (FROM_B, error(B, A, &request))],
        ),
        (
            "outside",
            vec![
                (FROM_B, frame(family, B, Outside, UDP, &udp(4000, 53)).bytes),
                (Step::To(B, Outside, 0), frame(family, Outside, B, UDP, &udp(53, 4000)).bytes),
                (Step::To(B, Host, 0), error(Host, B, &frame(family, B, Outside, UDP, &udp(4000, 53)).bytes)),
                (Step::To(B, Outside, 0), frame(family, Host, B, TCP, &tcp(1, 2, flag::SYN)).bytes),
                (Step::To(B, Outside, 0), there(flag::SYN)),
            ],
        ),
        ("spoofed", vec![(FROM_A, frame(family, B, A, UDP, &udp(4000, 53)).bytes)]),
    ]
}

fn v4() -> Vec<(&'static str, Told)> {
    let part = |fragment, payload: &[u8]| {
        Ipv4 { fragment, id: 7, ..Ipv4::new(A.v4(), B.v4(), UDP) }.frame(payload).bytes
    };
    let options = |options: &[u8]| {
        let packet = Ipv4 { options: options.to_vec(), ..Ipv4::new(A.v4(), B.v4(), TCP) };
        packet.frame(&tcp(4000, 80, flag::SYN)).bytes
    };
    vec![
        ("fragments-v4", vec![(FROM_A, part(0x2000, &udp(4000, 53))), (FROM_A, part(1, &[7; 8]))]),
        ("orphan-v4", vec![(FROM_A, part(1, &[7; 8]))]),
        ("record-route", vec![(FROM_A, options(&[7, 7, 4, 0, 0, 0, 0, 1]))]),
        ("source-route", vec![(FROM_A, options(&[1, 131, 7, 4, 10, 0, 0, 3]))]),
    ]
}

fn v6() -> Vec<(&'static str, Told)> {
    let pad = || vec![0, 1, 4, 0, 0, 0, 0];
    let with = |extensions: &[(u8, Vec<u8>)], payload: &[u8]| {
        Ipv6 { extensions: extensions.to_vec(), ..Ipv6::new(A.v6(), B.v6(), UDP) }.frame(payload).bytes
    };
    let mapped_source = Ipv6::new(mapped(A.v4()), B.v6(), UDP).frame(&udp(4000, 53)).bytes;
    let mapped_destination = Ipv6::new(A.v6(), mapped(B.v4()), UDP).frame(&udp(4000, 53)).bytes;
    let mut link_local = [0; 16];
    (link_local[0], link_local[1], link_local[15]) = (0xfe, 0x80, 1);
    let neighbour = Ipv6 { hop_limit: 255, ..Ipv6::new(A.v6(), link_local, ICMPV6) };
    vec![
        (
            "fragments-v6",
            vec![
                (FROM_A, with(&[fragment_header(0, true, 7), (60, pad())], &udp(4000, 53))),
                (FROM_A, with(&[fragment_header(2, false, 7), (60, pad())], &[7; 8])),
            ],
        ),
        ("atomic-fragment", vec![(FROM_A, with(&[fragment_header(0, false, 7)], &udp(4000, 53)))]),
        (
            "extension-headers",
            vec![(
                FROM_A,
                with(
                    &[(0, pad()), (60, pad()), (43, pad()), (51, [&[4_u8][..], &[0; 22]].concat())],
                    &udp(4000, 53),
                ),
            )],
        ),
        ("routing-header", vec![(FROM_A, with(&[(43, vec![0, 0, 1, 0, 0, 0, 0])], &udp(4000, 53)))]),
        ("mapped-source", vec![(FROM_A, mapped_source)]),
        ("mapped-destination", vec![(FROM_A, mapped_destination)]),
        ("neighbour", vec![(NOTHING, vec![]), (FROM_A, neighbour.frame(&icmp(135, 0)).bytes)]),
    ]
}

fn neither() -> Vec<(&'static str, Told)> {
    let untagged = frame(Family::V4, A, B, TCP, &tcp(4000, 80, flag::SYN)).bytes;
    let tagged = [&untagged[..12], &[0x81, 0, 0, 5], &untagged[12..]].concat();
    let arp = [&untagged[..12], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[0; 20]].concat();
    vec![
        ("vlan", vec![(FROM_A, tagged)]),
        ("arp", vec![(FROM_A, arp)]),
        ("empty-frame", vec![(FROM_A, vec![])]),
    ]
}
