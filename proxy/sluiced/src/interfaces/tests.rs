//! The kernel side's own looks are hours away here: what happens, happens because it was heard of.

use super::*;
use crate::metrics::Metrics;
use crate::settings;
use crate::shared::Shared;
use crate::upstream::Source;
use e2e::pods::{Node, PodSpec, STAR_WARS};
use e2e::{binaries, leftovers};
use policy_model::identity::Numbers;
use redirect::Redirector;
use redirect::plan::Plan;
use std::path::PathBuf;

const NEVER: Duration = Duration::from_secs(24 * 3600);
/// A test that waits longer has failed.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What the node leaves on file systems, removed when dropped.
struct Places {
    pins: PathBuf,
    state: PathBuf,
}

impl Drop for Places {
    fn drop(&mut self) {
        for place in [&self.pins, &self.state] {
            let _absent = std::fs::remove_dir_all(place);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn an_interface_gets_programs_although_nobody_polls() {
    let node = Arc::new(Node::new(&STAR_WARS[..1]).unwrap());
    let places = Places {
        pins: leftovers::pin_directory(&node.name).unwrap(),
        state: leftovers::directory(&node.name),
    };
    let inside = Arc::clone(&node);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let life = async move { comes_and_goes(&inside, &places).await };
    node.namespace.run(move || runtime.block_on(life)).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_kernel_thread_that_panics_is_told_of_at_once_and_keeps_the_node() {
    let node = Arc::new(Node::new(&STAR_WARS[..1]).unwrap());
    let places = Places {
        pins: leftovers::pin_directory(&node.name).unwrap(),
        state: leftovers::directory(&node.name),
    };
    let inside = Arc::clone(&node);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let life = async move { panics(&inside, &places).await };
    node.namespace.run(move || runtime.block_on(life)).unwrap();
}

async fn panics(node: &Node, places: &Places) {
    let findings = Arc::new(Findings::default());
    let kernel = kernel(places, &findings);
    kernel.before(plan(&node.pods[0].spec)).await.unwrap();
    kernel.after().await.unwrap();
    // More than the queue has places for: each waits for its turn.
    let looks: Vec<_> = (0..100)
        .map(|_| {
            tokio::spawn({
                let kernel = kernel.clone();
                async move { kernel.look().await }
            })
        })
        .collect();
    for look in looks {
        look.await.unwrap().unwrap();
    }
    assert!(matches!(kernel.panic().await, Err(Failure::ThreadEnded)));
    let is_said =
        || findings.all().iter().any(|f| f.severity == "error" && f.message.contains("has panicked"));
    wait_until(is_said).await;
    assert!(matches!(kernel.look().await, Err(Failure::ThreadEnded)));
    let link = format!("sluice/v3/links/{}:from_endpoint", node.pods[0].spec.interface());
    assert!(places.pins.join(link).exists());
    assert!(Redirector::start(redirect_settings(places)).is_err(), "somebody else has taken the node over");
}

async fn comes_and_goes(node: &Node, places: &Places) {
    let spec = &node.pods[0].spec;
    let interface = spec.interface();
    node.namespace.ip(&format!("link del {interface}")).unwrap();
    let findings = Arc::new(Findings::default());
    let kernel = kernel(places, &findings);
    let _follower = tokio::spawn(follow(kernel.clone(), Arc::clone(&findings)));
    kernel.before(plan(spec)).await.unwrap();
    kernel.after().await.unwrap();
    assert!(findings.is_missing(&interface));
    let pins = ["from_endpoint", "to_endpoint"]
        .map(|program| places.pins.join(format!("sluice/v3/links/{interface}:{program}")));
    for _again in 0..3 {
        node.connect(spec, &node.pods[0].namespace).unwrap();
        wait_until(|| !findings.is_missing(&interface)).await;
        assert!(pins.iter().all(|pin| pin.exists()));
        node.namespace.ip(&format!("link del {interface}")).unwrap();
        wait_until(|| findings.is_missing(&interface)).await;
        assert!(!pins.iter().any(|pin| pin.exists()));
    }
    let said: Vec<String> = findings.all().into_iter().map(|finding| finding.field).collect();
    assert_eq!(said, ["endpoint.interface"]);
}

fn kernel(places: &Places, findings: &Arc<Findings>) -> Kernel {
    let redirector = Redirector::start(redirect_settings(places)).unwrap();
    let config = config_node::read("n.yaml", NODE).unwrap();
    let shared = Shared::new(settings::limits(&config), settings::shares(&config, 1), 1, Source::Transparent);
    let metrics = Arc::new(Metrics::new(Arc::new(shared), Vec::new()));
    Kernel::spawn(redirector, metrics, Arc::clone(findings), NEVER).unwrap()
}

fn redirect_settings(places: &Places) -> redirect::Settings {
    redirect::Settings {
        object: binaries::kernel_object().unwrap(),
        bpffs: places.pins.clone(),
        state_directory: places.state.clone(),
        keep_sysctls: true,
        policy_entries: 1024,
        events_per_second: 500,
        flows: redirect::FlowLimits { flows_max: 4096, inspected_flows_max: 512, flows_per_endpoint: 64 },
    }
}

const NODE: &str =
    "node: {name: n, pod_networks: [10.15.0.0/16, \"f00d::/64\"]}\npolicies: {directories: [/p]}\n";

fn plan(spec: &PodSpec) -> Plan {
    let endpoint = format!(
        "endpoint: [{{name: {}, interface: {}, addresses: [{}, \"{}\"]}}]\n",
        spec.name,
        spec.interface(),
        spec.v4,
        spec.v6
    );
    let config = config_node::read("n.yaml", &format!("{NODE}{endpoint}")).unwrap();
    let inputs = settings::inputs(&config, &[], &[]);
    let (snapshot, _) = policy_model::resolve(&inputs, &mut Numbers::default(), 1);
    redirect::plan::plan(&snapshot)
}

/// The follower runs in between.
async fn wait_until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_MAX, waiting).await.unwrap();
}
