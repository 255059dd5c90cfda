//! Later fragments have no ports: they take those that the first one left.

use redirect_abi::{FragmentKey, FragmentValue};

use crate::packet::{Fragment, Packet};
use crate::tables::{Full, Tables};
use crate::verdict::Reason;

/// Remembers a first fragment, completes a later one. A later one that comes first is dropped: it can't be judged.
#[inline(always)]
pub fn resolve(tables: &impl Tables, packet: &mut Packet) -> Result<(), Reason> {
    match packet.fragment {
        Fragment::Whole => Ok(()),
        Fragment::First => {
            let value = FragmentValue {
                source_port: packet.flow.source_port,
                destination_port: packet.flow.destination_port,
                protocol: packet.flow.protocol,
                pad: [0; 3],
            };
            tables.insert_fragment(&key(packet), &value).map_err(|Full| Reason::MapFull)
        }
        Fragment::Rest => {
            let first = tables.fragment(&key(packet)).ok_or(Reason::FragmentOrphan)?;
            packet.flow.source_port = first.source_port;
            packet.flow.destination_port = first.destination_port;
            packet.flow.protocol = first.protocol;
            Ok(())
        }
    }
}

#[inline(always)]
fn key(packet: &Packet) -> FragmentKey {
    FragmentKey {
        source: packet.flow.source,
        destination: packet.flow.destination,
        id: packet.fragment_id,
        next_header: packet.next_header,
        pad: [0; 3],
    }
}
