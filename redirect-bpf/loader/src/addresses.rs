//! The node's own addresses: those of its interfaces, and single addresses that a local route makes its own.

use crate::error::Error;
use crate::netlink;
use futures_util::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::pin::pin;

/// The kernel's table of local and broadcast addresses.
const TABLE_LOCAL: u8 = 255;

/// In the network namespace of this thread, sorted.
pub fn node_addresses() -> Result<Vec<IpAddr>, Error> {
    let found = netlink::ask(Error::Addresses, async |netlink| {
        let mut found = of_interfaces(&netlink).await?;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            found.extend(local_routes(&netlink, family).await?);
        }
        Ok(found)
    })?;
    Ok(found.into_iter().collect())
}

async fn of_interfaces(netlink: &Handle) -> Result<BTreeSet<IpAddr>, Error> {
    let messages = pin!(netlink.address().get().execute());
    let found: Vec<_> =
        messages.try_collect().await.map_err(|error| Error::Addresses(netlink::io_error(error)))?;
    Ok(found.iter().filter_map(own).collect())
}

/// Of a point-to-point interface `Local` is ours, and `Address` is the other end's.
fn own(message: &AddressMessage) -> Option<IpAddr> {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        if let AddressAttribute::Local(ours) = attribute {
            local = Some(*ours);
        } else if let AddressAttribute::Address(either) = attribute {
            address = Some(*either);
        }
    }
    local.or(address)
}

/// Load balancers give a node addresses that no interface has.
async fn local_routes(netlink: &Handle, family: AddressFamily) -> Result<BTreeSet<IpAddr>, Error> {
    let mut question = RouteMessage::default();
    question.header.address_family = family;
    question.header.table = TABLE_LOCAL;
    question.header.kind = RouteType::Local;
    let messages = pin!(netlink.route().get(question).execute());
    let routes: Vec<_> =
        messages.try_collect().await.map_err(|error| Error::Addresses(netlink::io_error(error)))?;
    Ok(routes.iter().filter(|route| route.header.kind == RouteType::Local).filter_map(single).collect())
}

/// The destination of a route that has only one.
fn single(route: &RouteMessage) -> Option<IpAddr> {
    let destination = route.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Destination(destination) = attribute { Some(destination) } else { None }
    });
    match (destination?, route.header.destination_prefix_length) {
        (RouteAddress::Inet(address), 32) => Some((*address).into()),
        (RouteAddress::Inet6(address), 128) => Some((*address).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn loopback_is_the_nodes_own() {
        let found = node_addresses().unwrap();
        assert!(found.contains(&Ipv4Addr::LOCALHOST.into()), "{found:?}");
        // A machine may be without IPv6.
        assert!(
            found.contains(&Ipv6Addr::LOCALHOST.into()) || !found.iter().any(IpAddr::is_ipv6),
            "{found:?}"
        );
    }

    #[test]
    fn the_other_end_of_a_point_to_point_interface_is_not_ours() {
        let [ours, others]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let mut message = AddressMessage::default();
        message.attributes = vec![AddressAttribute::Address(others), AddressAttribute::Local(ours)];
        assert_eq!(own(&message), Some(ours));
        message.attributes = vec![AddressAttribute::Address(others)];
        assert_eq!(own(&message), Some(others));
    }

    #[test]
    fn a_local_route_to_a_network_is_no_address() {
        let mut route = RouteMessage::default();
        route.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(Ipv4Addr::new(10, 0, 0, 0)))];
        route.header.destination_prefix_length = 8;
        assert_eq!(single(&route), None);
        route.header.destination_prefix_length = 32;
        assert_eq!(single(&route), Some(Ipv4Addr::new(10, 0, 0, 0).into()));
    }
}
