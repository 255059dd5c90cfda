//! Interfaces by name and number, in the network namespace that this was opened in.

use crate::error::Error;
use rustix::net::netdevice::{index_to_name, name_to_index};
use socket2::{Domain, Socket, Type};

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
