//! The typed meaning of a policy: what `parse` makes of the text and `resolve` compiles.
//!
//! Everything here is already judged: selectors carry their namespace, ports are numbers, entities are expanded.
//! What could not be judged is present in its closed form (it grants nothing, or covers all it might mean).

use crate::automata::{Automata, Budget, Field, OverBudget, Patterns, Written};
use crate::cidr::Prefix;
use crate::labels::LabelSet;
use crate::selector::Selector;
use core::fmt;
use std::sync::Arc;

/// Which object a rule came from. Printed as `default/rule1` or, clusterwide, `rule1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    pub kind: ObjectKind,
    /// `None` for clusterwide objects.
    pub namespace: Option<Box<str>>,
    pub name: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    CiliumClusterwideNetworkPolicy,
    CiliumNetworkPolicy,
}

/// One object: its rules in the order spec, specs[0], specs[1], ...
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub name: ObjectName,
    pub rules: Vec<Rule>,
    /// The compiled patterns of the rules; without them `resolve` compiles, and takes its time.
    pub automata: Automata,
}

impl Policy {
    /// Not compiled.
    #[must_use]
    pub fn new(name: ObjectName, rules: Vec<Rule>) -> Self {
        Self { name, rules, automata: Automata::default() }
    }

    /// Compiles the patterns, within the budget that a policy has. What `patterns` knows is not compiled again, and it is told
    /// what is: the outcome is the same with and without.
    ///
    /// # Errors
    /// The budget does not suffice. It says what for.
    pub fn compile(&mut self, patterns: &mut Patterns) -> Result<(), Overrun> {
        self.automata = self.compile_within(Budget::Policy, patterns).map_err(|over| self.overrun(&over))?;
        Ok(())
    }

    /// Compiles the patterns if that takes no more than `bytes_max`. `false`: it does, and they are as they were.
    #[must_use]
    pub fn compile_small(&mut self, patterns: &mut Patterns, bytes_max: usize) -> bool {
        let compiled = self.compile_within(Budget::Small(bytes_max), patterns);
        compiled.map(|automata| self.automata = automata).is_ok()
    }

    /// The patterns as compiled, or compiled now, whatever they cost.
    pub(crate) fn compiled(&self, patterns: &mut Patterns) -> Automata {
        match self.automata.is_compiled() {
            true => self.automata.clone(),
            // Nothing is over what is unlimited.
            false => self.compile_within(Budget::Unlimited, patterns).unwrap_or_default(),
        }
    }

    fn compile_within(&self, budget: Budget, patterns: &mut Patterns) -> Result<Automata, OverBudget> {
        let rules = self.http_rules().enumerate().filter(|(_, (_, http))| !http.unjudgeable);
        let written = rules.flat_map(|(place, (_, http))| http.matches.written(place));
        Automata::compile(written, patterns, budget)
    }

    fn overrun(&self, over: &OverBudget) -> Overrun {
        let path = |place: &usize| {
            self.http_rules().nth(*place).map(|(rule, http)| format!("{}.{}", rule.path, http.path))
        };
        Overrun {
            unit: over.unit,
            cost: over.cost,
            limit: over.limit,
            rules: over.rules.iter().filter_map(path).collect(),
        }
    }

    /// The policy with its HTTP rules closed: what they allow is inspected and denied. All else stands.
    #[must_use]
    pub fn closed(&self) -> Self {
        let mut closed = Self::new(self.name.clone(), self.rules.clone());
        let sections = closed.rules.iter_mut().flat_map(|rule| [&mut rule.ingress, &mut rule.egress]);
        for entry in sections.flat_map(|section| section.allow.iter_mut().chain(&mut section.deny)) {
            let Ports::Of(ports) = &mut entry.ports else { continue };
            for port in ports {
                if let L7::Http(rules) = &mut port.l7 {
                    rules.iter_mut().for_each(|rule| rule.unjudgeable = true);
                }
            }
        }
        closed
    }

    /// With the rule that each is part of, in order.
    fn http_rules(&self) -> impl Iterator<Item = (&Rule, &HttpRule)> {
        self.rules.iter().flat_map(|rule| {
            let sections = [&rule.ingress, &rule.egress].into_iter();
            let entries = sections.flat_map(|section| section.allow.iter().chain(&section.deny));
            let ports = entries.flat_map(|entry| match &entry.ports {
                Ports::All => &[][..],
                Ports::Of(ports) => ports,
            });
            ports
                .flat_map(|port| match &port.l7 {
                    L7::None | L7::Unjudgeable => &[][..],
                    L7::Http(rules) => rules,
                })
                .map(move |http| (rule, http))
        })
    }
}

/// The patterns of a policy cost more than its budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// `bytes` of automata, or `states`.
    pub unit: &'static str,
    /// Up to where compiling was given up.
    pub cost: usize,
    pub limit: usize,
    /// The rules that cost most, as `spec.ingress[0].toPorts[0].rules.http[2]`; the first of each group that is compiled together.
    pub rules: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// `spec` or `specs[2]`.
    pub path: Arc<str>,
    pub subject: Subject,
    pub ingress: Section,
    pub egress: Section,
    pub description: Option<Box<str>>,
    /// The labels that `policy get` prints: the user's and those derived from the object.
    pub labels: LabelSet,
    /// The sanitised rule as `policy get` prints it, in upstream's key order.
    pub printed: serde_json::Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    Endpoints(Selector),
    /// A host policy: recognised, and refused while host policies are not enforced.
    Nodes(Selector),
    /// The subject could not be read: the rule selects nobody.
    Nobody,
}

