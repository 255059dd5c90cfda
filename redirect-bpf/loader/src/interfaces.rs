//! Interfaces by name and number: one in the network namespace that this was opened in, or all in that of this thread.

use crate::error::Error;
use crate::netlink;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage};
use rustix::net::netdevice::{index_to_name, name_to_index};
use socket2::{Domain, Socket, Type};
use std::pin::pin;

#[derive(Debug)]
pub(crate) struct Interfaces {
    /// The kernel answers for the namespace of the socket, whichever thread asks.
    socket: Socket,
}

impl Interfaces {
    pub(crate) fn open() -> Result<Self, Error> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None).map_err(Error::Interfaces)?;
        Ok(Self { socket })
    }

    /// 0 where there is no such interface.
    pub(crate) fn index(&self, name: &str) -> u32 {
        name_to_index(&self.socket, name).unwrap_or_default()
    }

    pub(crate) fn name(&self, index: u32) -> Option<String> {
        index_to_name(&self.socket, index).ok()
    }
}

/// An interface as the kernel lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) index: u32,
    pub(crate) name: Box<str>,
    /// The bridge, bond or VRF that it belongs to: IP takes that for where a packet came from.
    pub(crate) master: Option<u32>,
    /// Where it ends, if that is in another network namespace: that one's number here, and the interface's there.
    pub(crate) lower: Option<(i32, u32)>,
    /// Whether packets that are sent over it need the hardware address of a neighbour.
    pub(crate) resolves: bool,
}

/// All interfaces of the network namespace of this thread.
pub(crate) fn list() -> Result<Vec<Listed>, Error> {
    netlink::ask(Error::Interfaces, async |netlink| {
        let request =
            netlink.link().get().set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
        let links = pin!(request.execute());
        let links: Vec<_> =
            links.try_collect().await.map_err(|error| Error::Interfaces(netlink::io_error(error)))?;
        Ok(links.iter().map(listed).collect())
    })
}

fn listed(link: &LinkMessage) -> Listed {
    let resolves = !link.header.flags.contains(LinkFlags::Noarp) && station_of(link).is_some();
    let mut listed = Listed { index: link.header.index, resolves, ..Listed::default() };
    let (mut namespace, mut lower) = (None, None);
    for attribute in &link.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            listed.name = name.as_str().into();
        } else if let LinkAttribute::Controller(master) = attribute {
            listed.master = Some(*master);
        } else if let LinkAttribute::LinkNetNsId(id) = attribute {
            namespace = Some(*id);
        } else if let LinkAttribute::Link(index) = attribute {
            lower = Some(*index);
        }
    }
    listed.lower = namespace.zip(lower);
    listed
}

/// The hardware address of an Ethernet interface.
pub(crate) fn station_of(link: &LinkMessage) -> Option<[u8; 6]> {
    let bytes = link
        .attributes
        .iter()
        .find_map(|attribute| if let LinkAttribute::Address(bytes) = attribute { Some(bytes) } else { None });
    bytes?.as_slice().try_into().ok().filter(|station| *station != [0; 6])
}
