//! Which records a reader wants. Everything that is given must hold; of several values with commas between them, one.

use proxy_core::Reason;
use proxy_core::api::detail::{DetailFilter, is_one_of};
use proxy_core::api::{FlowParty, FlowView};
use redirect::DropReason;
use serde::Deserialize;

/// The query of `GET /v1/flows`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlowFilter {
    pub(crate) verdict: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) direction: Option<String>,
    /// An endpoint (`name` or `namespace/name`), an address, or a label (`org=empire`, `k8s:org=empire`).
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) method: Option<String>,
    /// The beginning of the path.
    pub(crate) path: Option<String>,
}

impl FlowFilter {
    /// A reason that is asked for and that no record can have: its reader would wait in vain.
    pub(crate) fn unknown_reason(&self) -> Option<&str> {
        let mut wanted = self.reason.iter().flat_map(|reasons| reasons.split(',')).map(str::trim);
        wanted.find(|wanted| !reasons().any(|reason| reason.eq_ignore_ascii_case(wanted)))
    }

    pub(crate) fn passes(&self, view: &FlowView) -> bool {
        let equal = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is.is_some_and(|is| is_one_of(wanted, is)))
        };
        let among = |wanted: &Option<String>, party: &FlowParty| {
            wanted.as_deref().is_none_or(|wanted| is_party(party, wanted))
        };
        equal(&self.verdict, Some(&view.verdict))
            && equal(&self.reason, view.reason.as_deref())
            && equal(&self.direction, Some(&view.direction))
            && among(&self.from, &view.source)
            && among(&self.to, &view.destination)
            && view.detail.passes(&self.detail())
    }

    /// What each protocol answers for itself.
    fn detail(&self) -> DetailFilter<'_> {
        DetailFilter {
            kind: self.kind.as_deref(),
            method: self.method.as_deref(),
            path: self.path.as_deref(),
        }
    }
}

fn reasons() -> impl Iterator<Item = &'static str> {
    let dropped = DropReason::ALL.iter().map(|(_number, reason)| *reason).chain([DropReason::Unnamed]);
    Reason::ALL.iter().map(|reason| reason.name()).chain(dropped.map(DropReason::name))
}

fn is_party(party: &FlowParty, wanted: &str) -> bool {
    let is_endpoint = party.endpoint.as_deref().is_some_and(|endpoint| {
        endpoint == wanted || endpoint.split_once('/').is_some_and(|(_namespace, name)| name == wanted)
    });
    let is_label = |label: &String| {
        label == wanted || label.split_once(':').is_some_and(|(_source, label)| label == wanted)
    };
    is_endpoint || party.address == wanted || party.labels.iter().any(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_core::api::{DetailView, HttpView};

    fn view() -> FlowView {
        let party = |endpoint: &str, address: &str, label: &str| FlowParty {
            endpoint: Some(endpoint.into()),
            address: address.into(),
            labels: vec![label.into()],
            ..FlowParty::default()
        };
        FlowView {
            detail: DetailView::Http(HttpView {
                method: Some("PUT".into()),
                path: Some("/v1/exhaust-port".into()),
                ..HttpView::default()
            }),
            direction: "ingress".into(),
            verdict: "denied".into(),
            reason: Some("no_http_rule".into()),
            source: party("default/xwing", "10.0.0.1", "k8s:org=alliance"),
            destination: party("default/deathstar-1", "10.0.0.2", "k8s:org=empire"),
            ..FlowView::default()
        }
    }

    #[track_caller]
    fn check(query: &[(&str, &str)], expect: bool) {
        let object = query.iter().map(|(k, v)| ((*k).to_owned(), serde_json::Value::from(*v))).collect();
        let filter: FlowFilter = serde_json::from_value(serde_json::Value::Object(object)).unwrap();
        assert_eq!(filter.passes(&view()), expect, "{query:?}");
    }

    #[test]
    fn what_is_not_asked_passes() {
        check(&[], true);
    }

    #[test]
    fn one_condition() {
        check(&[("verdict", "denied")], true);
        check(&[("verdict", "forwarded")], false);
        check(&[("verdict", "dropped,denied")], true);
        check(&[("verdict", "dropped,forwarded")], false);
        check(&[("reason", "no_http_rule")], true);
        check(&[("reason", "no_rule")], false);
        check(&[("kind", "l4")], false);
        check(&[("method", "put")], true);
        check(&[("path", "/v1/exhaust")], true);
        check(&[("path", "/exhaust")], false);
    }

    #[test]
    fn reasons_that_there_are() {
        let unknown = |reason: &str| {
            let filter = FlowFilter { reason: Some(reason.into()), ..FlowFilter::default() };
            filter.unknown_reason().map(str::to_owned)
        };
        assert_eq!(unknown("no_http_rule,spoofed_source, Unnamed"), None);
        assert_eq!(unknown("no_rule,nope"), Some("nope".into()));
        assert_eq!(unknown(""), Some(String::new()));
        assert_eq!(FlowFilter::default().unknown_reason(), None);
    }

    #[test]
    fn parties_by_name_address_and_label() {
        check(&[("from", "xwing")], true);
        check(&[("from", "default/xwing")], true);
        check(&[("from", "10.0.0.1")], true);
        check(&[("from", "org=alliance")], true);
        check(&[("from", "k8s:org=alliance")], true);
        check(&[("from", "org=empire")], false);
        check(&[("to", "org=empire")], true);
    }

    #[test]
    fn all_conditions_must_hold() {
        check(&[("from", "xwing"), ("verdict", "denied")], true);
        check(&[("from", "xwing"), ("verdict", "forwarded")], false);
    }
}
