//! What the peers do, and what must come of it.

use super::shell::{LIMITS, Open, Shell};
use crate::limits::Limits;
use crate::record::FlowRecord;
use crate::session::{Dialled, End, Ending, Session};
use crate::step::Side;
use policy_model::identity::Numbers;
use policy_model::inputs::{EndpointInputs, Inputs, NodeInputs};
use policy_model::labels::{Label, LabelSet};
use policy_model::rule::{
    self, Entry, HeaderMatch, HttpMatch, HttpRule, L7, ObjectKind, ObjectName, Peer, Peers, Port, PortMatch,
    PortRule, Ports, Protocol, Rule, Section, Subject,
};
use policy_model::selector::{Requirement, Selector, SelectorKey};
use policy_model::{Snapshot, resolve};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

pub(crate) const CLIENT: &str = "10.0.0.1:40000";
pub(crate) const DESTINATION: &str = "10.0.0.2:80";

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Do {
    /// The client sends.
    C(String),
    /// The server sends.
    S(String),
    Dialled(Dialled),
    Ends(Side, End),
    /// The daemon publishes a policy and tells the session.
    Publish(Policy),
    Sleep(u64),
    /// Published, but the session meets it at a request before it is told.
    Store(Policy),
    Fail,
    HoldTooMuch,
    Reclaim,
    Stop,
}

pub(crate) fn c(text: &str) -> Do {
    Do::C(text.to_owned())
}

pub(crate) fn s(text: &str) -> Do {
    Do::S(text.to_owned())
}

pub(crate) const C_FIN: Do = Do::Ends(Side::Client, End::Fin);
pub(crate) const C_RST: Do = Do::Ends(Side::Client, End::Reset);
pub(crate) const S_FIN: Do = Do::Ends(Side::Server, End::Fin);
pub(crate) const S_RST: Do = Do::Ends(Side::Server, End::Reset);

/// The policies of the tests; each has its own revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Policy {
    /// Nobody selects the server.
    Absent,
    /// The client may connect to port 80.
    L4,
    /// `/ok...` with any method.
    Ok,
    /// `/other...` with any method.
    Other,
    /// Only somebody else may connect.
    Closed,
    /// A deny rule covers the client.
    DenyRule,
    /// `/ok...`, but only with the header `x-token: secret`.
    Token,
    /// A rule that can't be judged.
    Unjudgeable,
    /// The client may ask the server for `/ok...`; nobody selects the server.
    Egress,
    /// `/ok...`, but only with a field `upgrade`.
    Upgrade,
    /// A pattern that costs much by the byte.
    Heavy,
    /// As `Ok`, but the client's pod is gone.
    Gone,
}

const POLICIES: [Policy; 12] = [
    Policy::Absent,
    Policy::L4,
    Policy::Ok,
    Policy::Other,
    Policy::Closed,
    Policy::DenyRule,
    Policy::Token,
    Policy::Unjudgeable,
    Policy::Egress,
    Policy::Upgrade,
    Policy::Heavy,
    Policy::Gone,
];

/// How a script runs, apart from what happens in it.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) client: &'static str,
    pub(crate) policy: Policy,
    pub(crate) limits: Limits,
    pub(crate) dial: Option<Dialled>,
    pub(crate) open: Open,
}

pub(crate) const INSPECTED: Setting = Setting {
    client: CLIENT,
    policy: Policy::Ok,
    limits: LIMITS,
    dial: Some(Dialled::Connected),
    open: Session::open,
};

impl Policy {
    pub(crate) fn revision(self) -> u64 {
        let position = POLICIES.iter().position(|policy| *policy == self).unwrap();
        u64::try_from(position).unwrap() + 1
    }
}

impl Setting {
    pub(crate) fn shell(&self) -> Shell {
        Shell::new(self.open, self.client, DESTINATION, snapshot(self.policy), self.limits, self.dial)
    }

    /// Runs the script in [`every_way`].
    #[track_caller]
    pub(crate) fn check(&self, script: &[Do], server: &str, client: &str, records: &[&str]) {
        for cut in every_way(script) {
            self.check_cut(script, &cut, server, client, records);
        }
    }

