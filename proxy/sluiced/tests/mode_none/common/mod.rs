//! A daemon in mode `none` on addresses of its own, backends that keep a log, and clients that say what they saw.
//!
//! Nothing here sleeps: what a test waits for is a line of the daemon's log, a byte, or the end of a stream.

mod backend;
mod client;
mod daemon;

pub(crate) use backend::{Backend, Script};
pub(crate) use client::Client;
pub(crate) use daemon::{Daemon, Plan, sluiced};

/// The policy of the walk that only lets ships of the empire in.
pub(crate) const L4: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: rule1}
spec:
  endpointSelector: {matchLabels: {org: empire, class: deathstar}}
  ingress:
  - fromEndpoints: [{matchLabels: {org: empire}}]
    toPorts: [{ports: [{port: "80", protocol: TCP}]}]
"#;

/// ... and lets them do nothing but land.
pub(crate) const L7: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: rule1}
spec:
  endpointSelector: {matchLabels: {org: empire, class: deathstar}}
  ingress:
  - fromEndpoints: [{matchLabels: {org: empire}}]
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules: {http: [{method: POST, path: /v1/request-landing}]}
"#;

/// The same rule for every request whose path begins with `/ok`.
pub(crate) const OK: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: rule1}
spec:
  endpointSelector: {matchLabels: {org: empire, class: deathstar}}
  ingress:
  - fromEndpoints: [{matchLabels: {org: empire}}]
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules: {http: [{path: "/ok.*"}]}
"#;