/// What one rule says of one direction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Whether the subject is default-denied in this direction because of this rule.
    pub default_deny: bool,
    pub allow: Vec<Entry>,
    pub deny: Vec<Entry>,
}

/// One element of ingress, ingressDeny, egress or egressDeny.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// `ingress[0]`, `egressDeny[1]`.
    pub path: Arc<str>,
    pub peers: Peers,
    pub ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// No peer list was written: everybody, world and unknown addresses included.
    Any,
    /// Any one of these; an empty list is nobody.
    Of(Vec<Peer>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Outside addresses; never matches pods, the host or nodes, even if their addresses lie inside.
    Cidr {
        prefix: Prefix,
        except: Vec<Prefix>,
    },
    Endpoints(Selector),
    Entity(Entity),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    All,
    Cluster,
    Health,
    Host,
    Ingress,
    Init,
    KubeApiserver,
    None,
    RemoteNode,
    Unmanaged,
    World,
    WorldIpv4,
    WorldIpv6,
}

impl Entity {
    pub const ALL: [Self; 13] = [
        Self::All,
        Self::Cluster,
        Self::Health,
        Self::Host,
        Self::Ingress,
        Self::Init,
        Self::KubeApiserver,
        Self::None,
        Self::RemoteNode,
        Self::Unmanaged,
        Self::World,
        Self::WorldIpv4,
        Self::WorldIpv6,
    ];

    /// As policies write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Cluster => "cluster",
            Self::Health => "health",
            Self::Host => "host",
            Self::Ingress => "ingress",
            Self::Init => "init",
            Self::KubeApiserver => "kube-apiserver",
            Self::None => "none",
            Self::RemoteNode => "remote-node",
            Self::Unmanaged => "unmanaged",
            Self::World => "world",
            Self::WorldIpv4 => "world-ipv4",
            Self::WorldIpv6 => "world-ipv6",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Ports {
    /// No toPorts: every protocol, ICMP included.
    All,
    /// Any one of these; an empty list is no port at all.
    Of(Vec<PortRule>),
}

/// One element of toPorts.
#[derive(Clone, Debug, PartialEq)]
pub struct PortRule {
    /// `ingress[0].toPorts[1]`.
    pub path: Arc<str>,
    pub ports: Vec<PortMatch>,
    pub l7: L7,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PortMatch {
    /// `ANY` has been expanded into TCP, UDP and SCTP.
    pub protocol: Protocol,
    pub port: Port,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// Resolved by the subject's (ingress) or the peer's (egress) named ports; lower-case.
    Named(Box<str>),
    /// From the port of this name up to this number, or that port alone where the number is not above it. Only the
    /// subject's own names (ingress) begin a range; a peer's (egress) are one port, as upstream has it.
    NamedRange(Box<str>, u16),
    /// Inclusive; a single port is `first == last`, all ports are 0..=65535.
    Range(u16, u16),
}

/// The number in the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    pub const ICMP: Self = Self(1);
    pub const TCP: Self = Self(6);
    pub const UDP: Self = Self(17);
    pub const ICMPV6: Self = Self(58);
    pub const SCTP: Self = Self(132);
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ICMP => f.write_str("ICMP"),
            Self::ICMPV6 => f.write_str("ICMPv6"),
            Self::SCTP => f.write_str("SCTP"),
            Self::TCP => f.write_str("TCP"),
            Self::UDP => f.write_str("UDP"),
            Self(number) => number.fmt(f),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum L7 {
    /// Nothing to inspect.
    None,
    /// At least one rule; a request must match one of them.
    Http(Vec<HttpRule>),
    /// Rules of a kind that is not understood, in closed form: inspected, and every request denied.
    Unjudgeable,
}

/// Absent fields match anything; all present fields must match.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpRule {
    /// `ingress[0].toPorts[0].rules.http[2]`.
    pub path: Arc<str>,
    pub matches: HttpMatch,
    /// Set where a part of the rule could not be judged: it then matches nothing.
    pub unjudgeable: bool,
}

/// Patterns are RE2-like, matched against the whole value (anchored at both ends).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HttpMatch {
    pub method: Option<Box<str>>,
    pub path: Option<Box<str>>,
    pub host: Option<Box<str>>,
    pub headers: Vec<HeaderMatch>,
}

impl HttpMatch {
    /// Its patterns, as those of the rule in this place.
    pub(crate) fn written(&self, rule: usize) -> impl Iterator<Item = Written<'_>> {
        let values = self.method.iter().chain(&self.host);
        let values = values.map(|text| (Field::Value, text));
        let all = self.path.iter().map(|text| (Field::Path, text)).chain(values);
        all.map(move |(field, text)| Written { rule, field, text })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderMatch {
    /// Lower-case.
    pub name: Box<str>,
    /// Compared exactly with all values of the header joined by `,`; `None` asks for presence only.
    pub value: Option<Box<str>>,
}
