//! What the user must hear: why something is not in force, or not as written. `sluice status` prints it.

use config_node::{Config, Mode, Problem};
use policy_model::Snapshot;
use policy_model::parse::{Diagnostic, Severity};
use policy_model::rule::{ObjectName, Protocol};
use policy_model::snapshot::{Endpoint, PortVerdict};
use policy_watch::{Instead, PolicySet, Report};
use proxy_core::api::Finding;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All findings, by where they come from; each source replaces its own.
#[derive(Debug, Default)]
pub(crate) struct Findings(Mutex<Sources>);

#[derive(Debug, Default)]
struct Sources {
    addresses: Vec<Finding>,
    change: Vec<Finding>,
    revisions: Vec<Finding>,
    numbers: Vec<Finding>,
    descriptors: Vec<Finding>,
    enforcement: Vec<Finding>,
    kernel: Vec<Finding>,
    links: Vec<Finding>,
    machine: Vec<Finding>,
    missing_interfaces: Vec<String>,
    node_file: Vec<Finding>,
    policies: Vec<Finding>,
    refusing_interfaces: Vec<Finding>,
    resolve: Vec<Finding>,
    thread: Vec<Finding>,
    too_big_policies: Vec<Finding>,
}

impl Findings {
    pub(crate) fn all(&self) -> Vec<Finding> {
        let sources = self.lock();
        let Sources {
            addresses,
            change,
            revisions,
            numbers,
            descriptors,
            enforcement,
            kernel,
            links,
            machine,
            missing_interfaces,
            node_file,
            policies,
            refusing_interfaces,
            resolve,
            thread,
            too_big_policies,
        } = &*sources;
        let said = [
            node_file,
            policies,
            resolve,
            enforcement,
            change,
            revisions,
            numbers,
            kernel,
            machine,
            links,
            addresses,
            descriptors,
            refusing_interfaces,
            thread,
            too_big_policies,
        ];
        let said = said.into_iter().flatten().cloned();
        said.chain(missing_interfaces.iter().map(|name| of_missing_interface(name))).collect()
    }

    pub(crate) fn is_missing(&self, interface: &str) -> bool {
        self.lock().missing_interfaces.iter().any(|missing| missing == interface)
    }

    pub(crate) fn set_missing_interfaces(&self, names: Vec<String>) {
        self.lock().missing_interfaces = names;
    }

