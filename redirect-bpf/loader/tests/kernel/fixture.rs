//! A node and its pods as network namespaces, gone when dropped.
//!
//! `<name>-node` has `lxc0`, `lxc1`, ... whose other ends are `eth0` in `<name>-0`, `<name>-1`, ...

use redirect::plan::{Plan, PlannedEndpoint, PolicyMap};
use redirect::{FlowLimits, Settings};
use redirect_abi::{Address, IpcacheKey, PolicyKey, aspect, direction, family, verdict};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Inspected in policies of these tests.
pub(crate) const PORT: u16 = 80;
/// The identity of pod n is this plus n.
const FIRST_IDENTITY: u32 = 1000;

/// Small, so that tests can go beyond it: 64 of each for an endpoint.
pub(crate) const FLOWS: FlowLimits =
    FlowLimits { flows_max: 16_384, inspected_flows_max: 512, flows_per_endpoint: 64 };

pub(crate) struct Node {
    name: String,
    pods: usize,
    directory: PathBuf,
}

impl Node {
    pub(crate) fn with_pods(pods: usize) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ldr-{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(&name);
        let node = Self { name, pods, directory };
        fs::create_dir_all(node.directory.join("bpf")).unwrap();
        mount("bpf", node.directory.join("bpf"), "bpf", MountFlags::empty(), None).unwrap();
        ip(&format!("netns add {}", node.netns()));
        ip(&format!("-n {} link set lo up", node.netns()));
        node.run(|| {
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        });
        (0..pods).for_each(|pod| node.add_pod(pod));
        node
    }

    fn add_pod(&self, pod: usize) {
        ip(&format!("netns add {}", self.pod_netns(pod)));
        ip(&format!("-n {} link set lo up", self.pod_netns(pod)));
        // A pod says what a test has it say, and nothing else at a time of its kernel's own.
        let quiet =
            ["router_solicitations=0", "dad_transmits=0"].map(|what| format!("net.ipv6.conf.default.{what}"));
        ip(&format!("netns exec {} sysctl -qw {}", self.pod_netns(pod), quiet.join(" ")));
        self.plug_in(pod);
    }

    /// Makes the interface of a pod, with its addresses and routes on both ends.
    pub(crate) fn plug_in(&self, pod: usize) {
        let (node, inside, lxc) = (self.netns(), self.pod_netns(pod), interface(pod));
        ip(&format!("-n {node} link add {lxc} type veth peer name eth0 netns {inside}"));
        self.set_up(pod);
    }

    /// The same, with this number on the node.
    pub(crate) fn plug_in_as(&self, pod: usize, index: &str) {
        let (node, inside, lxc) = (self.netns(), self.pod_netns(pod), interface(pod));
        ip(&format!("-n {node} link add {lxc} index {index} type veth peer name eth0 netns {inside}"));
        self.set_up(pod);
    }

    /// Makes the interface of a pod a port of a bridge, which is the way to it from then on.
    pub(crate) fn put_behind(&self, pod: usize, bridge: &str) {
        let (node, lxc) = (self.netns(), interface(pod));
        ip(&format!("-n {node} link set {lxc} address 02:00:00:00:01:0{pod} master {bridge}"));
        ip(&format!("-n {node} addr del fe80::1/64 dev {lxc}"));
        ip(&format!("-n {node} route replace {}/32 dev {bridge}", v4(pod)));
        ip(&format!("-n {node} -6 route del {}/128 dev {lxc}", v6(pod)));
        ip(&format!("-n {node} -6 route add {}/128 dev {bridge}", v6(pod)));
    }

    fn set_up(&self, pod: usize) {
        let (node, inside, lxc) = (self.netns(), self.pod_netns(pod), interface(pod));
        let (v4, v6) = (v4(pod), v6(pod));
        ip(&format!("-n {node} link set {lxc} address 02:00:00:00:00:01 up"));
        ip(&format!("-n {node} addr add fe80::1/64 dev {lxc} nodad"));
        ip(&format!("-n {inside} link set eth0 up"));
        ip(&format!("-n {inside} addr add {v4}/32 dev eth0"));
        ip(&format!("-n {inside} addr add {v6}/128 dev eth0 nodad"));
        ip(&format!("-n {inside} route add 169.254.1.1 dev eth0 scope link"));
        ip(&format!("-n {inside} route add default via 169.254.1.1 dev eth0"));
        ip(&format!("-n {inside} -6 route add default via fe80::1 dev eth0"));
        ip(&format!("-n {inside} neigh replace 169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0"));
        ip(&format!("-n {inside} neigh replace fe80::1 lladdr 02:00:00:00:00:01 dev eth0"));
        ip(&format!("-n {node} route replace {v4}/32 dev {lxc}"));
        ip(&format!("-n {node} -6 route replace {v6}/128 dev {lxc}"));
    }

