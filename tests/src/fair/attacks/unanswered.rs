//! Requests that are never answered, whose clients are gone at once: by FIN as every closed socket, and by RST.

use crate::fair::arena::{Arena, SILENT};
use crate::fair::{Assault, Attack};
use crate::pods::Family;
use anyhow::{Result, ensure};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

pub(super) const ATTACK: Attack = Attack {
    name: "requests that are never answered, of clients that are gone",
    bound: "`[limits] connections`, `client_reset`",
    port: SILENT,
    head_start: |scale| scale.connections + scale.connections / 5,
    work,
    check,
};

fn work(assault: &Assault) -> Result<()> {
    let mut by_reset = false;
    while assault.goes_on() {
        let Ok(mut stream) = TcpStream::connect_timeout(&assault.to, Duration::from_secs(1)) else {
            continue;
        };
        // Fails where the connection was refused meanwhile.
        let _written = stream.write_all(b"GET /never HTTP/1.1\r\nHost: server\r\n\r\n");
        by_reset = !by_reset;
        if by_reset {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(())
}

fn check(arena: &Arena, _family: Family) -> Result<()> {
    // Two for each connection, and those of the daemon itself.
    let (open, bound) = (arena.descriptors()?, 2 * arena.scale.connections + 512);
    ensure!(open <= bound, "the daemon has {open} descriptors, at most {bound}");
    Ok(())
}