    /// Interfaces that don't take their programs, each with the cause.
    pub(crate) fn set_refusing_interfaces<'a>(&self, refusing: impl Iterator<Item = (&'a str, &'a str)>) {
        self.lock().refusing_interfaces =
            refusing.map(|(name, cause)| of_refusing_interface(name, cause)).collect();
    }

    /// Interfaces of endpoints whose policy has too many entries, and how many.
    pub(crate) fn set_too_big_policies<'a>(&self, too_big: impl Iterator<Item = (&'a str, usize)>) {
        self.lock().too_big_policies =
            too_big.map(|(name, entries)| of_too_big_policy(name, entries)).collect();
    }

    /// Nothing in the kernel is changed any more.
    pub(crate) fn set_thread_ended(&self) {
        let finding = Finding {
            severity: "error".into(),
            fix: "restart sluiced, and report its log: it is a bug".into(),
            ..of_machine(
                "the thread that programs the kernel has panicked: the policy that was in force stays enforced, but no later \
                 change of policy, addresses or interfaces is applied"
                    .into(),
            )
        };
        self.lock().thread = vec![finding];
    }

    /// What of the machine's settings stands in the way.
    pub(crate) fn set_machine(&self, warnings: Vec<String>) {
        self.lock().machine = warnings.into_iter().map(of_machine).collect();
    }

    /// `None`: there are enough for the connections that are configured.
    pub(crate) fn set_descriptors(&self, too_few: Option<String>) {
        self.lock().descriptors = too_few.map(of_machine).into_iter().collect();
    }

    /// `None`: changes of interfaces are heard of as they happen.
    pub(crate) fn set_links(&self, error: Option<String>) {
        let finding = |error| Finding {
            fix: "nothing to do: interfaces are polled every second, and the subscription is retried".into(),
            ..of_machine(format!(
                "netlink subscription lost, so a new interface waits up to a second for its programs: {error}"
            ))
        };
        self.lock().links = error.map(finding).into_iter().collect();
    }

    /// `None`: the node's addresses are followed.
    pub(crate) fn set_addresses(&self, error: Option<String>) {
        let finding = |error| Finding {
            field: "node.addresses".into(),
            fix:
                "list the node's addresses in the node file, or remove the cause; it is retried every second"
                    .into(),
            ..of_machine(format!("new addresses of this node are not known as `host`: {error}"))
        };
        self.lock().addresses = error.map(finding).into_iter().collect();
    }

    /// What another program did to ours in the kernel.
    pub(crate) fn set_kernel(&self, findings: Vec<Finding>) {
        self.lock().kernel = findings;
    }

    pub(crate) fn set_enforcement(&self, findings: Vec<Finding>) {
        self.lock().enforcement = findings;
    }

    /// `None`: what the sources say is in force.
    pub(crate) fn set_change(&self, error: Option<String>) {
        let finding = |error| {
            Finding {
            severity: "error".into(),
            subject: "policies".into(),
            line: 0,
            field: String::new(),
            message: format!("the last change is not in force: {error}"),
            fix: "it is retried every second; until then the previous policy is in force, or the stricter of the two"
                .into(),
        }
        };
        self.lock().change = error.map(finding).into_iter().collect();
    }

    /// `None`: they are on disk. Else what is wrong, and how many changes there are without it.
    pub(crate) fn set_revisions(&self, problem: Option<(String, u64)>) {
        let message = |(error, left)| {
            format!("can't reserve revisions ({error}): {left} more changes come into force without that")
        };
        self.lock().revisions = problem.map(message).map(of_state).into_iter().collect();
    }

    /// `None`: they are on disk.
    pub(crate) fn set_numbers(&self, problem: Option<String>) {
        let message = |error| {
            format!(
                "can't save the numbers of identities ({error}): the next start will give others to those that are new"
            )
        };
        self.lock().numbers = problem.map(message).map(of_state).into_iter().collect();
    }

    pub(crate) fn set_node_file(&self, problems: &[Problem]) {
        self.lock().node_file = problems.iter().map(of_problem).collect();
    }

    pub(crate) fn set_policies(&self, set: &PolicySet) {
        self.lock().policies = set.reports.iter().flat_map(of_report).collect();
    }

    pub(crate) fn set_resolve(&self, diagnostics: &[Diagnostic]) {
        self.lock().resolve = diagnostics.iter().map(|d| of_diagnostic("policies", d)).collect();
    }

    fn lock(&self) -> MutexGuard<'_, Sources> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn of_machine(message: String) -> Finding {
    let subject = "machine".into();
    Finding {
        severity: "warning".into(),
        subject,
        line: 0,
        field: String::new(),
        message,
        fix: String::new(),
    }
}

fn of_state(message: String) -> Finding {
    Finding {
        severity: "error".into(),
        subject: "state".into(),
        line: 0,
        field: "node.state_directory".into(),
        message,
        fix: "make room on the disk, or make it writable; it is retried with every change".into(),
    }
}

fn of_missing_interface(name: &str) -> Finding {
    Finding {
        severity: "error".into(),
        subject: name.into(),
        line: 0,
        field: "endpoint.interface".into(),
        message: format!("interface `{name}` does not exist, so the policy of its endpoint is not enforced"),
        fix: "create it, or correct the node file; its policy is enforced as soon as it appears".into(),
    }
}

