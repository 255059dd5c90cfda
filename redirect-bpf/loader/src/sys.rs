//! The programs' clock, and the few bpf(2) commands that aya does not offer: replacing the program of a link of any kind, asking a
//! link where it is attached, running a program once, reading a hash map in batches that can be resumed, and programs and links
//! of netfilter.

use aya::Pod;
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;

/// Where a link is attached, as far as its kind tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// A TCX link; 0 once the interface is gone.
    Ifindex(u32),
    /// The inode of a network namespace; 0 once it is gone.
    NetworkNamespace(u32),
    /// A hook of netfilter, by its priority. That it is set does not say that the link was not detached.
    Netfilter(i32),
    Other,
}

/// Where a batched reading of a map stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor(Option<u32>);

#[repr(C)]
struct ObjGet {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    program_fd: u32,
    flags: u32,
    old_program_fd: u32,
}

#[repr(C)]
struct ProgramRun {
    program_fd: u32,
    answer: u32,
    data_length: u32,
    out_length: u32,
    data: u64,
    out: u64,
    repeat: u32,
    duration: u32,
}

#[repr(C)]
struct LookupBatch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// The head of `struct bpf_link_info`, and the first words of its union, which starts at a multiple of 8.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    place: u32,
    attach_type: u32,
    priority: i32,
    flags: u32,
}

/// An instruction of a program, as the kernel takes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// The destination in the lower half, the source in the upper one.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

#[repr(C)]
struct ProgLoad {
    kind: u32,
    instructions_len: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_len: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach_type: u32,
}

#[repr(C)]
struct ObjPin {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct LinkCreateNetfilter {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    family: u32,
    hook: u32,
    priority: i32,
    netfilter_flags: u32,
}

const BPF_PROG_TYPE_NETFILTER: u32 = 32;
const BPF_NETFILTER: u32 = 45;
const LOG_LEN: usize = 1 << 16;
/// Of the verifier's log, what an error quotes: its end says why.
const LOG_QUOTED_MAX: usize = 300;

/// Kinds of `struct bpf_link_info`.
const LINK_NETNS: u32 = 5;
const LINK_NETFILTER: u32 = 10;
const LINK_TCX: u32 = 11;

/// The object that is pinned at `path`.
pub(crate) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = ObjGet { path: address(path.as_ptr()), fd: 0, flags: 0 };
    // SAFETY: the path is a C string that outlives the call.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut attributes) }?;
    // SAFETY: the call gave us this descriptor, and nobody else has it.
    unsafe { owned(fd) }
}

/// Pins a link or a map.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = ObjPin { path: address(path.as_ptr()), fd: raw(object)?, flags: 0 };
    // SAFETY: the path is a C string that outlives the call.
    let _zero = unsafe { bpf(BPF_OBJ_PIN, &mut attributes) }?;
    Ok(())
}

/// Loads a program of netfilter. The error quotes what the verifier says; where it says nothing the kernel has no such programs.
pub(crate) fn load_netfilter(name: &[u8; 16], program: &[Instruction]) -> io::Result<OwnedFd> {
    const LICENSE: &std::ffi::CStr = c"GPL";
    let mut log = vec![0_u8; LOG_LEN];
    let mut attributes = ProgLoad {
        kind: BPF_PROG_TYPE_NETFILTER,
        instructions_len: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: address(program.as_ptr()),
        license: address(LICENSE.as_ptr()),
        log_level: 1,
        log_len: u32::try_from(log.len()).map_err(io::Error::other)?,
        log: address(log.as_mut_ptr()),
        kernel_version: 0,
        flags: 0,
        name: *name,
        ifindex: 0,
        attach_type: BPF_NETFILTER,
    };
    // SAFETY: the pointers and lengths are those of `program` and `log`, which outlive the call, and the license is a C string.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attributes) };
    // SAFETY: the call gave us this descriptor, and nobody else has it.
    fd.map_err(|error| quoting(error, &log)).and_then(|fd| unsafe { owned(fd) })
}

fn quoting(error: io::Error, log: &[u8]) -> io::Error {
    let log = log.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
    let end = log.get(log.len().saturating_sub(LOG_QUOTED_MAX)..).unwrap_or_default();
    match end.is_empty() {
        true => error,
        false => io::Error::other(format!("{error}: {}", String::from_utf8_lossy(end).replace('\n', "; "))),
    }
}

/// Makes a program a hook of netfilter, in the network namespace of this thread. `EBUSY`: the priority is taken.
pub(crate) fn link_netfilter(
    program: BorrowedFd<'_>,
    family: u32,
    hook: u32,
    priority: i32,
) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreateNetfilter {
        program: raw(program)?,
        target: 0,
        attach_type: BPF_NETFILTER,
        flags: 0,
        family,
        hook,
        priority,
        netfilter_flags: 0,
    };
    // SAFETY: the attributes hold numbers only.
    let fd = unsafe { bpf(BPF_LINK_CREATE, &mut attributes) }?;
    // SAFETY: the call gave us this descriptor, and nobody else has it.
    unsafe { owned(fd) }
}

