//! A bell that rings when network interfaces appear, change or go away (rtnetlink's group of link messages).
//!
//! What a message says is not looked at: whoever hears it asks the kernel what is there now. So a lost message costs nothing as
//! long as it is known that one was lost, no message can mislead, and a hundred of them are answered by one look.

use crate::error::Error;
use rtnetlink::constants::RTMGRP_LINK;
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

/// The ear for changes of interfaces, in the network namespace of the thread that opened it. Its descriptor is readable when
/// there is something to hear.
pub struct Links {
    socket: Socket,
}

impl Links {
    /// From now on changes are heard: a look after this misses none.
    pub fn open() -> Result<Self, Error> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.set_non_blocking(true)?;
            socket.bind(&SocketAddr::new(PORT_ANY, RTMGRP_LINK))?;
            Ok(Self { socket })
        };
        open().map_err(Error::Links)
    }

    /// Takes what has come. Never blocks.
    pub fn hear(&mut self) -> Result<Heard, Error> {
        // Of a message that is longer the rest is dropped.
        let mut start = [0; 16];
        let messages = core::iter::repeat_with(|| self.socket.recv(&mut start.as_mut_slice(), 0));
        heard(messages.take(MESSAGES_MAX)).map_err(Error::Links)
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

/// What a row of answers of the socket comes to. The first that says that it is empty ends the row.
fn heard(answers: impl Iterator<Item = io::Result<usize>>) -> io::Result<Heard> {
    let mut heard = Heard::Nothing;
    for answer in answers {
        match answer {
            Ok(_length) if heard == Heard::Nothing => heard = Heard::Changes,
            Ok(_length) => {}
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

    const MESSAGE: Result<usize, i32> = Ok(1000);
    const EMPTY: Result<usize, i32> = Err(libc::EAGAIN);
    const OVERRUN: Result<usize, i32> = Err(libc::ENOBUFS);
    const INTERRUPTED: Result<usize, i32> = Err(libc::EINTR);

    #[track_caller]
    fn check(answers: &[Result<usize, i32>], expect: Heard) {
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
        let answers = [Ok(1), Err(io::Error::from_raw_os_error(libc::EBADF))];
        assert_eq!(heard(answers.into_iter()).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
