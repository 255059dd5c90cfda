//! The connections of all workers: how many, whose, and which one gives its place to another opener.
//!
//! Asked when a connection is accepted and when it is over, never between: one lock, held for a few look-ups in trees.
//!
//! INVARIANT: at most [`LEAVING_MAX`] connections and one a listener live on beyond the bound, and those are already told to end.

use policy_model::Snapshot;
use policy_model::identity::IdentityId;
use proxy_core::record::{ClientAddr, OrigDst};
use proxy_core::shares::{self, Bounds, Entered, Full, Opener, Shares};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Live {
    shares: Mutex<Shares<Arc<Seat>>>,
    /// Those that hold a place and those that are told to end.
    count: AtomicUsize,
    /// Told to end.
    leaving: AtomicUsize,
    /// Rung when the last one leaves.
    empty: Notify,
    /// Rung when one that was told to end is over.
    room: Notify,
}

/// What a connection and whoever takes its place know of each other.
#[derive(Debug)]
struct Seat {
    /// When a byte moved last (monotonic).
    used_ns: AtomicU64,
    reclaimed: AtomicBool,
    /// Whom to wake then.
    waker: OnceLock<Waker>,
}

/// A connection's place.
#[derive(Debug)]
pub(crate) struct Place {
    number: shares::Place,
    seat: Arc<Seat>,
}

/// Connections whose places were given to others and that have not ended yet. Each may hold both its sockets.
pub(crate) const LEAVING_MAX: usize = 64;

/// Who is charged for a connection.
pub(crate) fn opener(ClientAddr(client): ClientAddr, OrigDst(to): OrigDst, snapshot: &Snapshot) -> Opener {
    let client = client.ip();
    if let Some(first) = snapshot.endpoint_at(client).and_then(|endpoint| endpoint.inputs.addresses.first()) {
        return Opener::Endpoint(*first);
    }
    match snapshot.identity_of(client).id {
        IdentityId::HOST => Opener::Node,
        _somebody_else => Opener::outside(client, to.ip()),
    }
}

impl Live {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            shares: Mutex::new(Shares::new(bounds)),
            count: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            empty: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Takes a place; where none is free, that of whoever has to give one back, and that connection is told to end.
    pub(crate) fn enter(&self, opener: Opener, now_ns: u64) -> Result<Place, Full> {
        let seat = Arc::new(Seat {
            used_ns: AtomicU64::new(now_ns),
            reclaimed: AtomicBool::new(false),
            waker: OnceLock::new(),
        });
        let last_used = |seat: &Arc<Seat>| seat.used_ns.load(Ordering::Relaxed);
        // Counted under the lock: the giver may end at any time, and is counted out then.
        let mut shares = self.shares();
        let Entered { place, given_back } = shares.enter(opener, now_ns, Arc::clone(&seat), last_used)?;
        let _before = self.count.fetch_add(1, Ordering::SeqCst);
        if let Some(giver) = given_back {
            let _before = self.leaving.fetch_add(1, Ordering::SeqCst);
            giver.reclaim();
        }
        Ok(Place { number: place, seat })
    }

    pub(crate) fn leave(&self, place: &Place) {
        if !self.shares().leave(place.number) {
            let _before = self.leaving.fetch_sub(1, Ordering::SeqCst);
            self.room.notify_waiters();
        }
        if self.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.empty.notify_one();
        }
    }

    /// Returns when no more connections are about to end than may be.
    pub(crate) async fn room(&self) {
        loop {
            let mut rung = pin!(self.room.notified());
            let _rung = rung.as_mut().enable();
            if self.leaving.load(Ordering::SeqCst) < LEAVING_MAX {
                return;
            }
            rung.await;
        }
    }

    /// Returns when no connection is left. One waiter at a time.
    pub(crate) async fn emptied(&self) {
        while self.count() > 0 {
            self.empty.notified().await;
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn shares(&self) -> MutexGuard<'_, Shares<Arc<Seat>>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn reclaim(&self) {
        self.reclaimed.store(true, Ordering::SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

impl Place {
    /// Called at every poll; only the first time does anything: the waker of a task stays the same.
    pub(crate) fn waker(&self, waker: &Waker) {
        let _first = self.seat.waker.get_or_init(|| waker.clone());
    }

    /// Whether the connection must end, because another one has its place. Asked after [`Self::waker`].
    pub(crate) fn is_reclaimed(&self) -> bool {
        self.seat.reclaimed.load(Ordering::SeqCst)
    }

    /// Bytes have moved.
    pub(crate) fn used(&self, now_ns: u64) {
        self.seat.used_ns.store(now_ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;

    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            let _before = self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn pod(n: u8) -> Opener {
        Opener::Endpoint([10, 15, 0, n].into())
    }

    fn live(places_max: usize) -> Live {
        Live::new(Bounds { places_max, guaranteed: 1, guaranteed_of_node: 1 })
    }

    #[test]
    fn the_limit_holds_at_max_and_max_plus_one() {
        let live = live(2);
        let places = [live.enter(pod(1), 1).unwrap(), live.enter(pod(1), 2).unwrap()];
        assert!(live.enter(pod(1), 3).is_err());
        live.leave(&places[0]);
        assert!(live.enter(pod(1), 4).is_ok());
        assert_eq!(live.count(), 2);
    }

    #[test]
    fn who_gives_its_place_is_woken_and_counted_until_it_is_over() {
        let live = live(2);
        let bell = Arc::new(Bell(AtomicUsize::new(0)));
        let places = [live.enter(pod(1), 1).unwrap(), live.enter(pod(1), 2).unwrap()];
        places.iter().for_each(|place| place.waker(&Arc::clone(&bell).into()));
        places[0].used(3);
        let newcomer = live.enter(pod(2), 4).unwrap();
        assert_eq!(bell.0.load(Ordering::SeqCst), 1);
        let reclaimed = [&places[0], &places[1], &newcomer].map(Place::is_reclaimed);
        assert_eq!(reclaimed, [false, true, false]);
        assert_eq!(live.count(), 3);
        live.leave(&places[1]);
        assert_eq!(live.count(), 2);
        assert!(live.enter(pod(1), 5).is_err(), "its place was given away and is not free");
    }

    #[test]
    fn as_many_may_be_about_to_end_as_the_bound_says() {
        let live = live(2 * LEAVING_MAX);
        let places: Vec<_> = (0..2 * LEAVING_MAX).map(|_| live.enter(pod(1), 1).unwrap()).collect();
        let has_room = || {
            let mut room = pin!(live.room());
            room.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop())).is_ready()
        };
        for _ in 1..LEAVING_MAX {
            let _place = live.enter(pod(2), 2).unwrap();
        }
        assert!(has_room());
        let _last = live.enter(pod(2), 2).unwrap();
        assert!(!has_room());
        live.leave(places.iter().find(|place| place.is_reclaimed()).unwrap());
        assert!(has_room());
    }
}
