//! Pods that are plugged in again while the daemon runs, and while it does not.

use e2e::daemon::Daemon;
use e2e::echo;
use e2e::pods::{Family, Node, STAR_WARS};
use e2e::policies::empire_may_reach;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

const WAIT: Duration = Duration::from_millis(500);

struct Stage {
    node: Node,
    daemon: Daemon,
}

impl Stage {
    fn unplug(&self, pod: &str) {
        let interface = self.node.pod(pod).spec.interface();
        self.node.namespace.ip(&format!("link del {interface}")).unwrap();
    }

    fn plug_in(&self, pod: &str) {
        let pod = self.node.pod(pod);
        self.node.connect(&pod.spec, &pod.namespace).unwrap();
    }

    /// The pins of the programs on a pod's interface: another pair of inodes is another pair of links.
    fn links(&self, pod: &str) -> Option<[u64; 2]> {
        let interface = self.node.pod(pod).spec.interface();
        let pin = |program: &str| -> PathBuf {
            self.daemon.pins().join(format!("sluice/v3/links/{interface}:{program}"))
        };
        let inode = |program| std::fs::metadata(pin(program)).ok().map(|pin| pin.ino());
        Some([inode("from_endpoint")?, inode("to_endpoint")?])
    }

    fn wait_for_other_links(&self, pod: &str, old: Option<[u64; 2]>) {
        let others =
            || self.links(pod).is_some_and(|now| old.is_none_or(|old| now[0] != old[0] && now[1] != old[1]));
        self.daemon.wait_until("the interface has programs", |_| others()).unwrap();
    }

    /// The tie fighter gets in, the X-wing does not.
    fn assert_enforced(&self) {
        for family in Family::BOTH {
            let server = SocketAddr::new(self.node.pod("deathstar-1").spec.address(family), 7);
            let connects = |pod: &str| {
                let connecting = move || TcpStream::connect_timeout(&server, WAIT).is_ok();
                self.node.pod(pod).namespace.run(connecting).unwrap()
            };
            assert!(connects("tiefighter"), "{family:?}");
            assert!(!connects("xwing"), "{family:?}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_pod_that_is_plugged_in_again_is_enforced_again() {
    let node = Node::new(&STAR_WARS).unwrap();
    let _arrivals = echo::tcp(&node.pod("deathstar-1").namespace, 7).unwrap();
    let daemon = Daemon::start(&node).unwrap();
    let policy = empire_may_reach("[{ports: [{port: \"7\", protocol: TCP}]}]");
    let _revision = daemon.apply("rule1.yaml", &policy).unwrap();
    let mut stage = Stage { node, daemon };
    for _life in 0..2 {
        for pod in ["tiefighter", "xwing", "deathstar-1"] {
            let old = stage.links(pod);
            stage.unplug(pod);
            stage.plug_in(pod);
            stage.wait_for_other_links(pod, old);
        }
        stage.assert_enforced();
        stage.daemon.kill().unwrap();
        let old = stage.links("xwing");
        stage.unplug("xwing");
        stage.plug_in("xwing");
        stage.daemon.spawn().unwrap();
        stage.wait_for_other_links("xwing", old);
        stage.assert_enforced();
    }
}
