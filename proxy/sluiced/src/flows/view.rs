//! L4 records as they leave the daemon; those of sessions know it themselves.

use super::l4::L4Record;
use proxy_core::api::{DetailView, FlowParty, FlowView, direction_name, rfc3339};

pub(crate) fn of_l4(record: &L4Record) -> FlowView {
    let L4Record { source, destination, .. } = record;
    FlowView {
        time: rfc3339(record.unix_ns),
        detail: DetailView::L4,
        direction: direction_name(record.direction).into(),
        verdict: record.outcome.verdict().into(),
        reason: record.outcome.reason().map(Into::into),
        revision: record.revision,
        rule: record.rule.as_ref().map(ToString::to_string),
        source: FlowParty::new(source.address, Some(&source.party)),
        destination: FlowParty::new(destination.address, Some(&destination.party)),
        protocol: record.protocol.to_string(),
        count: record.count,
        ..FlowView::default()
    }
}
