//! A rule as `policy get` prints it: from its typed meaning, in upstream's key order.
//!
//! INVARIANT: what is printed is what is in force; what is closed is printed as closed.

use super::scope::ANY;
use super::selectors::is_label;
use crate::labels::LabelSet;
use crate::rule::{
    Entry, HttpRule, L7, Peer, Peers, Port, PortMatch, PortRule, Ports, Protocol, Rule, Section, Subject,
};
use crate::selector::{Requirement, Selector};
use serde_json::{Map, Value, json};

/// Keys in the order in which they are put.
struct Object(Map<String, Value>);

impl Object {
    fn new() -> Self {
        Self(Map::new())
    }

    fn put(mut self, key: &str, value: Value) -> Self {
        let _replaced = self.0.insert(key.into(), value);
        self
    }

    fn put_some(self, key: &str, value: Option<Value>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

pub(super) fn rule(rule: &Rule) -> Value {
    let (subject, selected) = match &rule.subject {
        Subject::Endpoints(selector) => ("endpointSelector", selector_value(selector)),
        Subject::Nodes(selector) => ("nodeSelector", selector_value(selector)),
        Subject::Nobody => ("endpointSelector", Value::Null),
    };
    Object::new()
        .put(subject, selected)
        .put_some("ingress", entries(&rule.ingress.allow, "from"))
        .put_some("ingressDeny", entries(&rule.ingress.deny, "from"))
        .put_some("egress", entries(&rule.egress.allow, "to"))
        .put_some("egressDeny", entries(&rule.egress.deny, "to"))
        .put_some("labels", labels(&rule.labels))
        .put_some("enableDefaultDeny", default_deny(rule))
        .put_some("description", rule.description.as_deref().map(Value::from))
        .done()
}

/// Printed only where it is not what the lists say by themselves.
fn default_deny(rule: &Rule) -> Option<Value> {
    let said = |section: &Section| {
        let touched = !(section.allow.is_empty() && section.deny.is_empty());
        (section.default_deny != touched).then_some(Value::Bool(section.default_deny))
    };
    let (ingress, egress) = (said(&rule.ingress), said(&rule.egress));
    (ingress.is_some() || egress.is_some())
        .then(|| Object::new().put_some("ingress", ingress).put_some("egress", egress).done())
}

fn labels(labels: &LabelSet) -> Option<Value> {
    let mut sorted: Vec<_> = labels.iter().collect();
    sorted.sort_by(|a, b| (&a.key, &a.source, &a.value).cmp(&(&b.key, &b.source, &b.value)));
    let list = sorted.iter().map(|l| json!({"key": l.key, "value": l.value, "source": l.source}));
    (!sorted.is_empty()).then(|| list.collect())
}

fn selector_value(selector: &Selector) -> Value {
    let mut labels = Map::new();
    let mut expressions = Vec::new();
    for requirement in &selector.requirements {
        let key = requirement.key().to_string();
        match requirement {
            Requirement::In(_, values) if is_label(requirement) && !labels.contains_key(&key) => {
                let _new = labels.insert(key, values.first().map_or("", |v| v).into());
            }
            Requirement::In(_, values) => {
                expressions.push(json!({"key": key, "operator": "In", "values": values}))
            }
            Requirement::NotIn(_, values) => {
                expressions.push(json!({"key": key, "operator": "NotIn", "values": values}))
            }
            Requirement::Exists(_) => expressions.push(json!({"key": key, "operator": "Exists"})),
            Requirement::DoesNotExist(_) => expressions.push(json!({"key": key, "operator": "DoesNotExist"})),
        }
    }
    Object::new()
        .put_some("matchLabels", (!labels.is_empty()).then_some(Value::Object(labels)))
        .put_some("matchExpressions", (!expressions.is_empty()).then_some(Value::Array(expressions)))
        .done()
}

fn entries(entries: &[Entry], way: &str) -> Option<Value> {
    (!entries.is_empty()).then(|| entries.iter().map(|e| entry(e, way)).collect())
}

fn entry(entry: &Entry, way: &str) -> Value {
    let ports = match &entry.ports {
        Ports::All => None,
        Ports::Of(rules) => Some(rules.as_slice()),
    };
    let peers = match &entry.peers {
        Peers::Any => None,
        Peers::Of(peers) => Some(peers.as_slice()),
    };
    match (peers, ports) {
        // The way to write an entry that covers nothing, and one that covers everything.
        (Some([]), Some([])) => return Object::new().done(),
        (None, None) => return Object::new().put(&format!("{way}Entities"), json!(["all"])).done(),
        (Some(_), _) | (None, Some(_)) => {}
    }
    peers
        .map_or(Object::new(), |peers| peer_lists(peers, way))
        .put_some("toPorts", ports.map(|rules| rules.iter().map(port_rule).collect()))
        .done()
}

fn peer_lists(peers: &[Peer], way: &str) -> Object {
    let mut lists: Vec<(&str, Vec<Value>)> = Vec::new();
    for peer in peers {
        let (list, value) = match peer {
            Peer::Endpoints(selector) => ("Endpoints", selector_value(selector)),
            Peer::Cidr { prefix, except } if except.is_empty() => ("CIDR", prefix.to_string().into()),
            Peer::Cidr { prefix, except } => {
                let except: Vec<_> = except.iter().map(ToString::to_string).collect();
                ("CIDRSet", json!({"cidr": prefix.to_string(), "except": except}))
            }
            Peer::Entity(entity) => ("Entities", entity.as_str().into()),
        };
        match lists.iter_mut().find(|(name, _)| *name == list) {
            Some((_, values)) => values.push(value),
            None => lists.push((list, vec![value])),
        }
    }
    if lists.is_empty() {
        lists.push(("Endpoints", Vec::new()));
    }
    lists.into_iter().fold(Object::new(), |object, (name, values)| {
        object.put(&format!("{way}{name}"), Value::Array(values))
    })
}

fn port_rule(rule: &PortRule) -> Value {
    Object::new()
        .put("ports", ports(&rule.ports))
        .put_some(
            "rules",
            match &rule.l7 {
                L7::None => None,
                L7::Http(rules) => Some(json!({"http": rules.iter().map(http_rule).collect::<Value>()})),
                L7::Unjudgeable => Some(json!({"unjudgeable": true})),
            },
        )
        .done()
}

/// TCP, UDP and SCTP of one port in a row are what `ANY` became.
fn ports(ports: &[PortMatch]) -> Value {
    let mut out = Vec::new();
    let mut rest = ports;
    while let [first, tail @ ..] = rest {
        let any = rest.get(..ANY.len()).filter(|head| {
            head.iter().map(|m| m.protocol).eq(ANY) && head.iter().all(|m| m.port == first.port)
        });
        out.push(port(&first.port, any.map_or_else(|| protocol_name(first.protocol), |_| "ANY".into())));
        rest = if any.is_some() { rest.get(ANY.len()..).unwrap_or_default() } else { tail };
    }
    Value::Array(out)
}

fn port(port: &Port, protocol: String) -> Value {
    let (first, last) = match port {
        Port::Named(name) => (name.to_string(), None),
        Port::NamedRange(name, last) => (name.to_string(), Some(*last)),
        Port::Range(0, u16::MAX) => ("0".into(), None),
        Port::Range(first, last) => (first.to_string(), (last != first).then_some(*last)),
    };
    Object::new()
        .put("port", first.into())
        .put_some("endPort", last.map(Value::from))
        .put("protocol", protocol.into())
        .done()
}

fn protocol_name(protocol: Protocol) -> String {
    match protocol {
        Protocol::TCP => "TCP".into(),
        Protocol::UDP => "UDP".into(),
        Protocol::SCTP => "SCTP".into(),
        Protocol::ICMP => "ICMP".into(),
        Protocol::ICMPV6 => "ICMPV6".into(),
        Protocol(number) => number.to_string(),
    }
}

fn http_rule(rule: &HttpRule) -> Value {
    let text = |field: &Option<Box<str>>| field.as_deref().map(Value::from);
    let headers = rule.matches.headers.iter().map(|header| match &header.value {
        Some(value) => Value::from(format!("{}: {value}", header.name)),
        None => Value::from(&*header.name),
    });
    let headers: Vec<_> = headers.collect();
    Object::new()
        .put_some("path", text(&rule.matches.path))
        .put_some("method", text(&rule.matches.method))
        .put_some("host", text(&rule.matches.host))
        .put_some("headers", (!headers.is_empty()).then_some(Value::Array(headers)))
        .put_some("unjudgeable", rule.unjudgeable.then_some(Value::Bool(true)))
        .done()
}
