//! A node and its pods: veth pairs, one address of each family a pod, routes as a CNI would set them.

use crate::commands::run;
use crate::leftovers;
use crate::netns::Namespace;
use anyhow::Result;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const POD_NETWORKS: [&str; 2] = ["10.15.0.0/16", "f00d::/64"];
/// The node's own addresses, on its loopback.
pub const NODE_V4: Ipv4Addr = Ipv4Addr::new(10, 15, 0, 1);
pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0xf00d, 0, 0, 0, 0, 0, 0, 1);

/// What a pod is, before it is made.
#[derive(Clone, Debug)]
pub struct PodSpec {
    pub name: &'static str,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub labels: &'static [(&'static str, &'static str)],
}

/// A pod: a namespace whose `eth0` leads to the node's `lxc-<name>`.
#[derive(Debug)]
pub struct Pod {
    pub spec: PodSpec,
    pub namespace: Namespace,
}

/// A namespace that routes between its pods.
#[derive(Debug)]
pub struct Node {
    /// Unique on this machine: `sluice-<pid>-<n>`.
    pub name: String,
    pub namespace: Namespace,
    pub pods: Vec<Pod>,
}

/// The four pods of the Star Wars walk.
pub const STAR_WARS: [PodSpec; 4] = [
    pod("deathstar-1", 252, 0xad, &[("org", "empire"), ("class", "deathstar")]),
    pod("deathstar-2", 253, 0xae, &[("org", "empire"), ("class", "deathstar")]),
    pod("tiefighter", 21, 0x21, &[("org", "empire"), ("class", "tiefighter")]),
    pod("xwing", 31, 0x31, &[("org", "alliance"), ("class", "xwing")]),
];

/// A pod by the last parts of its addresses.
pub const fn pod(
    name: &'static str,
    last_v4: u8,
    last_v6: u16,
    labels: &'static [(&'static str, &'static str)],
) -> PodSpec {
    PodSpec {
        name,
        v4: Ipv4Addr::new(10, 15, 42, last_v4),
        v6: Ipv6Addr::new(0xf00d, 0, 0, 0, 0x0a0f, 0, 0, last_v6),
        labels,
    }
}

impl PodSpec {
    /// The node's end of the pod's interface. Interface names have at most 15 characters.
    pub fn interface(&self) -> String {
        format!("lxc-{}", self.name).chars().take(15).collect()
    }

    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl Node {
    /// Makes the node and its pods.
    pub fn new(pods: &[PodSpec]) -> Result<Self> {
        let name = leftovers::fresh_name();
        let namespace = Namespace::new(&name)?;
        namespace.sysctl("net.ipv4.ip_forward=1")?;
        namespace.sysctl("net.ipv6.conf.all.forwarding=1")?;
        namespace.ip(&format!("addr add {NODE_V4}/32 dev lo"))?;
        namespace.ip(&format!("addr add {NODE_V6}/128 dev lo nodad"))?;
        // The pods' gateway: with a route to it over another device, proxy ARP answers for it.
        namespace.ip("addr add 169.254.1.1/32 dev lo")?;
        let mut node = Self { name, namespace, pods: Vec::new() };
        for spec in pods {
            node.add(spec)?;
        }
        Ok(node)
    }

    /// Makes one more pod.
    pub fn add(&mut self, spec: &PodSpec) -> Result<()> {
        let namespace = Namespace::new(&format!("{}-{}", self.name, spec.name))?;
        self.connect(spec, &namespace)?;
        self.pods.push(Pod { spec: spec.clone(), namespace });
        Ok(())
    }

    /// Makes the pod's interface, again where it was deleted.
    pub fn connect(&self, spec: &PodSpec, pod: &Namespace) -> Result<()> {
        let interface = spec.interface();
        run(&[
            "ip",
            "link",
            "add",
            &interface,
            "netns",
            self.namespace.name(),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            pod.name(),
        ])?;
        self.namespace.sysctl(&format!("net.ipv4.conf.{interface}.proxy_arp=1"))?;
        for words in [
            format!("addr add fe80::1/64 dev {interface} nodad"),
            format!("link set {interface} up"),
            format!("route add {}/32 dev {interface}", spec.v4),
            format!("-6 route add {}/128 dev {interface}", spec.v6),
        ] {
            self.namespace.ip(&words)?;
        }
        for words in [
            "link set eth0 up".to_owned(),
            format!("addr add {}/32 dev eth0", spec.v4),
            format!("addr add {}/128 dev eth0 nodad", spec.v6),
            "route add 169.254.1.1/32 dev eth0 scope link".to_owned(),
            "route add default via 169.254.1.1 dev eth0".to_owned(),
            "-6 route add default via fe80::1 dev eth0".to_owned(),
        ] {
            pod.ip(&words)?;
        }
        Ok(())
    }

    /// The pod of this name.
    ///
    /// # Panics
    /// There is none: the test is wrong.
    #[track_caller]
    #[expect(clippy::expect_used, reason = "INVARIANT: a test names pods that it made")]
    pub fn pod(&self, name: &str) -> &Pod {
        self.pods.iter().find(|p| p.spec.name == name).expect("a pod of this name")
    }
}
