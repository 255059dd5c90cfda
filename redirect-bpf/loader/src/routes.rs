//! Marked packets are delivered to this node: a policy rule on the mark, and a table in which every address is local.
//!
//! `ip rule add fwmark 0x200/0xf00 pref 9 lookup 2004; ip route add local default dev lo table 2004`, for both families.

use crate::error::Error;
use crate::netlink::{self, ignoring};
use futures_util::TryStreamExt;
use redirect_abi::{ROUTE_TABLE, RULE_PREFERENCE, mark};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::pin::pin;

/// Every network namespace has `lo`, with this index.
const LOOPBACK_IFINDEX: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

const ADD_ROUTE: &str = "add the route `local default dev lo` (is `lo` up?)";

/// Addresses that no node has (RFC 5737, RFC 3849): a packet to them is delivered here only if it is marked.
const NOBODY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NOBODY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Adds what is missing.
pub(crate) fn add() -> Result<(), Error> {
    on_netlink("set up routes for redirected packets", async |netlink| {
        for family in FAMILIES {
            replace_route(&netlink, family).await?;
            let _new = add_rule(&netlink, family).await?;
        }
        Ok(())
    })
}

/// Whether marked packets are delivered, and where they are not, what was missing and is there again.
///
/// One question to the routing table stands for the rule, the route, and whatever might come before them.
pub(crate) fn repair() -> Vec<Result<Vec<String>, Error>> {
    let repaired = on_netlink("look up the routes for redirected packets", async |netlink| {
        let mut repaired = Vec::new();
        for family in FAMILIES {
            repaired.push(repair_family(&netlink, family).await);
        }
        Ok(repaired)
    });
    repaired.unwrap_or_else(|error| vec![Err(error)])
}

async fn repair_family(netlink: &Handle, family: Family) -> Result<Vec<String>, Error> {
    let mut put_back = Vec::new();
    if delivers(netlink, family).await {
        return Ok(put_back);
    }
    if add_route(netlink, family).await? {
        put_back.push(family.route_name());
    }
    if add_rule(netlink, family).await? {
        put_back.push(format!("the {} rule for marked packets", family.name()));
    }
    if delivers(netlink, family).await {
        return Ok(put_back);
    }
    // Another route stands where ours was.
    replace_route(netlink, family).await?;
    match delivers(netlink, family).await {
        true => Ok(vec![family.route_name()]),
        false => Err(Error::MarkIgnored { family: family.name() }),
    }
}

/// Where a marked packet would go. An error is an answer too: nowhere.
async fn delivers(netlink: &Handle, family: Family) -> bool {
    let mut question = RouteMessage::default();
    let (address_family, destination, length) = match family {
        Family::V4 => (AddressFamily::Inet, RouteAddress::Inet(NOBODY_V4), 32),
        Family::V6 => (AddressFamily::Inet6, RouteAddress::Inet6(NOBODY_V6), 128),
    };
    question.header.address_family = address_family;
    question.header.destination_prefix_length = length;
    question.attributes =
        vec![RouteAttribute::Destination(destination), RouteAttribute::Mark(mark::TO_PROXY)];
    let mut answers = pin!(netlink.route().get(question).execute());
    let answer = answers.try_next().await;
    answer.is_ok_and(|route| route.is_some_and(|route| route.header.kind == RouteType::Local))
}

fn on_netlink<T: Send>(
    action: &str,
    talk: impl AsyncFnOnce(Handle) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    netlink::ask(|cause| Error::Route { action: action.into(), cause }, talk)
}

/// Removes what is there; a line for each.
pub(crate) fn remove() -> Result<Vec<String>, Error> {
    on_netlink("remove the routes for redirected packets", async |netlink| {
        let mut undone = Vec::new();
        for family in FAMILIES {
            if remove_rule(&netlink, family).await? {
                undone.push(format!("removed the {} rule for marked packets", family.name()));
            }
            if remove_route(&netlink, family).await? {
                undone.push(format!("removed the {} route of table {ROUTE_TABLE}", family.name()));
            }
        }
        Ok(undone)
    })
}

/// `false`: there was one of this destination, ours or not.
async fn add_route(netlink: &Handle, family: Family) -> Result<bool, Error> {
    ignoring(&[libc::EEXIST], netlink.route().add(route(family)).execute().await)
        .map_err(family.failed(ADD_ROUTE))
}

async fn replace_route(netlink: &Handle, family: Family) -> Result<(), Error> {
    let replaced = netlink.route().add(route(family)).replace().execute().await;
    replaced.map_err(netlink::io_error).map_err(family.failed(ADD_ROUTE))
}

async fn add_rule(netlink: &Handle, family: Family) -> Result<bool, Error> {
    let mut request = netlink.rule().add();
    *request.message_mut() = rule(family);
    ignoring(&[libc::EEXIST], request.execute().await)
        .map_err(family.failed("add the rule for marked packets"))
}

async fn remove_route(netlink: &Handle, family: Family) -> Result<bool, Error> {
    let request = netlink.route().del(route(family));
    ignoring(&[libc::ESRCH, libc::ENOENT], request.execute().await)
        .map_err(family.failed("remove the route `local default dev lo`"))
}

async fn remove_rule(netlink: &Handle, family: Family) -> Result<bool, Error> {
    let request = netlink.rule().del(rule(family));
    ignoring(&[libc::ESRCH, libc::ENOENT], request.execute().await)
        .map_err(family.failed("remove the rule for marked packets"))
}

fn route(family: Family) -> RouteMessage {
    match family {
        Family::V4 => RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(ROUTE_TABLE)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .output_interface(LOOPBACK_IFINDEX)
            .build(),
        Family::V6 => RouteMessageBuilder::<Ipv6Addr>::new()
            .table_id(ROUTE_TABLE)
            .kind(RouteType::Local)
            .output_interface(LOOPBACK_IFINDEX)
            .build(),
    }
}

fn rule(family: Family) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::Priority(RULE_PREFERENCE),
        RuleAttribute::FwMark(mark::TO_PROXY),
        RuleAttribute::FwMask(mark::MASK),
        RuleAttribute::Table(ROUTE_TABLE),
    ];
    rule
}

impl Family {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn route_name(self) -> String {
        format!("the {} route of table {ROUTE_TABLE}", self.name())
    }

    fn failed(self, action: &str) -> impl FnOnce(io::Error) -> Error {
        let action = format!("{action}, {}", self.name());
        move |cause| Error::Route { action, cause }
    }
}
