//! Reading allocates nothing: heads and bodies never, targets not once the scratch space is warm.
#![cfg(test)]
#![expect(
    unsafe_code,
    reason = "counting allocations takes an allocator of our own; it only counts and delegates"
)]

use parsers::Progress;
use parsers::http1::head::{AnsweredMethod, request, response};
use parsers::http1::{Body, BodyLength, HeadScan, Limits, Readings};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: `place` came from `alloc` above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LIMITS: Limits = Limits {
    head_bytes_max: 65_536,
    fields_max: 200,
    path_bytes_max: 8192,
    chunk_line_bytes_max: 4096,
    trailer_bytes_max: 16_384,
};

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(vec![1])), 1);
}

#[test]
fn heads_and_their_fields() {
    let head = b"POST /a HTTP/1.1\r\nHost: x\r\nA: b\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let count = allocations(|| {
        let Ok(Progress::Complete { message, .. }) = request(&mut HeadScan::default(), head, &LIMITS) else {
            panic!()
        };
        assert_eq!((message.fields().count(), message.values("a").count()), (4, 1));
    });
    assert_eq!(count, 0);
}

#[test]
fn responses_and_bodies() {
    let count = allocations(|| {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(response(&mut HeadScan::default(), head, AnsweredMethod::Other, &LIMITS).is_ok());
        let advance = Body::new(BodyLength::Chunked).advance(b"1;a\r\nx\r\n0\r\nA: b\r\n\r\n", &LIMITS);
        assert!(advance.is_ok_and(|advance| advance.done));
    });
    assert_eq!(count, 0);
}

#[test]
fn readings_once_warm() {
    let targets = ["/a?b", "/a/%41%20", "/public/../admin?x", "/a%2f..;x/b\\c?q=%2f", "/%", "/%2f;\\%5c"];
    let mut readings = Readings::default();
    let mut read_all = || targets.iter().filter(|target| readings.read(target, 8192).is_ok()).count();
    assert_eq!(read_all(), 4);
    assert_eq!(allocations(|| assert_eq!(read_all(), 4)), 0);
}

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}
