//! A pod's own network device: frames sent as they are, with what they leave to the device, and what a device does itself.
#![expect(unsafe_code, reason = "the standard library knows no packet sockets")]

use crate::netns::Namespace;
use anyhow::{Context as _, Result, ensure};
use std::ffi::CString;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

pub type Mac = [u8; 6];

/// What a raw socket may leave to the device (`struct virtio_net_hdr`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Where a sum begins, and where from there it is written.
    pub checksum: Option<(u16, u16)>,
    /// The kind of segments (`VIRTIO_NET_HDR_GSO_*`), and how much each holds.
    pub segments: Option<(u8, u16)>,
}

const PACKET_VNET_HDR: i32 = 15;
const NEEDS_CHECKSUM: u8 = 1;
const ETHTOOL_STXCSUM: u32 = 0x17;

impl Left {
    fn bytes(self) -> [u8; 10] {
        let (start, offset) = self.checksum.unwrap_or_default();
        let (kind, size) = self.segments.unwrap_or_default();
        let [[a, b], [c, d], [e, f]] = [size, start, offset].map(u16::to_ne_bytes);
        [if self.checksum.is_some() { NEEDS_CHECKSUM } else { 0 }, kind, 0, 0, a, b, c, d, e, f]
    }
}

/// Sends frames from `eth0` of a pod, each as it is.
///
/// # Errors
/// The kernel of the pod refuses one: what is left to the device makes no sense.
pub fn send(pod: &Namespace, left: Left, frames: Vec<Vec<u8>>) -> Result<()> {
    let work = move || {
        let device = Device::open()?;
        frames.iter().try_for_each(|frame| device.send(left, frame))
    };
    pod.run(work)?.context("send a frame")
}

/// `eth0` of the network namespace that the thread is in.
#[derive(Debug)]
pub struct Device(OwnedFd);

impl Device {
    pub fn open() -> io::Result<Self> {
        Ok(Self(raw_socket(c"eth0".into())?))
    }

    pub fn send(&self, left: Left, frame: &[u8]) -> io::Result<()> {
        let bytes = [&left.bytes()[..], frame].concat();
        // SAFETY: the pointer and the length are those of `bytes`, which outlives the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// The hardware address of an interface.
pub fn mac(namespace: &Namespace, interface: &str) -> Result<Mac> {
    let output =
        Command::new("ip").args(["-n", namespace.name(), "-j", "link", "show", interface]).output()?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let text =
        links.pointer("/0/address").and_then(serde_json::Value::as_str).context("no such interface")?;
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    bytes.try_into().ok().context("no Ethernet interface")
}

/// The interface fills in checksums in software from now on, as one without that offload does.
pub fn complete_checksums(namespace: &Namespace, interface: &str) -> Result<()> {
    let name = CString::new(interface)?;
    let work = move || -> io::Result<()> {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        let mut value = [ETHTOOL_STXCSUM, 0];
        // SAFETY: zeros are a value of it.
        let mut request: libc::ifreq = unsafe { zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes()) {
            *to = libc::c_char::from_ne_bytes([*from]);
        }
        request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
        // SAFETY: the request is one of ethtool, whose value outlives the call.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    ensure!(name_fits(interface), "a name of an interface has at most 15 characters");
    namespace.run(work)?.context("switch off checksum offload")
}

fn name_fits(interface: &str) -> bool {
    interface.len() < libc::IFNAMSIZ
}

/// Bound to the interface, of the thread's network namespace.
fn raw_socket(interface: CString) -> io::Result<OwnedFd> {
    let checked = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // SAFETY: the call takes numbers only, and gives us a descriptor that nobody else has.
    let socket = unsafe { OwnedFd::from_raw_fd(checked(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0))?) };
    let on = 1_i32;
    let length = |bytes: usize| libc::socklen_t::try_from(bytes).map_err(io::Error::other);
    // SAFETY: pointer and length are those of `on`.
    let _zero = checked(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_VNET_HDR,
            (&raw const on).cast(),
            length(size_of_val(&on))?,
        )
    })?;
    // SAFETY: zeros are a value of it.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    // SAFETY: the name is a C string that outlives the call.
    let index = unsafe { libc::if_nametoindex(interface.as_ptr()) };
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    // SAFETY: pointer and length are those of `address`.
    let _zero = checked(unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length(size_of_val(&address))?)
    })?;
    Ok(socket)
}