fn of_refusing_interface(name: &str, cause: &str) -> Finding {
    Finding {
        severity: "error".into(),
        subject: name.into(),
        line: 0,
        field: "endpoint.interface".into(),
        message: format!(
            "the programs can't be attached to `{name}`, so packets of its endpoint are dropped (`no_policy_map`): {cause}"
        ),
        fix: format!(
            "remove what blocks them (`tc filter show dev {name} ingress`, `bpftool net`); it is retried every second"
        ),
    }
}

fn of_too_big_policy(interface: &str, entries: usize) -> Finding {
    Finding {
        severity: "error".into(),
        subject: interface.into(),
        line: 0,
        field: "limits.policy_entries".into(),
        message: format!(
            "the policy of the endpoint on `{interface}` needs {entries} entries in the kernel, more than it may have, so packets \
             of the endpoint are dropped (`no_policy_map`)"
        ),
        fix: "let its rules name fewer peers or ports (each is an entry for each identity), or raise `[limits] policy_entries` and \
              restart sluiced"
            .into(),
    }
}

fn of_problem(problem: &Problem) -> Finding {
    Finding {
        severity: "error".into(),
        subject: problem.file.clone(),
        line: problem.line,
        field: problem.field.clone(),
        message: problem.message.clone(),
        fix: problem.fix.clone(),
    }
}

/// What is in force instead is said once, ahead of the complaints: each of those is a place in the file and its fix.
fn of_report(report: &Report) -> Vec<Finding> {
    let file = report.file.display().to_string();
    let whose = match &report.object {
        None => String::new(),
        Some(ObjectName { namespace: Some(namespace), name, .. }) => format!("`{namespace}/{name}` is "),
        Some(ObjectName { namespace: None, name, .. }) => format!("`{name}` is "),
    };
    let instead = match report.instead {
        Instead::AsWritten => None,
        Instead::ClosedForm => Some("its closed form, which allows nothing that can't be evaluated"),
        Instead::LastAccepted => Some("its last accepted text"),
        Instead::Nothing => Some("nothing"),
    };
    // Where nothing is wrong, as while it is compiled, there is nothing to be done.
    let wrong = report.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    let severity = if wrong || report.diagnostics.is_empty() { "error" } else { "warning" };
    let instead = instead.map(|instead| Finding {
        severity: severity.into(),
        subject: file.clone(),
        line: 0,
        field: String::new(),
        message: format!("{whose}not in force as written; in force instead: {instead}"),
        fix: String::new(),
    });
    instead.into_iter().chain(report.diagnostics.iter().map(|d| of_diagnostic(&file, d))).collect()
}

fn of_diagnostic(subject: &str, diagnostic: &Diagnostic) -> Finding {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    Finding {
        severity: severity.into(),
        subject: subject.into(),
        line: diagnostic.line,
        field: diagnostic.field.clone(),
        message: diagnostic.message.clone(),
        fix: diagnostic.fix.clone(),
    }
}

/// Mode `none` enforces only where a listener stands: every other port that a policy speaks of is open.
pub(crate) fn not_enforced(config: &Config, snapshot: &Snapshot) -> Vec<Finding> {
    if config.redirect.mode == Mode::Ebpf {
        return Vec::new();
    }
    snapshot.endpoints().iter().flat_map(|endpoint| of_endpoint(config, snapshot, endpoint)).collect()
}

