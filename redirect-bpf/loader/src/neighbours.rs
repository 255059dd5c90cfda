//! The node's neighbour entries for its pods' own addresses, permanent: another pod that fills the neighbour table takes nobody's
//! place, and nobody waits for an answer that doesn't come.
//!
//! Only on interfaces that packets are routed to: behind a bridge others answer. An entry has the hardware address that the pod
//! was heard with, or that the other end of its interface has. Where these differ the pod has changed it, or somebody behind it
//! has the address: the node asks, as it does of others, until they agree.
//!
//! INVARIANT: what others made permanent stays as it is. Ours carry a number (`NDA_PROTOCOL`), and only these are changed or removed.

use crate::error::Error;
use crate::interfaces::{self, Interfaces, Listed, station_of};
use crate::netlink::{self, ignoring};
use futures_util::TryStreamExt;
use redirect_abi::Endpoint;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteProtocol;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;

pub(crate) type Station = [u8; 6];

/// An interface and an address.
type Place = (u32, IpAddr);

/// `ip neigh` shows it as `proto 204`.
const OURS: RouteProtocol = RouteProtocol::Other(204);

const HAS_IPV4: u32 = 1;
const HAS_IPV6: u32 = 2;

/// The interface is gone or down, or has no addresses of this family: nothing is sent over it.
const NOT_NOW: [i32; 4] = [libc::ENODEV, libc::ENETDOWN, libc::EINVAL, libc::ENOENT];

/// What is in the kernel by us.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    kept: BTreeMap<Place, Station>,
}

/// An endpoint whose interface has programs.
pub(crate) struct Hooked {
    pub(crate) ifindex: u32,
    pub(crate) endpoint: Endpoint,
    /// What the programs heard it with.
    pub(crate) heard: Option<Station>,
}

/// An entry as the kernel lists it.
struct Entry {
    place: Place,
    station: Option<Station>,
    is_permanent: bool,
    is_ours: bool,
}

impl Neighbours {
    /// Makes the entries of these endpoints permanent, and removes ours of others. Returns what somebody else had removed.
    pub(crate) fn repair(&mut self, hooked: &[Hooked]) -> Result<Vec<String>, Error> {
        let links: BTreeMap<u32, Listed> =
            interfaces::list()?.into_iter().map(|link| (link.index, link)).collect();
        on_netlink("see to the neighbour entries of pods", async |netlink| {
            let mut wanted = BTreeMap::new();
            for pod in hooked {
                if let Some(link) = links.get(&pod.ifindex)
                    && let Some(station) = station(&netlink, link, pod.heard).await
                {
                    wanted.extend(addresses(&pod.endpoint).map(|address| ((pod.ifindex, address), station)));
                }
            }
            let listed = list(&netlink).await?;
            for entry in listed.iter().filter(|entry| entry.is_ours && !wanted.contains_key(&entry.place)) {
                let _removed: bool = remove(&netlink, entry.place).await?;
            }
            self.kept.retain(|place, station| wanted.get(place) == Some(station));
            let listed = listed.iter().map(|entry| (entry.place, entry)).collect();
            self.put(&netlink, &wanted, &listed, &links).await
        })
    }

    async fn put(
        &mut self,
        netlink: &Handle,
        wanted: &BTreeMap<Place, Station>,
        listed: &BTreeMap<Place, &Entry>,
        links: &BTreeMap<u32, Listed>,
    ) -> Result<Vec<String>, Error> {
        let (mut put_back, mut result) = (Vec::new(), Ok(()));
        for (place, station) in wanted {
            match listed.get(place).filter(|entry| entry.is_permanent) {
                Some(entry) if entry.is_ours && entry.station == Some(*station) => {
                    let _same = self.kept.insert(*place, *station);
                }
                Some(entry) if !entry.is_ours => {
                    let _others = self.kept.remove(place);
                }
                Some(_) | None => match replace(netlink, *place, *station).await {
                    Ok(true) if self.kept.insert(*place, *station).is_some() => {
                        let interface = links.get(&place.0).map_or("", |link| &*link.name);
                        put_back.push(format!("the neighbour entry of {} on `{interface}`", place.1));
                    }
                    // One that is refused is no reason to leave the others.
                    other => result = result.and(other.map(|_new| ())),
                },
            }
        }
        result.map(|()| put_back)
    }
}

