//! The connections of all workers: how many, whose, and which one gives its place to another opener.
//!
//! Asked when a connection is accepted and when it is over, never between: one lock, held for a few look-ups in trees.
//!
//! INVARIANT: at most [`LEAVING_MAX`] connections and one a listener live on beyond the bound, and those are already told to end.

use crate::connections::Key;
use crate::inbox::Inbox;
use policy_model::Snapshot;
use policy_model::identity::IdentityId;
use proxy_core::record::{ClientAddr, OrigDst};
use proxy_core::shares::{self, Bounds, Entered, Full, Opener, Shares};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Workers that wait until one that was told to end is over.
    crowded: Mutex<Vec<Arc<Inbox>>>,
}

/// What a connection and whoever takes its place know of each other.
#[derive(Debug)]
struct Seat {
    /// When a byte moved last (monotonic).
    used_ns: AtomicU64,
    reclaimed: AtomicBool,
    /// Whose worker to tell then.
    inbox: Arc<Inbox>,
    key: Key,
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
            crowded: Mutex::default(),
        }
    }

    /// Takes a place for a connection of this worker; where none is free, that of whoever has to give one back, and that
    /// connection is told to end.
    pub(crate) fn enter(
        &self,
        opener: Opener,
        now_ns: u64,
        inbox: &Arc<Inbox>,
        key: Key,
    ) -> Result<Place, Full> {
        let seat = Arc::new(Seat {
            used_ns: AtomicU64::new(now_ns),
            reclaimed: AtomicBool::new(false),
            inbox: Arc::clone(inbox),
            key,
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
            let crowded = std::mem::take(&mut *self.crowded());
            crowded.iter().for_each(|inbox| inbox.send(|mail| mail.room = true));
        }
        if self.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.empty.notify_one();
        }
    }

    /// Whether no more connections are about to end than may be. If not, the worker is told once one has ended.
    pub(crate) fn has_room(&self, inbox: &Arc<Inbox>) -> bool {
        let is_free = || self.leaving.load(Ordering::SeqCst) < LEAVING_MAX;
        if is_free() {
            return true;
        }
        let mut crowded = self.crowded();
        // The last one may have ended in the meantime, and told nobody.
        let free = is_free();
        if !free && !crowded.iter().any(|other| Arc::ptr_eq(other, inbox)) {
            crowded.push(Arc::clone(inbox));
        }
        free
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

    fn crowded(&self) -> MutexGuard<'_, Vec<Arc<Inbox>>> {
        self.crowded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shares(&self) -> MutexGuard<'_, Shares<Arc<Seat>>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn reclaim(&self) {
        self.reclaimed.store(true, Ordering::SeqCst);
        self.inbox.send(|mail| mail.reclaimed.push(self.key));
    }
}

impl Place {
    /// Whether the connection must end, because another one has its place.
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

    /// A worker's inbox, and what it is woken through.
    struct Woken {
        inbox: Arc<Inbox>,
        _poll: mio::Poll,
    }

    impl Woken {
        fn new() -> Self {
            let poll = mio::Poll::new().unwrap();
            let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
            Self { inbox: Arc::new(Inbox::new(waker)), _poll: poll }
        }

        fn enter(&self, live: &Live, opener: Opener, now_ns: u64) -> Result<Place, Full> {
            live.enter(opener, now_ns, &self.inbox, Key(usize::try_from(now_ns).unwrap()))
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
        let (live, worker) = (live(2), Woken::new());
        let places = [worker.enter(&live, pod(1), 1).unwrap(), worker.enter(&live, pod(1), 2).unwrap()];
        assert!(worker.enter(&live, pod(1), 3).is_err());
        live.leave(&places[0]);
        assert!(worker.enter(&live, pod(1), 4).is_ok());
        assert_eq!(live.count(), 2);
    }

    #[test]
    fn who_gives_its_place_is_told_and_counted_until_it_is_over() {
        let (live, worker) = (live(2), Woken::new());
        let places = [worker.enter(&live, pod(1), 1).unwrap(), worker.enter(&live, pod(1), 2).unwrap()];
        places[0].used(3);
        let newcomer = worker.enter(&live, pod(2), 4).unwrap();
        assert_eq!(worker.inbox.take().reclaimed, [Key(2)]);
        let reclaimed = [&places[0], &places[1], &newcomer].map(Place::is_reclaimed);
        assert_eq!(reclaimed, [false, true, false]);
        assert_eq!(live.count(), 3);
        live.leave(&places[1]);
        assert_eq!(live.count(), 2);
        assert!(worker.enter(&live, pod(1), 5).is_err(), "its place was given away and is not free");
    }

    #[test]
    fn as_many_may_be_about_to_end_as_the_bound_says() {
        let (live, worker) = (live(2 * LEAVING_MAX), Woken::new());
        let places: Vec<_> = (0..2 * LEAVING_MAX).map(|_| worker.enter(&live, pod(1), 1).unwrap()).collect();
        for _ in 1..LEAVING_MAX {
            let _place = worker.enter(&live, pod(2), 2).unwrap();
        }
        assert!(live.has_room(&worker.inbox));
        let _last = worker.enter(&live, pod(2), 2).unwrap();
        assert!(!live.has_room(&worker.inbox));
        assert!(!worker.inbox.take().room);
        live.leave(places.iter().find(|place| place.is_reclaimed()).unwrap());
        assert!(worker.inbox.take().room);
        assert!(live.has_room(&worker.inbox));
    }
}