fn of_endpoint(config: &Config, snapshot: &Snapshot, endpoint: &Endpoint) -> Vec<Finding> {
    let name = format!("{}/{}", endpoint.inputs.namespace, endpoint.inputs.name);
    let ports = listened(config, &name, &endpoint.inputs.name);
    let mut findings = Vec::new();
    if endpoint.ingress.enforced() {
        let classes = endpoint.ingress.classes(snapshot).filter(|class| !is_built_in(&class.verdict));
        let mut governed: BTreeSet<_> = classes.map(|class| (class.protocol, class.ports)).collect();
        if ports.is_empty() {
            // What no rule names is denied, and that is not enforced anywhere either.
            governed = BTreeSet::from([(None, (0, u16::MAX))]);
        }
        let open = governed.into_iter().filter(|(protocol, governed)| {
            let tcp = protocol.is_none_or(|protocol| protocol == Protocol::TCP);
            !(tcp && stand_for(&ports, *governed))
        });
        let open: BTreeSet<String> = open.map(|(protocol, ports)| ports_text(protocol, ports)).collect();
        findings.extend(open.into_iter().map(|ports| not_enforced_finding(&name, &ports)));
    }
    if endpoint.egress.enforced() {
        findings.push(Finding {
            severity: "error".into(),
            subject: name,
            line: 0,
            field: "egress".into(),
            message: "not enforced except towards listeners of this node: mode `none` sees no other traffic"
                .into(),
            fix: "use `[redirect] mode = \"ebpf\"`".into(),
        });
    }
    findings
}

/// What nobody wrote, such as that the local host may reach its pods, governs no port.
fn is_built_in(verdict: &PortVerdict) -> bool {
    match verdict {
        PortVerdict::Allow(rule) => rule.as_ref().is_none_or(|rule| rule.name().path.starts_with("allow-")),
        PortVerdict::Deny(_) | PortVerdict::Inspect(_) => false,
    }
}

/// The ports of an endpoint that listeners stand for.
fn listened(config: &Config, name: &str, short: &str) -> BTreeSet<u16> {
    let own = config.listeners.iter().filter(|l| l.endpoint == name || l.endpoint == short);
    own.map(|listener| listener.port).collect()
}

/// What is said of all ports is enforced on those that there are; what names some must find a listener for each.
fn stand_for(listened: &BTreeSet<u16>, (first, last): (u16, u16)) -> bool {
    match (first, last) {
        (0 | 1, u16::MAX) => !listened.is_empty(),
        (first, last) => (first..=last).all(|port| listened.contains(&port)),
    }
}

fn not_enforced_finding(name: &str, ports: &str) -> Finding {
    Finding {
        severity: "error".into(),
        subject: name.into(),
        line: 0,
        field: "ingress".into(),
        message: format!("policy governs {ports}, not enforced here: it has no listener"),
        fix: "add a `[[listener]]` for it, or use `[redirect] mode = \"ebpf\"`".into(),
    }
}