    /// Deletes the interface of a pod.
    pub(crate) fn unplug(&self, pod: usize) {
        ip(&format!("-n {} link del {}", self.netns(), interface(pod)));
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            object: object(),
            bpffs: self.directory.join("bpf"),
            state_directory: self.directory.join("state"),
            keep_sysctls: true,
            policy_entries: redirect::POLICY_ENTRIES_MAX,
            events_per_second: 500,
            flows: FLOWS,
        }
    }

    /// Runs in a thread that lives in the node's network namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        run_in(&self.netns(), work)
    }

    pub(crate) fn run_in_pod<T: Send>(&self, pod: usize, work: impl FnOnce() -> T + Send) -> T {
        run_in(&self.pod_netns(pod), work)
    }

    pub(crate) fn pins(&self) -> PathBuf {
        self.directory.join("bpf/sluice")
    }

    pub(crate) fn netns(&self) -> String {
        format!("{}-node", self.name)
    }

    pub(crate) fn pod_netns(&self, pod: usize) -> String {
        format!("{}-{pod}", self.name)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let names = (0..self.pods).map(|pod| self.pod_netns(pod)).chain([self.netns()]);
        let deleted: Vec<_> =
            names.map(|name| Command::new("ip").args(["netns", "del", &name]).status()).collect();
        let unmounted = unmount(self.directory.join("bpf"), UnmountFlags::DETACH);
        let removed = fs::remove_dir_all(&self.directory);
        if !std::thread::panicking() {
            assert!(deleted.iter().all(|status| status.as_ref().is_ok_and(|status| status.success())));
            unmounted.unwrap();
            removed.unwrap();
        }
    }
}

pub(crate) fn interface(pod: usize) -> String {
    format!("lxc{pod}")
}

pub(crate) fn v4(pod: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 15, 0, 10 + u8::try_from(pod).unwrap())
}

pub(crate) fn v6(pod: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xf00d, 0, 0, 0, 0, 0, 0, 10 + u16::try_from(pod).unwrap())
}

/// Both addresses of a pod, at a port.
pub(crate) fn addresses(pod: usize, port: u16) -> [SocketAddr; 2] {
    [SocketAddr::new(v4(pod).into(), port), SocketAddr::new(v6(pod).into(), port)]
}

pub(crate) fn identity(pod: usize) -> u32 {
    FIRST_IDENTITY + u32::try_from(pod).unwrap()
}

/// What a pod's ingress policy says of another pod.
pub(crate) type Rule = (usize, Option<(u8, u16)>, u8);

/// Every pod an endpoint; those that are named have an ingress policy: (peer, (protocol, port) or all, verdict).
pub(crate) fn plan(pods: usize, ingress: &[(usize, &[Rule])]) -> Plan {
    let mut plan = Plan::default();
    for pod in 0..pods {
        let rules = ingress.iter().find(|(subject, _)| *subject == pod).map(|(_, rules)| *rules);
        let policy = Arc::new(policy(rules));
        let endpoint = PlannedEndpoint {
            id: u32::try_from(pod).unwrap() + 1,
            identity: identity(pod),
            v4: Some(v4(pod).to_ipv6_mapped().octets()),
            v6: Some(v6(pod).octets()),
            policy,
        };
        let _none = plan.endpoints.insert(interface(pod).into(), endpoint);
        let _none = plan
            .ipcache
            .insert((136, ipcache_key(family::IPV4, v4(pod).to_ipv6_mapped().octets())), identity(pod));
        let _none = plan.ipcache.insert((136, ipcache_key(family::IPV6, v6(pod).octets())), identity(pod));
    }
    plan
}

fn policy(ingress: Option<&[Rule]>) -> PolicyMap {
    let open = |direction| {
        ((8, PolicyKey { direction, identity: [0; 4], protocol: 0, port: [0; 2] }), verdict::ALLOW)
    };
    let aspect = |direction| PolicyKey { direction, identity: [0; 4], protocol: 0, port: [0; 2] };
    let mut map = BTreeMap::from([open(direction::EGRESS), ((1, aspect(aspect::ANY)), verdict::ALLOW)]);
    let Some(rules) = ingress else {
        map.extend([open(direction::INGRESS)]);
        return map;
    };
    for (peer, port, verdict) in rules {
        let (length, protocol, port) = port.map_or((40, 0, 0), |(protocol, port)| (64, protocol, port));
        let identity = identity(*peer).to_be_bytes();
        let key = PolicyKey { direction: direction::INGRESS, identity, protocol, port: port.to_be_bytes() };
        let _none = map.insert((length, key), *verdict);
        if length == 64 {
            let unnamed =
                PolicyKey { identity: [0; 4], direction: aspect::UNNAMED | direction::INGRESS, ..key };
            let _none = map.insert((length, unnamed), verdict::DENY);
        }
    }
    map
}

fn ipcache_key(family: u8, address: Address) -> IpcacheKey {
    IpcacheKey { family, address, pad: [0; 3] }
}

/// Runs in a thread that lives in this network namespace.
pub(crate) fn run_in<T: Send>(netns: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            enter(netns);
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enter(netns: &str) {
    let file = File::open(format!("/run/netns/{netns}")).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One `ip` command a line, in one process.
pub(crate) fn ip_batch(netns: &str, commands: &str) {
    let mut batch = Command::new("ip");
    let mut batch = batch.args(["-n", netns, "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    batch.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(batch.wait().unwrap().success());
}

pub(crate) fn ip_says(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn object() -> PathBuf {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let object =
        std::env::var_os("SLUICE_BPF_OBJECT").map_or(workspace.join("target/bpf/redirect.o"), PathBuf::from);
    assert!(object.is_file(), "no kernel object at {}: run redirect-bpf/build", object.display());
    object
}
