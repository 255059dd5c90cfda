//! Requests that were forwarded and whose response is not complete, oldest first.
//!
//! INVARIANT: an idle connection holds no memory here: the second and later entries live in a queue that is borrowed
//! from the worker and given back when it is empty.

use crate::record::FlowRecord;
use parsers::http1::head::AnsweredMethod;
use std::collections::VecDeque;

/// A request under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) record: Box<FlowRecord>,
    /// Monotonic time of the complete head.
    pub(crate) started_ns: u64,
    pub(crate) method: AnsweredMethod,
    pub(crate) answer: ResponseState,
    pub(crate) body: Sending,
}

/// Whether the client is going to send the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// It waits for a 100, and will not send the body if another answer comes first.
    Awaits100,
    Certain,
}

/// How far the response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseState {
    Awaited,
    /// Its final head was forwarded.
    Begun,
    /// Complete, while the request's body is still under way.
    Complete,
}

#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    oldest: Option<Exchange>,
    /// Never there and empty.
    behind: Option<Box<Queue>>,
}

#[derive(Debug, Default)]
struct Queue(VecDeque<Exchange>);

/// Queues that no connection needs at the moment.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is recycled")]
pub(crate) struct SpareQueues(Vec<Box<Queue>>);

impl SpareQueues {
    const QUEUES_MAX: usize = 64;

    fn give(&mut self, queue: Box<Queue>) {
        if self.0.len() < Self::QUEUES_MAX {
            self.0.push(queue);
        }
    }
}

impl Exchanges {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.oldest.is_some()) + self.behind.as_ref().map_or(0, |queue| queue.0.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.oldest.is_none()
    }

    pub(crate) fn push(&mut self, exchange: Exchange, spare: &mut SpareQueues) {
        if self.oldest.is_none() {
            self.oldest = Some(exchange);
            return;
        }
        let behind = self.behind.get_or_insert_with(|| spare.0.pop().unwrap_or_default());
        behind.0.push_back(exchange);
    }

    /// The one whose response is next.
    pub(crate) fn oldest(&mut self) -> Option<&mut Exchange> {
        self.oldest.as_mut()
    }

    /// The one whose request was forwarded last.
    pub(crate) fn newest(&mut self) -> Option<&mut Exchange> {
        self.behind.as_mut().and_then(|queue| queue.0.back_mut()).or(self.oldest.as_mut())
    }

    pub(crate) fn pop_oldest(&mut self, spare: &mut SpareQueues) -> Option<Exchange> {
        let next = self.pop_behind(spare, VecDeque::pop_front);
        core::mem::replace(&mut self.oldest, next)
    }

    pub(crate) fn pop_newest(&mut self, spare: &mut SpareQueues) -> Option<Exchange> {
        self.pop_behind(spare, VecDeque::pop_back).or_else(|| self.oldest.take())
    }

    fn pop_behind(
        &mut self,
        spare: &mut SpareQueues,
        pop: fn(&mut VecDeque<Exchange>) -> Option<Exchange>,
    ) -> Option<Exchange> {
        let behind = self.behind.as_mut()?;
        let popped = pop(&mut behind.0);
        if behind.0.is_empty() {
            self.behind.take().into_iter().for_each(|queue| spare.give(queue));
        }
        popped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ClientAddr, OrigDst};

    fn exchange(started_ns: u64) -> Exchange {
        let address = "10.0.0.1:1".parse().unwrap();
        let record = FlowRecord::new(ClientAddr(address), OrigDst(address));
        Exchange {
            record: Box::new(record),
            started_ns,
            method: AnsweredMethod::Other,
            answer: ResponseState::Awaited,
            body: Sending::Certain,
        }
    }

    #[test]
    fn first_in_first_out() {
        let (mut exchanges, mut spare) = (Exchanges::default(), SpareQueues::default());
        (0..4).for_each(|n| exchanges.push(exchange(n), &mut spare));
        assert_eq!(exchanges.len(), 4);
        assert_eq!(exchanges.oldest().unwrap().started_ns, 0);
        assert_eq!(exchanges.newest().unwrap().started_ns, 3);
        assert_eq!(exchanges.pop_newest(&mut spare).unwrap().started_ns, 3);
        let order: Vec<_> = std::iter::from_fn(|| exchanges.pop_oldest(&mut spare))
            .map(|exchange| exchange.started_ns)
            .collect();
        assert_eq!(order, [0, 1, 2]);
        assert!(exchanges.is_empty());
    }

    #[test]
    fn one_is_the_oldest_and_the_newest() {
        let (mut exchanges, mut spare) = (Exchanges::default(), SpareQueues::default());
        exchanges.push(exchange(7), &mut spare);
        assert_eq!(exchanges.newest().unwrap().started_ns, 7);
        assert_eq!(exchanges.pop_newest(&mut spare).unwrap().started_ns, 7);
        assert!(exchanges.is_empty() && exchanges.oldest().is_none() && exchanges.newest().is_none());
    }

    #[test]
    fn an_empty_queue_is_given_back() {
        let (mut exchanges, mut spare) = (Exchanges::default(), SpareQueues::default());
        (0..2).for_each(|n| exchanges.push(exchange(n), &mut spare));
        let _ = (exchanges.pop_oldest(&mut spare), exchanges.pop_oldest(&mut spare));
        assert_eq!((spare.0.len(), exchanges.behind.is_some()), (1, false));
    }
}
