//! Policies that the suites put in force.

/// Empire ships may reach deathstars at these ports, written as a YAML flow sequence of port rules.
pub fn empire_may_reach(ports: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: rule1, namespace: default}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{org: empire, class: deathstar}}}}\n  ingress:\n  \
         - fromEndpoints: [{{matchLabels: {{org: empire}}}}]\n    toPorts: {ports}\n"
    )
}

/// Port 80, inspected: these HTTP rules, a YAML flow sequence.
pub fn empire_may_ask(http: &str) -> String {
    empire_may_reach(&format!("[{{ports: [{{port: \"80\", protocol: TCP}}], rules: {{http: {http}}}}}]"))
}

/// What tiefighters may reach, written as the egress list of a policy of their own.
pub fn tiefighter_egress(egress: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: rule2, namespace: default}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{class: tiefighter}}}}\n  egress: {egress}\n"
    )
}

/// Nobody may reach deathstars.
pub const CLOSED: &str = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: rule1, namespace: default}\n\
spec: {endpointSelector: {matchLabels: {org: empire, class: deathstar}}, ingress: [{}]}\n";