fn ports_text(protocol: Option<Protocol>, (first, last): (u16, u16)) -> String {
    let protocol = match protocol {
        None => "every protocol".into(),
        Some(Protocol::TCP) => "TCP".to_owned(),
        Some(Protocol::UDP) => "UDP".into(),
        Some(Protocol::SCTP) => "SCTP".into(),
        Some(Protocol::ICMP) => "ICMP".into(),
        Some(Protocol::ICMPV6) => "ICMPv6".into(),
        Some(Protocol(number)) => format!("protocol {number}"),
    };
    match (first, last) {
        (0 | 1, u16::MAX) => format!("every port of {protocol}"),
        (first, last) if first == last => format!("port {first}/{protocol}"),
        (first, last) => format!("ports {first}-{last}/{protocol}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_model::identity::Numbers;
    use policy_model::parse::Judged;
    use std::sync::Arc;

    const NODE: &str = r#"
node: {name: n, pod_networks: [127.0.0.0/8], addresses: [127.0.0.1]}
policies: {directories: [/p]}
redirect: {mode: none}
endpoint:
- {name: a, addresses: [127.0.0.11], labels: {app: a}}
- {name: b, addresses: [127.0.0.12], labels: {app: b}}
listener:
- {endpoint: a, port: 80, bind: "127.0.0.11:8080", upstream: "127.0.0.1:9080"}
"#;

    /// What is not enforced where `spec` holds for the endpoint `a`, which has a listener for port 80.
    #[track_caller]
    fn check(spec: &str, expect: &[&str]) {
        check_on("a", spec, expect);
    }

    #[track_caller]
    fn check_on(app: &str, spec: &str, expect: &[&str]) {
        let text = format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p}}\n\
             spec: {{endpointSelector: {{matchLabels: {{app: {app}}}}}, {spec}}}\n"
        );
        let parsed = policy_model::parse::parse(&text).unwrap();
        let policies = parsed.objects.into_iter().map(|object| match object.judged {
            Judged::Accepted { policy, .. } => Arc::new(policy),
            Judged::Refused { diagnostics, .. } => panic!("{diagnostics:?}"),
        });
        let config = config_node::read("n.yaml", NODE).unwrap();
        let inputs = crate::settings::inputs(&config, &[], &policies.collect::<Vec<_>>());
        let (snapshot, _) = policy_model::resolve(&inputs, &mut Numbers::default(), 1);
        let found = not_enforced(&config, &snapshot);
        let said: Vec<&str> =
            found.iter().map(|finding| finding.message.split(", ").next().unwrap()).collect();
        assert_eq!(said, expect, "{found:?}");
        assert!(
            found
                .iter()
                .all(|finding| finding.severity == "error" && finding.subject == format!("default/{app}"))
        );
    }

    /// What is said of a report about one place of the object `ns/p` in `p.yaml`.
    #[track_caller]
    fn check_report(instead: Instead, expect: &[&str]) {
        let text = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: ns}\n\
                    spec: {endpointSelector: {}, ingres: [{}]}\n";
        let object = policy_model::parse::parse(text).unwrap().objects.remove(0);
        let Judged::Refused { diagnostics, .. } = object.judged else { panic!("it is accepted") };
        let report = Report { file: "p.yaml".into(), object: Some(object.name), diagnostics, instead };
        let said: Vec<String> = of_report(&report)
            .iter()
            .map(|Finding { subject, line, field, message, .. }| {
                format!("{subject}:{line}:{field}: {message}")
            })
            .collect();
        assert_eq!(said, expect);
    }

    #[test]
    fn what_is_in_force_instead_is_said_once() {
        let complaint = "p.yaml:4:spec.ingres: unknown field `ingres`; did you mean `ingress`";
        check_report(Instead::AsWritten, &[complaint]);
        check_report(
            Instead::LastAccepted,
            &[
                "p.yaml:0:: `ns/p` is not in force as written; in force instead: its last accepted text",
                complaint,
            ],
        );
    }

    #[test]
    fn a_port_with_a_listener_is_enforced() {
        check("ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]", &[]);
    }

    #[test]
    fn other_ports_are_not() {
        check(
            "ingress: [{toPorts: [{ports: [{port: '81', protocol: TCP}]}]}]",
            &["policy governs port 81/TCP"],
        );
        check(
            "ingress: [{toPorts: [{ports: [{port: '80', protocol: UDP}]}]}]",
            &["policy governs port 80/UDP"],
        );
        check(
            "ingress: [{toPorts: [{ports: [{port: '80', endPort: 81, protocol: TCP}]}]}]",
            &["policy governs ports 80-81/TCP"],
        );
    }

    #[test]
    fn what_is_said_of_all_ports_holds_where_there_are_any() {
        check("ingress: [{fromEndpoints: [{}]}]", &[]);
        check("ingress: [{}]", &[]);
    }

    #[test]
    fn without_a_listener_nothing_is_enforced() {
        check_on("b", "ingress: [{}]", &["policy governs every port of every protocol"]);
        check_on(
            "b",
            "ingress: [{toPorts: [{ports: [{port: '81', protocol: TCP}]}]}]",
            &["policy governs every port of every protocol"],
        );
    }

    #[test]
    fn egress_is_not() {
        check(
            "egress: [{toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]",
            &["not enforced except towards listeners of this node: mode `none` sees no other traffic"],
        );
    }
}
