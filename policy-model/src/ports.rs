//! What covers a port: overlapping rules settled into disjoint classes.
//!
//! Deny beats everything, an allow that looks no deeper lifts what others restrict (their ports stay inspected), and what
//! is left is inspected.

use crate::http::{Effort, HttpRules, Request};
use crate::rule::Protocol;
use crate::verdict::{DenyReason, RuleRef};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What policy says of an inspected port. One variant a protocol, each with its own question.
#[derive(Debug)]
pub enum PortRules {
    Http(HttpRules),
    /// Lines: what the tests of inspectors speak. No policy text says this, and its requests are no rule's to judge.
    Line(RuleRef),
    /// Rules that can't be judged: every request is denied.
    Unjudgeable(RuleRef),
}

/// What an inspected port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortProtocol {
    Http,
    Line,
}

impl PortRules {
    /// `None`: that can't be told, and does not matter, for nothing is allowed.
    pub fn protocol(&self) -> Option<PortProtocol> {
        match self {
            Self::Http(_) => Some(PortProtocol::Http),
            Self::Line(_) => Some(PortProtocol::Line),
            Self::Unjudgeable(_) => None,
        }
    }

    pub(crate) fn first(&self) -> Option<&RuleRef> {
        match self {
            Self::Http(rules) => rules.rules().first(),
            Self::Line(rule) | Self::Unjudgeable(rule) => Some(rule),
        }
    }

    pub(crate) fn asks_for_header(&self, name: &[u8], cut: bool) -> bool {
        match self {
            Self::Http(rules) => rules.asks_for(name, cut),
            Self::Line(_) | Self::Unjudgeable(_) => false,
        }
    }

    /// The rule that allows, or why none does and which came nearest.
    pub(crate) fn judge(
        &self,
        request: &Request<'_>,
        effort: &Effort,
    ) -> Result<&RuleRef, (DenyReason, Option<&RuleRef>)> {
        match self {
            Self::Http(rules) => rules.matching(request, effort).ok_or_else(|| {
                let reason = if effort.is_over() { DenyReason::TooCostly } else { DenyReason::NoHttpRule };
                (reason, rules.nearest(request, effort).map(|(rule, _)| rule))
            }),
            Self::Line(rule) | Self::Unjudgeable(rule) => Err((DenyReason::Unjudgeable, Some(rule))),
        }
    }
}

/// Ports of one protocol, inclusive.
pub(crate) type PortRange = (Protocol, (u16, u16));

/// Ports of one protocol (`None`: of every protocol without classes of its own) and what holds there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Class {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) ports: (u16, u16),
    pub(crate) decision: Decision,
}

#[derive(Clone, Debug)]
pub(crate) enum Decision {
    Allow(RuleRef),
    Deny(RuleRef),
    Inspect(Arc<PortRules>),
}

/// Compiled rules are equal where they are the same: `resolve` compiles equal lists once.
impl PartialEq for Decision {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Allow(a), Self::Allow(b)) | (Self::Deny(a), Self::Deny(b)) => a == b,
            (Self::Inspect(a), Self::Inspect(b)) => Arc::ptr_eq(a, b),
            (Self::Allow(_) | Self::Deny(_) | Self::Inspect(_), _) => false,
        }
    }
}

impl Class {
    /// The decision for a port. `classes` are settled: sorted, disjoint, those of every protocol first.
    pub(crate) fn find(classes: &[Self], protocol: Protocol, port: u16) -> Option<&Decision> {
        let found = classes.binary_search_by(|class| match class.protocol.cmp(&Some(protocol)) {
            Ordering::Equal if class.ports.1 < port => Ordering::Less,
            Ordering::Equal if class.ports.0 > port => Ordering::Greater,
            order @ (Ordering::Equal | Ordering::Greater | Ordering::Less) => order,
        });
        let own = found.ok().and_then(|index| classes.get(index));
        own.or_else(|| classes.first().filter(|class| class.protocol.is_none())).map(|class| &class.decision)
    }
}

/// Ports that one rule covers. The position in the list given to [`settle`] is the order of the rules.
#[derive(Clone, Debug)]
pub(crate) struct Span<T> {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) ports: (u16, u16),
    pub(crate) rule: T,
}

pub(crate) const ALL_PORTS: (u16, u16) = (0, u16::MAX);

/// Cuts overlapping spans into disjoint classes; `decide` is asked what holds where exactly these rules cover.
pub(crate) fn settle<T>(
    spans: &[Span<T>],
    mut decide: impl FnMut(Protocols, &[&T]) -> Option<Decision>,
) -> Arc<[Class]> {
    let others = sweep(spans, None, &mut decide);
    let named: BTreeSet<Protocol> = spans.iter().filter_map(|span| span.protocol).collect();
    let mut classes = others.clone();
    for protocol in named {
        let own = sweep(spans, Some(protocol), &mut decide);
        let same = |a: &[Class], b: &[Class]| {
            a.iter().map(|c| (c.ports, &c.decision)).eq(b.iter().map(|c| (c.ports, &c.decision)))
        };
        if !same(&own, &others) {
            classes.extend(own);
        }
    }
    classes.into()
}

/// Which protocols a decision is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocols {
    One(Protocol),
    Others,
}

fn sweep<T>(
    spans: &[Span<T>],
    protocol: Option<Protocol>,
    decide: &mut impl FnMut(Protocols, &[&T]) -> Option<Decision>,
) -> Vec<Class> {
    let mut edges: BTreeMap<u32, Vec<(usize, Edge)>> = BTreeMap::new();
    for (index, span) in spans.iter().enumerate() {
        if span.protocol.is_none() || span.protocol == protocol {
            edges.entry(span.ports.0.into()).or_default().push((index, Edge::Begins));
            edges.entry(u32::from(span.ports.1) + 1).or_default().push((index, Edge::Ended));
        }
    }
    let mut classes: Vec<Class> = Vec::new();
    let mut active = BTreeSet::new();
    let ends: Vec<u32> = edges.keys().skip(1).copied().collect();
    for ((start, changes), end) in edges.into_iter().zip(ends) {
        for (index, edge) in changes {
            let _changed = match edge {
                Edge::Begins => active.insert(index),
                Edge::Ended => active.remove(&index),
            };
        }
        let rules: Vec<&T> =
            active.iter().filter_map(|index| spans.get(*index)).map(|span| &span.rule).collect();
        let protocols = protocol.map_or(Protocols::Others, Protocols::One);
        let decision = if rules.is_empty() { None } else { decide(protocols, &rules) };
        // Both fit: spans are of u16, and `end` is one past the last port.
        let (Ok(first), Ok(last)) = (u16::try_from(start), u16::try_from(end.saturating_sub(1))) else {
            continue;
        };
        if let Some(decision) = decision {
            push(&mut classes, Class { protocol, ports: (first, last), decision });
        }
    }
    classes
}

enum Edge {
    Begins,
    Ended,
}

/// Neighbours with one decision are one class.
fn push(classes: &mut Vec<Class>, next: Class) {
    match classes.last_mut() {
        Some(last)
            if last.decision == next.decision && u32::from(last.ports.1) + 1 == u32::from(next.ports.0) =>
        {
            last.ports.1 = next.ports.1;
        }
        Some(_) | None => classes.push(next),
    }
}
