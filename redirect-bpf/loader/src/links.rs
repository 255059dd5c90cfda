//! Subscriptions to changes of the node's network: interfaces, their filters, rules and our route table; or its addresses.
//!
//! What a message says is not read, except whose routing table it is about, so that a node whose routes change all the time
//! is not rescanned all the time: a subscriber asks the kernel what is there now. So a lost message costs nothing as long as it
//! is known that one was lost, no message can mislead, and a hundred of them are answered by one rescan.

use crate::error::Error;
use rtnetlink::constants::{
    RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV4_RULE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE,
    RTMGRP_LINK, RTMGRP_TC,
};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// What was heard since the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Changes,
    /// More than the socket could hold: some changes were not heard of.
    Lost,
    Nothing,
}

/// Messages taken at once. Those behind tell of changes that a look will find as well.
const MESSAGES_MAX: usize = 4096;
/// The kernel lets assign it.
const PORT_ANY: u32 = 0;
/// `RTNLGRP_IPV6_RULE` is 19, and has no constant as a mask.
const RTMGRP_IPV6_RULE: u32 = 1 << (19 - 1);
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
/// Every table of a number above 255, ours among them.
const RT_TABLE_COMPAT: u8 = 252;
const RT_TABLE_LOCAL: u8 = 255;
/// The headers of a message and of a route.
const HEADERS_LEN: usize = 16 + 12;
/// Where they say the kind of message, and the table.
const TYPE_AT: usize = 4;
const TABLE_AT: usize = 16 + 4;

/// A subscription, in the network namespace of the thread that opened it. Its descriptor is readable when there are changes.
pub struct Links {
    socket: Socket,
    /// The only one whose routes matter.
    table: u8,
}

impl Links {
    /// To what can take away, or call for, something that Sluice has set up. Whoever looks after this misses no change.
    pub fn open() -> Result<Self, Error> {
        let rules = RTMGRP_IPV4_RULE | RTMGRP_IPV6_RULE;
        let routes = RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
        Self::subscribe(RTMGRP_LINK | RTMGRP_TC | rules | routes, RT_TABLE_COMPAT)
    }

    /// To changes of [`crate::node_addresses`].
    pub fn of_addresses() -> Result<Self, Error> {
        let routes = RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
        Self::subscribe(RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | routes, RT_TABLE_LOCAL)
    }

    fn subscribe(groups: u32, table: u8) -> Result<Self, Error> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.set_non_blocking(true)?;
            socket.bind(&SocketAddr::new(PORT_ANY, groups))?;
            Ok(Self { socket, table })
        };
        open().map_err(Error::Links)
    }

    /// Takes what has come. Never blocks.
    pub fn hear(&mut self) -> Result<Heard, Error> {
        let messages = core::iter::repeat_with(|| {
            // Of a message that is longer the rest is dropped.
            let mut start = [0; HEADERS_LEN];
            let _length = self.socket.recv(&mut start.as_mut_slice(), 0)?;
            Ok(concerns(&start, self.table))
        });
        heard(messages.take(MESSAGES_MAX)).map_err(Error::Links)
    }
}

/// Whether the message is about a route of this table, or about something else than routes.
fn concerns(start: &[u8; HEADERS_LEN], table: u8) -> bool {
    let kind = start.get(TYPE_AT..).and_then(|rest| rest.first_chunk()).map(|kind| u16::from_ne_bytes(*kind));
    match kind {
        Some(RTM_NEWROUTE | RTM_DELROUTE) => start.get(TABLE_AT) == Some(&table),
        _ => true,
    }
}

impl AsFd for Links {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Links {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

/// What a row of answers of the socket comes to: whether each message concerns us. The first that says that the socket is empty
/// ends the row.
fn heard(answers: impl Iterator<Item = io::Result<bool>>) -> io::Result<Heard> {
    let mut heard = Heard::Nothing;
    for answer in answers {
        match answer {
            Ok(true) if heard == Heard::Nothing => heard = Heard::Changes,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => heard = Heard::Lost,
            Err(error) => return Err(error),
        }
    }
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: Result<bool, i32> = Ok(true);
    const OTHERS: Result<bool, i32> = Ok(false);
    const EMPTY: Result<bool, i32> = Err(libc::EAGAIN);
    const OVERRUN: Result<bool, i32> = Err(libc::ENOBUFS);
    const INTERRUPTED: Result<bool, i32> = Err(libc::EINTR);

    #[track_caller]
    fn check(answers: &[Result<bool, i32>], expect: Heard) {
        let answers = answers.iter().map(|answer| answer.map_err(io::Error::from_raw_os_error));
        assert_eq!(heard(answers).unwrap(), expect);
    }

    #[test]
    fn one_change_or_many_are_changes() {
        check(&[EMPTY], Heard::Nothing);
        check(&[MESSAGE, EMPTY], Heard::Changes);
        check(&[MESSAGE, MESSAGE, INTERRUPTED, MESSAGE, EMPTY], Heard::Changes);
        check(&[MESSAGE; MESSAGES_MAX], Heard::Changes);
    }

    #[test]
    fn routes_of_others_are_no_changes() {
        check(&[OTHERS, OTHERS, EMPTY], Heard::Nothing);
        check(&[OTHERS, MESSAGE, OTHERS, EMPTY], Heard::Changes);
        let message = |kind: u16, table: u8| {
            let mut start = [0; HEADERS_LEN];
            start[TYPE_AT..TYPE_AT + 2].copy_from_slice(&kind.to_ne_bytes());
            start[TABLE_AT] = table;
            start
        };
        for kind in [RTM_NEWROUTE, RTM_DELROUTE] {
            assert!(concerns(&message(kind, RT_TABLE_COMPAT), RT_TABLE_COMPAT));
            assert!(!concerns(&message(kind, 254), RT_TABLE_COMPAT));
        }
        const RTM_NEWLINK: u16 = 16;
        assert!(concerns(&message(RTM_NEWLINK, 254), RT_TABLE_COMPAT));
    }

    #[test]
    fn a_loss_is_heard_wherever_it_comes() {
        check(&[OVERRUN, EMPTY], Heard::Lost);
        check(&[MESSAGE, OVERRUN, MESSAGE, EMPTY], Heard::Lost);
    }

    #[test]
    fn what_follows_an_empty_socket_is_for_the_next_time() {
        check(&[EMPTY, MESSAGE], Heard::Nothing);
    }

    #[test]
    fn other_errors_are_errors() {
        let answers = [Ok(true), Err(io::Error::from_raw_os_error(libc::EBADF))];
        assert_eq!(heard(answers.into_iter()).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