/// # Safety
///
/// The kernel has just given us this descriptor, and nobody else has it.
unsafe fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: what the caller vouches for.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn link_attachment(link: BorrowedFd<'_>) -> io::Result<Attachment> {
    let mut info = LinkInfo::default();
    let length = u32::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    let mut attributes = InfoByFd { fd: raw(link)?, length, info: address(&raw mut info) };
    // SAFETY: the pointer and length are those of `info`, which outlives the call.
    let _zero = unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok(match info.kind {
        LINK_TCX => Attachment::Ifindex(info.place),
        LINK_NETNS => Attachment::NetworkNamespace(info.place),
        LINK_NETFILTER => Attachment::Netfilter(info.priority),
        _ => Attachment::Other,
    })
}

/// Replaces the program of a link: at every instant either the old one or the new one runs.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes =
        LinkUpdate { link_fd: raw(link)?, program_fd: raw(program)?, flags: 0, old_program_fd: 0 };
    // SAFETY: the attributes hold descriptors only.
    let _zero = unsafe { bpf(BPF_LINK_UPDATE, &mut attributes) }?;
    Ok(())
}

/// Runs a program once, on this as its packet; it belongs to no interface. Any answer but that of letting it pass is an error.
pub(crate) fn run_program(program: BorrowedFd<'_>, packet: &[u8]) -> io::Result<()> {
    let data_length = u32::try_from(packet.len()).map_err(io::Error::other)?;
    let mut attributes = ProgramRun {
        program_fd: raw(program)?,
        answer: 0,
        data_length,
        out_length: 0,
        data: address(packet.as_ptr()),
        out: 0,
        repeat: 1,
        duration: 0,
    };
    // SAFETY: the packet outlives the call, and nothing is written out.
    let _zero = unsafe { bpf(BPF_PROG_TEST_RUN, &mut attributes) }?;
    match attributes.answer {
        0 => Ok(()),
        answer => Err(io::Error::other(format!("the program answered {answer}"))),
    }
}

/// Entries of a map, and where to go on; `None` at its end.
pub(crate) type Batch<K, V> = (Vec<(K, V)>, Option<Cursor>);

/// Reads about `count_max` more entries of a hash map. The cursor that it returns is `None` at the end of the map.
pub(crate) fn lookup_batch<K: Pod, V: Pod>(
    map: impl AsFd,
    cursor: Cursor,
    count_max: u32,
) -> io::Result<Batch<K, V>> {
    let capacity = usize::try_from(count_max).map_err(io::Error::other)?;
    let mut keys: Vec<K> = Vec::with_capacity(capacity);
    let mut values: Vec<V> = Vec::with_capacity(capacity);
    let (mut position, mut next) = (cursor.0.unwrap_or_default(), 0_u32);
    let mut attributes = LookupBatch {
        in_batch: if cursor.0.is_some() { address(&raw mut position) } else { 0 },
        out_batch: address(&raw mut next),
        keys: address(keys.as_mut_ptr()),
        values: address(values.as_mut_ptr()),
        count: count_max,
        map_fd: raw(map.as_fd())?,
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: both buffers have room for `count` elements and outlive the call; cursors of hash maps are one u32.
    let ended = match unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes) } {
        Ok(_) => false,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
        Err(error) => return Err(error),
    };
    let count = usize::try_from(attributes.count).map_err(io::Error::other)?.min(capacity);
    // SAFETY: the kernel filled `count` elements of each, and both are plain data.
    unsafe {
        keys.set_len(count);
        values.set_len(count);
    }
    Ok((keys.into_iter().zip(values).collect(), (!ended).then_some(Cursor(Some(next)))))
}

/// What the programs' clock reads now.
pub(crate) fn ktime_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

pub(crate) fn nanoseconds(time: Timespec) -> u64 {
    let (seconds, rest) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or_default().wrapping_mul(1_000_000_000).wrapping_add(rest.unwrap_or_default())
}

/// # Safety
///
/// `attributes` is what the command takes, and every pointer in it is good for as long as the call lasts.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the pointer and size are those of `attributes`; for what it points to the caller vouches.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// As the kernel takes pointers, on machines of any width.
fn address<T>(pointer: *const T) -> u64 {
    u64::try_from(pointer.expose_provenance()).unwrap_or_default()
}

fn raw(fd: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)
}
/// Gives free pages of every arena of the allocator back to the system. Walks the heap: some milliseconds for each 100 MiB.
pub fn give_back_memory() {
    // SAFETY: it takes a number, and locks what it walks.
    let _gave_any_back: i32 = unsafe { libc::malloc_trim(0) };
}