    #[track_caller]
    fn check_cut(&self, whole: &[Do], script: &[Do], server: &str, client: &str, records: &[&str]) {
        let mut shell = self.shell();
        script.iter().for_each(|event| act(&mut shell, event));
        let cut = if whole.len() == script.len() { String::new() } else { format!("cut as {script:?}") };
        assert_eq!(shell.got(Side::Server), server, "what the server got {cut}");
        assert_eq!(shell.got(Side::Client), client, "what the client got {cut}");
        let made: Vec<String> = shell.records.iter().map(summary).collect();
        assert_eq!(made, records, "records {cut}");
    }
}

/// With the policy [`Policy::Ok`], the usual limits, and an upstream that answers.
#[track_caller]
pub(crate) fn check(script: &[Do], server: &str, client: &str, records: &[&str]) {
    INSPECTED.check(script, server, client, records);
}

pub(crate) fn act(shell: &mut Shell, event: &Do) {
    match event {
        Do::C(text) => shell.sends(Side::Client, text.as_bytes()),
        Do::S(text) => shell.sends(Side::Server, text.as_bytes()),
        Do::Dialled(result) => shell.dialled(*result),
        Do::Ends(side, end) => shell.ends(*side, *end),
        Do::Publish(policy) => shell.publish(snapshot(*policy)),
        Do::Sleep(ns) => shell.sleeps(*ns),
        Do::Store(policy) => shell.store(snapshot(*policy)),
        Do::Fail => shell.end(Ending::Failed),
        Do::HoldTooMuch => shell.end(Ending::MemoryLimit),
        Do::Reclaim => shell.end(Ending::Reclaimed),
        Do::Stop => shell.stop(),
    }
}