/// Removes all of ours; a line for each.
pub(crate) fn remove_all() -> Result<Vec<String>, Error> {
    let interfaces = Interfaces::open()?;
    on_netlink("remove the neighbour entries of pods", async |netlink| {
        let mut undone = Vec::new();
        for entry in list(&netlink).await?.iter().filter(|entry| entry.is_ours) {
            if remove(&netlink, entry.place).await? {
                let (ifindex, address) = entry.place;
                let interface = interfaces.name(ifindex).unwrap_or_default();
                undone.push(format!("removed the neighbour entry of {address} on {interface}"));
            }
        }
        Ok(undone)
    })
}

/// The hardware address of the pod behind an interface, if all that is known says the same.
async fn station(netlink: &Handle, link: &Listed, heard: Option<Station>) -> Option<Station> {
    if link.master.is_some() || !link.resolves {
        return None;
    }
    match (heard, other_end(netlink, link).await) {
        (Some(heard), Some(other_end)) => (heard == other_end).then_some(heard),
        (heard, other_end) => heard.or(other_end),
    }
}

/// That of the other end of a pair of interfaces, in a namespace that can be looked into. Behind a bridge there others answer.
async fn other_end(netlink: &Handle, link: &Listed) -> Option<Station> {
    let (namespace, index) = link.lower?;
    let mut request = netlink.link().get().match_index(index);
    request.message_mut().attributes.push(LinkAttribute::IfNetnsId(namespace));
    let mut answers = pin!(request.execute());
    let answer = answers.try_next().await.ok()??;
    let has = |wanted: fn(&LinkAttribute, u32) -> bool| {
        answer.attributes.iter().any(|attribute| wanted(attribute, link.index))
    };
    // What is stacked on another interface names that as well, which does not name it in turn.
    let is_paired = has(|attribute, ours| *attribute == LinkAttribute::Link(ours));
    let is_port = has(|attribute, _| matches!(attribute, LinkAttribute::Controller(_)));
    if is_paired && !is_port { station_of(&answer) } else { None }
}

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    let own = [(HAS_IPV4, endpoint.v4), (HAS_IPV6, endpoint.v6)];
    let families = endpoint.families;
    own.into_iter()
        .filter(move |(family, _)| families & family != 0)
        .map(|(_, address)| Ipv6Addr::from(address).to_canonical())
}

async fn list(netlink: &Handle) -> Result<Vec<Entry>, Error> {
    let messages = pin!(netlink.neighbours().get().execute());
    let messages: Vec<_> = messages.try_collect().await.map_err(|error| Error::Route {
        action: "list the neighbour entries".into(),
        cause: netlink::io_error(error),
    })?;
    Ok(messages.iter().filter_map(entry).collect())
}

fn entry(message: &NeighbourMessage) -> Option<Entry> {
    let (mut address, mut station, mut is_ours) = (None, None, false);
    for attribute in &message.attributes {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) = attribute {
            address = Some(IpAddr::V4(*v4));
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) = attribute {
            address = Some(IpAddr::V6(*v6));
        } else if let NeighbourAttribute::LinkLocalAddress(bytes) = attribute {
            station = Station::try_from(&bytes[..]).ok();
        } else if let NeighbourAttribute::Protocol(protocol) = attribute {
            is_ours = *protocol == OURS;
        }
    }
    let is_permanent = message.header.state == NeighbourState::Permanent;
    Some(Entry { place: (message.header.ifindex, address?), station, is_permanent, is_ours })
}

/// `false`: nothing can be sent there now.
async fn replace(netlink: &Handle, place: Place, station: Station) -> Result<bool, Error> {
    let (ifindex, address) = place;
    let mut request = netlink.neighbours().add(ifindex, address).link_local_address(&station).replace();
    request.message_mut().attributes.push(NeighbourAttribute::Protocol(OURS));
    ignoring(&NOT_NOW, request.execute().await).map_err(failed("set", address))
}

async fn remove(netlink: &Handle, (ifindex, address): Place) -> Result<bool, Error> {
    let mut message = NeighbourMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = ifindex;
    message.attributes = vec![NeighbourAttribute::Destination(address.into())];
    ignoring(&NOT_NOW, netlink.neighbours().del(message).execute().await).map_err(failed("remove", address))
}

fn failed(action: &str, address: IpAddr) -> impl FnOnce(std::io::Error) -> Error {
    let action = format!("{action} the neighbour entry of {address}");
    move |cause| Error::Route { action, cause }
}

fn on_netlink<T: Send>(
    action: &str,
    talk: impl AsyncFnOnce(Handle) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    netlink::ask(|cause| Error::Route { action: action.into(), cause }, talk)
}
