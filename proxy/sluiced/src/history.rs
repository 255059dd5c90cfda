//! Shows the records that are kept, piece by piece, as fast as the reader takes them.
//!
//! The main thread has more to do than this, and there may be a million records and a hundred readers: a piece is made when
//! the one before it was taken.

use crate::flows::{FlowFilter, Line, json_line};
use crate::shared::Shared;
use futures_util::stream::{self, Stream};
use std::ops::Range;
use std::sync::Arc;
use tokio::task::yield_now;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) filter: FlowFilter,
    /// The last so many that pass the filter,
    pub(crate) last: usize,
    /// of these.
    pub(crate) numbers: Range<u64>,
}

/// Records that are looked at in one piece.
const PIECE_RECORDS: u64 = 256;

/// Oldest first. What is evicted before its turn is left out.
pub(crate) async fn lines(shared: Arc<Shared>, question: Question) -> impl Stream<Item = Line> {
    let start = start(&shared, &question).await;
    let end = question.numbers.end;
    stream::unfold(start, move |from| {
        let (shared, filter) = (Arc::clone(&shared), question.filter.clone());
        async move {
            if from >= end {
                return None;
            }
            yield_now().await;
            let to = from.saturating_add(PIECE_RECORDS).min(end);
            let views = shared.flows.slice(&filter, from..to);
            let lines: Vec<Line> = views.iter().map(|(_number, view)| json_line(view)).collect();
            Some((lines.concat().into(), to))
        }
    })
}

/// The number of the first of the last records that pass.
async fn start(shared: &Shared, question: &Question) -> u64 {
    let Question { filter, last, numbers } = question;
    let mut left = *last;
    let mut before = numbers.end;
    while before > numbers.start && left > 0 {
        let from = before.saturating_sub(PIECE_RECORDS).max(numbers.start);
        let passing = shared.flows.slice(filter, from..before);
        match passing.len().checked_sub(left).and_then(|index| passing.get(index)) {
            Some((number, _view)) => return *number,
            None => left = left.saturating_sub(passing.len()),
        }
        before = from;
        yield_now().await;
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::{L4End, L4Outcome, L4Record};
    use crate::upstream::Source;
    use futures_util::StreamExt;
    use policy_model::rule::Protocol;
    use policy_model::snapshot::Direction;

    fn record(count: u64) -> L4Record {
        L4Record {
            unix_ns: count,
            source: L4End::unknown("10.0.0.1:1"),
            destination: L4End::unknown("10.0.0.2:80"),
            protocol: Protocol::TCP,
            direction: Direction::Ingress,
            outcome: if count.is_multiple_of(3) { L4Outcome::Allowed } else { L4Outcome::Dropped("policy") },
            rule: None,
            revision: 1,
            count,
        }
    }

    /// The counts of the `last` ones of a thousand records, of which 900 are kept.
    fn ask(verdict: Option<&str>, last: usize) -> Vec<u64> {
        let config = config_node::read(
            "n.yaml",
            "node: {name: n, pod_networks: [10.0.0.0/8]}\nredirect: {mode: none}\n",
        );
        let config = config.unwrap();
        let (limits, shares) = (crate::settings::limits(&config), crate::settings::shares(&config, 1));
        let shared = Arc::new(Shared::new(limits, shares, 900, Source::WhereBindable));
        shared.flows.add_l4((1..=1000).map(record));
        let filter = FlowFilter { verdict: verdict.map(Into::into), ..FlowFilter::default() };
        let question = Question { filter, last, numbers: shared.flows.numbers() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let pieces: Vec<Line> = runtime.block_on(async { lines(shared, question).await.collect().await });
        let text = String::from_utf8(pieces.concat()).unwrap();
        let count =
            |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["count"].as_u64().unwrap();
        text.lines().map(count).collect()
    }

    #[test]
    fn the_last_ones_oldest_first() {
        assert_eq!(ask(None, 0), [0; 0]);
        assert_eq!(ask(None, 2), [999, 1000]);
        assert_eq!(ask(None, 600), (401..=1000).collect::<Vec<_>>());
        assert_eq!(ask(None, 5000), (101..=1000).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_ones_that_pass() {
        assert_eq!(ask(Some("forwarded"), 2), [996, 999]);
        assert_eq!(ask(Some("forwarded"), 5000), (102..=999).step_by(3).collect::<Vec<_>>());
        assert_eq!(ask(Some("denied"), 5000), [0; 0]);
    }
}
