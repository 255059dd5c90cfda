//! The daemon's doors for people and programs: HTTP with JSON on a unix socket, and the metrics on TCP.
//!
//! Paths and shapes are those of [`proxy_core::api`].

use crate::door::{self, Bounds, Crowded, Source};
use crate::findings::Findings;
use crate::flows::{FlowFilter, SUBSCRIBERS_MAX};
use crate::history::{self, Question};
use crate::metrics::Metrics;
use crate::shared::Shared;
use axum::body::Body;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{self, StreamExt};
use policy_model::Snapshot;
use policy_model::snapshot::{DirectionPolicy, Endpoint};
use proxy_core::api::{EndpointView, ErrorView, ExplainRequest, Finding, IdentityView, PolicyView, Status};
use proxy_core::explain;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

/// What the answers are made from.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) findings: Arc<Findings>,
    /// In force everywhere.
    pub(crate) reported: watch::Receiver<Arc<Snapshot>>,
    pub(crate) node: String,
    pub(crate) mode: &'static str,
}

type App = State<Arc<Admin>>;

impl Admin {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.reported.borrow())
    }
}

/// Clients of the socket at once: all followers of flows, and as many who only ask.
const CLIENTS_MAX: usize = 2 * SUBSCRIBERS_MAX;
/// Scrapers at once, and how long each may take: anybody who reaches the address can connect.
const SCRAPERS_MAX: usize = 16;
const SCRAPE_MAX: Duration = Duration::from_secs(30);
/// Records that an answer holds where the question does not say.
const LAST_DEFAULT: usize = 100;

pub(crate) async fn serve(listener: UnixListener, admin: Arc<Admin>) {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/endpoints", get(endpoints))
        .route("/v1/endpoints/{*name}", get(endpoint))
        .route("/v1/identities", get(identities))
        .route("/v1/policies", get(policies))
        .route("/v1/explain", post(explain))
        .route("/v1/flows", get(flows))
        .fallback(unknown_path)
        .with_state(admin);
    // Who follows flows stays as long as it likes.
    let bounds = Bounds { connections_max: CLIENTS_MAX, lifetime_max: Duration::MAX, crowded: Crowded::Wait };
    door::serve(listener, |_| Source::LOCAL, router, bounds).await;
}