/// `denied GET /x no_http_rule 403`, `ended connection revoked`.
pub(crate) fn summary(record: &FlowRecord) -> String {
    let mut words = vec![record.outcome.name().to_owned()];
    match record.detail.http() {
        None => words.push("connection".to_owned()),
        Some(http) => words.extend([http.method.to_string(), http.path.to_string()]),
    }
    words.extend(record.reason.map(|reason| reason.name().to_owned()));
    words.extend(record.detail.http().filter(|http| http.status != 0).map(|http| http.status.to_string()));
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// The script as it stands, byte by byte, and cut in two at every byte of every message.
pub(crate) fn every_way(script: &[Do]) -> Vec<Vec<Do>> {
    [script.to_vec(), byte_by_byte(script)].into_iter().chain(cuts(script)).collect()
}

/// The script with one message cut in two, for every message and every byte of it.
fn cuts(script: &[Do]) -> Vec<Vec<Do>> {
    let mut all = Vec::new();
    for (at, event) in script.iter().enumerate() {
        let Some((side, text)) = message(event) else { continue };
        for split in 1..text.len() {
            let (start, rest) = text.split_at(split);
            let mut cut = script.to_vec();
            drop(cut.splice(at..=at, [sent(side, start), sent(side, rest)]));
            all.push(cut);
        }
    }
    all
}

fn byte_by_byte(script: &[Do]) -> Vec<Do> {
    let mut all = Vec::new();
    for event in script {
        match message(event) {
            Some((side, text)) => {
                all.extend(text.split_inclusive(|_: char| true).map(|byte| sent(side, byte)))
            }
            None => all.push(event.clone()),
        }
    }
    all
}

fn message(event: &Do) -> Option<(Side, &str)> {
    match event {
        Do::C(text) => Some((Side::Client, text)),
        Do::S(text) => Some((Side::Server, text)),
        Do::Dialled(_)
        | Do::Ends(..)
        | Do::Publish(_)
        | Do::Fail
        | Do::HoldTooMuch
        | Do::Reclaim
        | Do::Sleep(_)
        | Do::Stop
        | Do::Store(_) => None,
    }
}

fn sent(side: Side, text: &str) -> Do {
    match side {
        Side::Client => c(text),
        Side::Server => s(text),
    }
}

pub(crate) fn snapshot(policy: Policy) -> Arc<Snapshot> {
    static SNAPSHOTS: LazyLock<BTreeMap<Policy, Arc<Snapshot>>> =
        LazyLock::new(|| POLICIES.iter().map(|policy| (*policy, Arc::new(resolved(*policy)))).collect());
    Arc::clone(&SNAPSHOTS[&policy])
}

fn resolved(policy: Policy) -> Snapshot {
    let inputs = Inputs {
        node: NodeInputs {
            name: "node-1".into(),
            pod_networks: vec!["10.0.0.0/8".parse().unwrap()],
            addresses: Vec::new(),
            allow_localhost: true,
        },
        endpoints: [("tiefighter", "10.0.0.1"), ("deathstar", "10.0.0.2")]
            .into_iter()
            .filter(|(name, _)| policy != Policy::Gone || *name != "tiefighter")
            .map(|(name, address)| endpoint(name, address, "empire"))
            .collect(),
        peers: Vec::new(),
        policies: object(policy).into_iter().map(Arc::new).collect(),
    };
    let (snapshot, _) = resolve(&inputs, &mut Numbers::default(), policy.revision());
    snapshot
}

fn endpoint(name: &str, address: &str, org: &str) -> EndpointInputs {
    let labels = [
        Label::new("k8s", "name", name),
        Label::new("k8s", "org", org),
        Label::new("k8s", "io.kubernetes.pod.namespace", "default"),
    ];
    EndpointInputs {
        name: name.into(),
        namespace: "default".into(),
        interface: None,
        addresses: vec![address.parse().unwrap()],
        labels: labels.into_iter().collect::<LabelSet>(),
        named_ports: BTreeMap::new(),
    }
}

/// The one policy object of a policy.
fn object(policy: Policy) -> Option<rule::Policy> {
    let path = |path: &str| HttpMatch { path: Some(path.into()), ..HttpMatch::default() };
    let token = HeaderMatch { name: "x-token".into(), value: Some("secret".into()) };
    Some(match policy {
        Policy::Absent => return None,
        Policy::L4 => allows("tiefighter", L7::None),
        Policy::Gone | Policy::Ok => allows("tiefighter", http("ingress[0]", path("/ok.*"))),
        Policy::Other => allows("tiefighter", http("ingress[0]", path("/other.*"))),
        Policy::Closed => allows("xwing", L7::None),
        Policy::DenyRule => denies("tiefighter"),
        Policy::Token => {
            allows("tiefighter", http("ingress[0]", HttpMatch { headers: vec![token], ..path("/ok.*") }))
        }
        Policy::Heavy => allows("tiefighter", http("ingress[0]", path("/x?.*(a.{600}b|a.{300}c).*"))),
        Policy::Unjudgeable => allows("tiefighter", L7::Unjudgeable),
        Policy::Upgrade => {
            let upgrade = HeaderMatch { name: "upgrade".into(), value: None };
            let with_upgrade = HttpMatch { headers: vec![upgrade], ..path("/ok.*") };
            allows("tiefighter", http("ingress[0]", with_upgrade))
        }
        Policy::Egress => {
            let allow = vec![entry("egress[0]", "deathstar", http("egress[0]", path("/ok.*")))];
            rule1("tiefighter", Section::default(), Section { default_deny: true, allow, deny: Vec::new() })
        }
    })
}

fn allows(from: &str, l7: L7) -> rule::Policy {
    let allow = vec![entry("ingress[0]", from, l7)];
    rule1("deathstar", Section { default_deny: true, allow, deny: Vec::new() }, Section::default())
}

fn denies(from: &str) -> rule::Policy {
    let deny = vec![entry("ingressDeny[0]", from, L7::None)];
    rule1("deathstar", Section { default_deny: true, allow: Vec::new(), deny }, Section::default())
}

fn rule1(subject: &str, ingress: Section, egress: Section) -> rule::Policy {
    let kind = ObjectKind::CiliumNetworkPolicy;
    let name = ObjectName { kind, namespace: Some("default".into()), name: "rule1".into() };
    let rule = Rule {
        path: "spec".into(),
        subject: Subject::Endpoints(named(subject)),
        ingress,
        egress,
        description: None,
        labels: LabelSet::default(),
        printed: serde_json::Value::Null,
    };
    rule::Policy::new(name, vec![rule])
}

fn entry(path: &str, from: &str, l7: L7) -> Entry {
    let port = PortMatch { protocol: Protocol::TCP, port: Port::Range(80, 80) };
    let ports = PortRule { path: format!("{path}.toPorts[0]").into(), ports: vec![port], l7 };
    Entry {
        path: path.into(),
        peers: Peers::Of(vec![Peer::Endpoints(named(from))]),
        ports: Ports::Of(vec![ports]),
    }
}

fn http(entry: &str, matches: HttpMatch) -> L7 {
    let path = format!("{entry}.toPorts[0].rules.http[0]").into();
    L7::Http(vec![HttpRule { path, matches, unjudgeable: false }])
}

fn named(name: &str) -> Selector {
    Selector { requirements: vec![Requirement::In(SelectorKey::parse("name"), vec![name.into()])] }
}

pub(crate) fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap()
}
