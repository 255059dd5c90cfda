//! Marked packets are delivered to this node: a policy rule on the mark, and a table in which every address is local.
//!
//! `ip rule add fwmark 0x200/0xf00 pref 9 lookup 2004; ip route add local default dev lo table 2004`, for both families.

use crate::error::Error;
use redirect_abi::{ROUTE_TABLE, RULE_PREFERENCE, mark};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Every network namespace has `lo`, with this index.
const LOOPBACK_IFINDEX: u32 = 1;

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Adds what is missing.
pub(crate) fn add() -> Result<(), Error> {
    on_netlink("set up routes for redirected packets", async |netlink| {
        for family in FAMILIES {
            add_route(&netlink, family).await?;
            add_rule(&netlink, family).await?;
        }
        Ok(())
    })
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

/// Talks to the kernel from a thread of its own: the caller may be inside an async runtime, which can't be entered twice. The
/// thread is in the network namespace of the caller.
fn on_netlink<T: Send>(
    action: &str,
    talk: impl AsyncFnOnce(Handle) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let failed = |cause| Error::Route { action: action.into(), cause };
    let talking = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        runtime.block_on(async {
            let (connection, netlink, _unasked) = rtnetlink::new_connection().map_err(failed)?;
            let connection = tokio::spawn(connection);
            let answer = talk(netlink).await;
            connection.abort();
            answer
        })
    };
    let joined = std::thread::scope(|scope| scope.spawn(talking).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn add_route(netlink: &Handle, family: Family) -> Result<(), Error> {
    let request = netlink.route().add(route(family)).replace();
    ignoring(&[], request.execute().await)
        .map(|_new| ())
        .map_err(family.failed("add the route `local default dev lo` (is `lo` up?)"))
}

async fn add_rule(netlink: &Handle, family: Family) -> Result<(), Error> {
    let mut request = netlink.rule().add();
    *request.message_mut() = rule(family);
    ignoring(&[libc::EEXIST], request.execute().await)
        .map(|_new| ())
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

/// `false`: one of these errors, which say that there was nothing to do.
fn ignoring(errors: &[i32], answer: Result<(), rtnetlink::Error>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(rtnetlink::Error::NetlinkError(message)) if errors.contains(&message.raw_code().abs()) => {
            Ok(false)
        }
        Err(rtnetlink::Error::NetlinkError(message)) => Err(message.to_io()),
        Err(error) => Err(io::Error::other(error)),
    }
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn failed(self, action: &str) -> impl FnOnce(io::Error) -> Error {
        let action = format!("{action}, {}", self.name());
        move |cause| Error::Route { action, cause }
    }
}
