//! What is asked of a request whose path matches: method pattern, host, headers.

use super::Request;
use super::effort::Effort;
use super::headers::{Names, header_holds};
use crate::automata::Matcher;
use crate::rule::HeaderMatch;

/// All of them must hold.
#[derive(Debug)]
pub(super) struct Conditions {
    method: Option<Matcher>,
    host: Option<Matcher>,
    headers: Box<[HeaderMatch]>,
}

/// Which conditions a request fails.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failed {
    pub(super) count: usize,
    pub(super) first: Option<&'static str>,
}

impl Conditions {
    /// `None` where nothing is asked.
    pub(super) fn new(
        method: Option<Matcher>,
        host: Option<Matcher>,
        headers: &[HeaderMatch],
    ) -> Option<Box<Self>> {
        let asks = method.is_some() || host.is_some() || !headers.is_empty();
        asks.then(|| Box::new(Self { method, host, headers: headers.into() }))
    }

    pub(super) fn hold(&self, request: &Request<'_>, names: Names, effort: &Effort) -> bool {
        self.method_holds(request, effort)
            && self.host_holds(request, effort)
            && self.headers_hold(request, names, effort)
    }

    /// `foreign_method`: the rule is for a literal method that is not the request's.
    pub(super) fn failed(
        this: Option<&Self>,
        request: &Request<'_>,
        names: Names,
        effort: &Effort,
        foreign_method: bool,
    ) -> Failed {
        let checks = [
            ("method", !foreign_method && this.is_none_or(|c| c.method_holds(request, effort))),
            ("host", this.is_none_or(|c| c.host_holds(request, effort))),
            ("headers", this.is_none_or(|c| c.headers_hold(request, names, effort))),
        ];
        let mut failed = checks.iter().filter(|(_, holds)| !holds).map(|(name, _)| *name);
        Failed { first: failed.next(), count: checks.iter().filter(|(_, holds)| !holds).count() }
    }

    fn method_holds(&self, request: &Request<'_>, effort: &Effort) -> bool {
        self.method.as_ref().is_none_or(|method| matches(method, request.method, effort))
    }

    fn host_holds(&self, request: &Request<'_>, effort: &Effort) -> bool {
        self.host.as_ref().is_none_or(|host| matches(host, request.host, effort))
    }

    fn headers_hold(&self, request: &Request<'_>, names: Names, effort: &Effort) -> bool {
        let holds = |header| effort.spend_on(header, request) && header_holds(header, request, names);
        self.headers.iter().all(holds)
    }
}

/// Words are compared at no price; an automaton is run only where that can be afforded.
fn matches(matcher: &Matcher, value: &[u8], effort: &Effort) -> bool {
    let weight = matcher.weight();
    (weight == 0 || effort.spend(value.len(), weight)) && matcher.matches(value)
}
