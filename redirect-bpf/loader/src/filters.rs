//! Filters of clsact qdiscs, by which programs run where the kernel has no TCX: whether they are still there.

use crate::error::Error;
use crate::netlink;
use futures_util::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use std::io;
use std::pin::pin;

/// Ours, on every interface.
pub(crate) const PRIORITY: u16 = 50;
pub(crate) const HANDLE: u16 = 1;

const KIND: &str = "bpf";

/// Whether both directions of an interface have a filter of ours. Whoever deletes the qdisc deletes both.
pub(crate) fn are_attached(ifindex: u32) -> Result<bool, Error> {
    let ifindex = i32::try_from(ifindex).map_err(|error| Error::Interfaces(io::Error::other(error)))?;
    netlink::ask(Error::Interfaces, async |netlink| {
        for parent in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
            if !has_ours(&netlink, ifindex, parent).await {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// An error says that there is no such interface, or no qdisc.
async fn has_ours(netlink: &Handle, ifindex: i32, parent: u16) -> bool {
    let request = netlink.traffic_filter(ifindex).get();
    let request = if parent == TcHandle::MIN_INGRESS { request.ingress() } else { request.egress() };
    let filters = pin!(request.execute());
    let filters: Result<Vec<_>, _> = filters.try_collect().await;
    filters.is_ok_and(|filters| filters.iter().any(is_ours))
}

fn is_ours(filter: &TcMessage) -> bool {
    let kind = filter
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, TcAttribute::Kind(kind) if kind == KIND));
    // The upper half is the priority, the lower one the protocol.
    let priority = filter.header.info >> 16;
    kind && priority == u32::from(PRIORITY) && u32::from(filter.header.handle) == u32::from(HANDLE)
}
