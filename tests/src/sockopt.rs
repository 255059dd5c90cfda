//! Socket options that the standard library has no word for: IPv4 options, IPv6 extension headers, segments of datagrams.

use crate::pods::Family;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Puts an IPv4 option (record route) or an IPv6 destination options header into every packet of the socket.
pub fn add_options(socket: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    match family {
        // RFC 791: record route (7), 7 bytes long, pointer at its first slot; then the end of the list.
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_OPTIONS, &[7, 7, 4, 0, 0, 0, 0, 0]),
        // RFC 8200 section 4.6: next header (filled in by the kernel), length 0 = 8 bytes, PadN of 4.
        Family::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS, &[0, 0, 1, 4, 0, 0, 0, 0]),
    }
}

/// What the datagram socket sends at once is cut into datagrams of so many bytes, by the device if it can.
pub fn cut_into(socket: BorrowedFd<'_>, bytes: u16) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, &i32::from(bytes).to_ne_bytes())
}

#[expect(unsafe_code, reason = "the standard library can't set these options")]
fn set(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length describe `value`, which outlives the call; the descriptor is borrowed and open.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