pub(crate) async fn serve_metrics(listener: TcpListener, metrics: Arc<Metrics>) {
    let router = Router::new().route("/metrics", get(scrape)).with_state(metrics);
    let bounds =
        Bounds { connections_max: SCRAPERS_MAX, lifetime_max: SCRAPE_MAX, crowded: Crowded::Replace };
    door::serve(listener, |address| Source::of(address.ip()), router, bounds).await;
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> Response {
    const TYPE: HeaderValue =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(admin): App) -> Json<Status> {
    let snapshot = admin.snapshot();
    let mut findings = admin.findings.all();
    let records_lost = admin.metrics.records_lost();
    if records_lost > 0 {
        findings.push(records_were_lost(records_lost));
    }
    for endpoint in snapshot.endpoints() {
        let lost = admin.metrics.usage(endpoint.id).events_lost;
        findings.extend((lost > 0).then(|| events_were_lost(endpoint, lost)));
    }
    Json(Status {
        node: admin.node.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        revision: snapshot.revision(),
        mode: admin.mode.into(),
        ok: findings.iter().all(|finding| finding.severity != "error"),
        findings,
        endpoints: snapshot.endpoints().len(),
        policies: snapshot.policies().len(),
        connections: u64::try_from(admin.shared.live.count()).unwrap_or(u64::MAX),
        records_lost,
    })
}

fn records_were_lost(records: u64) -> Finding {
    Finding {
        severity: "warning".into(),
        subject: "flow records".into(),
        line: 0,
        field: "limits.flow_records".into(),
        message: format!("{records} were lost: they came faster than they were read"),
        fix: "follow fewer of them; totals in the metrics are complete".into(),
    }
}

/// Nobody else's are lost for it.
fn events_were_lost(endpoint: &Endpoint, events: u64) -> Finding {
    Finding {
        severity: "warning".into(),
        subject: format!("{}/{}", endpoint.inputs.namespace, endpoint.inputs.name),
        line: 0,
        field: "limits.events_per_endpoint".into(),
        message: format!(
            "{events} verdicts of the kernel about what it sent were not recorded: it caused more than it may each second"
        ),
        fix: "look at what it does (`sluice monitor`), or raise `[limits] events_per_endpoint`; totals in the metrics are complete"
            .into(),
    }
}

async fn endpoints(State(admin): App) -> Json<Vec<EndpointView>> {
    let snapshot = admin.snapshot();
    let views = snapshot.endpoints().iter().map(|endpoint| view(endpoint, &admin));
    let mut views: Vec<EndpointView> = views.collect();
    views.sort_by_key(|view| view.id);
    Json(views)
}

async fn endpoint(State(admin): App, UrlPath(name): UrlPath<String>) -> Response {
    let snapshot = admin.snapshot();
    let mut named = snapshot.endpoints().iter().filter(|endpoint| explain::is_endpoint(endpoint, &name));
    match (named.next(), named.next()) {
        (Some(endpoint), None) => Json(view(endpoint, &admin)).into_response(),
        (Some(_), Some(_)) => refuse(StatusCode::CONFLICT, format!("`{name}` is in more than one namespace")),
        (None, _) => refuse(StatusCode::NOT_FOUND, format!("no endpoint `{name}` on this node")),
    }
}

fn view(endpoint: &Endpoint, admin: &Admin) -> EndpointView {
    let enforcement = |policy: &DirectionPolicy| match policy.enforced() {
        true => "Enabled".to_owned(),
        false => "Disabled".to_owned(),
    };
    let address = |family: fn(&IpAddr) -> bool| {
        endpoint.inputs.addresses.iter().find(|address| family(address)).map(ToString::to_string)
    };
    let interface = endpoint.inputs.interface.as_deref();
    let waits = interface.is_some_and(|interface| admin.findings.is_missing(interface));
    let usage = admin.metrics.usage(endpoint.id);
    EndpointView {
        id: endpoint.id,
        name: endpoint.inputs.name.as_ref().into(),
        namespace: endpoint.inputs.namespace.as_ref().into(),
        ingress_enforcement: enforcement(&endpoint.ingress),
        egress_enforcement: enforcement(&endpoint.egress),
        identity: endpoint.identity.id.0,
        labels: endpoint.identity.labels.iter().map(ToString::to_string).collect(),
        ipv6: address(IpAddr::is_ipv6),
        ipv4: address(IpAddr::is_ipv4),
        interface: interface.map(Into::into),
        status: if waits { "waiting-for-interface" } else { "ready" }.into(),
        flows: usage.flows,
        inspected_flows: usage.inspected_flows,
        flows_over_quota: usage.flows_over_quota,
        events_lost: usage.events_lost,
    }
}

async fn identities(State(admin): App) -> Json<Vec<IdentityView>> {
    let snapshot = admin.snapshot();
    let view = |identity: &Arc<policy_model::Identity>| IdentityView {
        id: identity.id.0,
        labels: identity.labels.iter().map(ToString::to_string).collect(),
    };
    Json(snapshot.identities().map(view).collect())
}

async fn policies(State(admin): App) -> Json<PolicyView> {
    let snapshot = admin.snapshot();
    let rules = snapshot.policies().iter().flat_map(|policy| &policy.rules);
    let rules = rules.map(|rule| rule.printed.clone()).collect();
    Json(PolicyView { revision: snapshot.revision(), rules })
}

async fn explain(State(admin): App, body: axum::body::Bytes) -> Response {
    let question: ExplainRequest = match serde_json::from_slice(&body) {
        Ok(question) => question,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let path_bytes_max = admin.shared.notices.last().limits.http.path_bytes_max;
    match explain::explain(&admin.snapshot(), path_bytes_max, &question) {
        Ok(explanation) => Json(explanation).into_response(),
        Err(error) => refuse(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
    }
}

/// The query of `/v1/flows` beside the filter.
#[derive(Clone, Debug, Default)]
struct Reading {
    follow: bool,
    last: Option<usize>,
    filter: FlowFilter,
}

async fn flows(State(admin): App, Query(query): Query<Vec<(String, String)>>) -> Response {
    let reading = match reading(query) {
        Ok(reading) => reading,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error),
    };
    let (numbers, later) = match reading.follow.then(|| admin.shared.flows.subscribe(reading.filter.clone()))
    {
        None => (admin.shared.flows.numbers(), None),
        Some(Ok((numbers, lines))) => (numbers, Some(lines)),
        Some(Err(_too_many)) => return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many followers".into()),
    };
    let last = reading.last.unwrap_or(if reading.follow { 0 } else { LAST_DEFAULT });
    let question = Question { filter: reading.filter, last, numbers };
    let kept = history::lines(Arc::clone(&admin.shared), question).await;
    let later = stream::unfold(later, |lines| async {
        let mut lines = lines?;
        Some((lines.recv().await?, Some(lines)))
    });
    const TYPE: HeaderValue = HeaderValue::from_static("application/x-ndjson");
    let body = Body::from_stream(kept.chain(later).map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, TYPE)], body).into_response()
}

fn reading(query: Vec<(String, String)>) -> Result<Reading, String> {
    let mut reading = Reading::default();
    let mut filter = serde_json::Map::new();
    for (key, value) in query {
        match key.as_str() {
            "follow" => reading.follow = value.parse().map_err(|_error| "`follow` is `true` or `false`")?,
            "last" => reading.last = Some(value.parse().map_err(|_error| "`last` is a number")?),
            _filter => drop(filter.insert(key, value.into())),
        }
    }
    reading.filter = serde_json::from_value(filter.into()).map_err(|error| error.to_string())?;
    match reading.filter.unknown_reason() {
        Some(unknown) => {
            Err(format!("`{unknown}` is no reason; reasons.md of the documentation has them all"))
        }
        None => Ok(reading),
    }
}

async fn unknown_path() -> Response {
    refuse(StatusCode::NOT_FOUND, "no such path; see `sluice --help`".into())
}

fn refuse(status: StatusCode, error: String) -> Response {
    (status, Json(ErrorView { error })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn query(pairs: &[(&str, &str)]) -> Result<Reading, String> {
        reading(pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
    }

    #[test]
    fn a_query_is_read() {
        let reading = query(&[("follow", "true"), ("last", "5"), ("verdict", "denied")]).unwrap();
        assert!(reading.follow);
        assert_eq!(reading.last, Some(5));
        assert_eq!(reading.filter.verdict.as_deref(), Some("denied"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(query(&[("follow", "yes")]).is_err());
        assert!(query(&[("verdit", "denied")]).unwrap_err().contains("verdit"));
        assert!(query(&[("reason", "no_rule, nope")]).unwrap_err().contains("`nope` is no reason"));
    }
}
