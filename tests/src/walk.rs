//! The Star Wars walk: what `make demo` plays and the suites assert, step by step, on both families.

use crate::binaries;
use crate::daemon::Daemon;
use crate::deathstar::{Deathstar, LANDED, PANIC};
use crate::keepalive::KeepAlive;
use crate::leftovers;
use crate::pods::{Family, Node, STAR_WARS};
use anyhow::{Result, ensure};
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// The pods, the daemon, the deathstars, and where the walk is told.
pub struct Walk<'a> {
    // Dropped in this order: the daemon ends before its node goes.
    pub daemon: Daemon,
    pub node: Node,
    deathstars: [Deathstar; 2],
    out: &'a mut (dyn Write + Send),
}

impl std::fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("node", &self.node.name).finish_non_exhaustive()
    }
}

/// What a command must print and how it must end.
struct Expect<'e> {
    status: i32,
    /// The whole standard output, or with `parts` what must be in it.
    stdout: &'e str,
    parts: &'e [&'e str],
}

const fn prints(stdout: &str) -> Expect<'_> {
    Expect { status: 0, stdout, parts: &[] }
}

const fn contains<'e>(status: i32, parts: &'e [&'e str]) -> Expect<'e> {
    Expect { status, stdout: "", parts }
}

impl<'a> Walk<'a> {
    /// Step 1: the pods.
    pub fn new(out: &'a mut (dyn Write + Send)) -> Result<Self> {
        writeln!(out, "# Pods: network namespaces, connected to the node by veth pairs\n")?;
        let node = Node::new(&STAR_WARS)?;
        for pod in &node.pods {
            let labels: Vec<String> = pod.spec.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let spec = &pod.spec;
            writeln!(out, "{:12} {:14} {:18} {}", spec.name, spec.v4, spec.v6.to_string(), labels.join(","))?;
        }
        let deathstars = [
            Deathstar::start(&node.pod("deathstar-1").namespace, 80)?,
            Deathstar::start(&node.pod("deathstar-2").namespace, 80)?,
        ];
        let daemon = Daemon::start(&node)?;
        writeln!(out, "\nsluiced runs on the node with {}", daemon.config().display())?;
        writeln!(out, "`sluice` below is `sluice --socket {}/sluiced.sock`", daemon.directory.display())?;
        Ok(Self { node, daemon, deathstars, out })
    }

    /// Steps 2 to 5, on one family. Leaves no policy behind.
    pub fn play(&mut self, family: Family) -> Result<()> {
        writeln!(self.out, "\n########## {} ##########", family.name())?;
        self.without_policy(family)?;
        self.with_the_l4_policy(family)?;
        self.with_the_l7_policy(family)?;
        self.look_back(family)?;
        let _revision = self.daemon.remove("rule1.yaml")?;
        Ok(())
    }

    fn without_policy(&mut self, family: Family) -> Result<()> {
        self.title("No policy: every ship lands")?;
        self.pod("tiefighter", &landing(family), &prints(LANDED))?;
        self.pod("xwing", &landing(family), &prints(LANDED))?;
        self.title("And everybody may drop something into the exhaust port")?;
        self.pod("tiefighter", &exhaust_port(family), &prints(PANIC))
    }

    fn with_the_l4_policy(&mut self, family: Family) -> Result<()> {
        self.title("The L3/L4 policy: empire ships only, port 80/TCP; others are dropped")?;
        self.apply("l3-l4.yaml")?;
        self.pod("xwing", &format!("{} --max-time 2", landing(family)), &contains(28, &[]))?;
        self.pod("tiefighter", &landing(family), &prints(LANDED))?;
        self.node("sluice endpoint list", &contains(0, &["Enabled", "Disabled", "k8s:class=deathstar"]))?;
        self.check_enforcement()?;
        self.node(&self.question(family), &contains(0, &["allowed", "spec.ingress[0].toPorts[0]"]))
    }

    fn with_the_l7_policy(&mut self, family: Family) -> Result<()> {
        self.title(
            "The L7 policy, while a client of tiefighter keeps one connection busy: landing requests only",
        )?;
        let server = SocketAddr::new(self.node.pod("deathstar-1").spec.address(family), 80);
        let ship = &self.node.pod("tiefighter").namespace;
        let client = KeepAlive::start(ship, server, Duration::from_millis(20));
        self.wait_for_landings(&client)?;
        self.apply("l7.yaml")?;
        self.pod("tiefighter", &landing(family), &prints(LANDED))?;
        let before = self.exhaust_ports_reached();
        self.pod("tiefighter", &exhaust_port(family), &prints("Access denied\r\n"))?;
        ensure!(self.exhaust_ports_reached() == before, "the exhaust port was reached");
        writeln!(
            self.out,
            "\n# The deathstar's own log shows no other PUT than the {before} from before the policy"
        )?;
        // Later changes of policy cost the inspected connection nothing.
        self.wait_for_landings(&client)?;
        let _revision = self.daemon.apply("other.yaml", OTHER_POLICY)?;
        self.wait_for_landings(&client)?;
        let _revision = self.daemon.remove("other.yaml")?;
        self.wait_for_landings(&client)?;
        let tally = client.stop()?;
        writeln!(
            self.out,
            "# The keep-alive client: {} landings on {} connections, {} reset, {} lost",
            tally.landed,
            tally.connections,
            tally.resets,
            tally.lost.len()
        )?;
        ensure!(
            tally.resets == 1 && tally.connections == 2,
            "expected one reset and a second connection: {tally:?}"
        );
        ensure!(tally.lost.is_empty(), "the keep-alive client lost requests: {tally:?}");
        Ok(())
    }

    fn look_back(&mut self, family: Family) -> Result<()> {
        self.title("What happened, and why")?;
        self.node("sluice policy get", &contains(0, &["\"any:class\": \"deathstar\"", "Revision: "]))?;
        let deathstar = self.node.pod("deathstar-1").spec.address(family);
        let records = format!("monitor --follow=false --verdict denied,dropped,ended --to {deathstar}");
        self.daemon.wait_until("the reset is recorded", |daemon| {
            daemon
                .sluice(&records.split(' ').collect::<Vec<_>>())
                .is_ok_and(|told| told.contains("redirect_required"))
        })?;
        self.node(
            &format!("sluice {records}"),
            &contains(
                0,
                &[
                    "dropped policy",
                    "ended redirect_required",
                    "denied no_http_rule",
                    "HTTP/1.1 PUT",
                    "default/xwing",
                    "default/tiefighter",
                ],
            ),
        )?;
        self.node(&self.question(family), &contains(1, &["denied", "no_http_rule", "/v1/request-landing"]))
    }

    /// Asked under the L3/L4 policy and again under the L7 policy.
    fn question(&self, family: Family) -> String {
        let deathstar = self.node.pod("deathstar-1").spec.address(family);
        format!(
            "sluice policy explain --from tiefighter --to {deathstar} --port 80 --method PUT --path /v1/exhaust-port"
        )
    }

    fn wait_for_landings(&self, client: &KeepAlive) -> Result<()> {
        let before = client.landed();
        self.daemon.wait_until("the keep-alive client lands", |_| client.landed() > before + 5)
    }

    fn check_enforcement(&self) -> Result<()> {
        let endpoints: Vec<proxy_core::api::EndpointView> =
            serde_json::from_str(&self.daemon.sluice(&["endpoint", "list", "-o", "json"])?)?;
        for endpoint in endpoints {
            let expect = if endpoint.name.starts_with("deathstar") { "Enabled" } else { "Disabled" };
            ensure!(
                endpoint.ingress_enforcement == expect,
                "{}: {}",
                endpoint.name,
                endpoint.ingress_enforcement
            );
        }
        Ok(())
    }

    fn exhaust_ports_reached(&self) -> usize {
        self.deathstars.iter().flat_map(Deathstar::log).filter(|seen| seen.request.starts_with("PUT")).count()
    }

    /// Copies an example into the policy directory and waits until it is in force.
    fn apply(&mut self, example: &str) -> Result<()> {
        let from = policy(example);
        writeln!(self.out, "\nnode# cp {} {}/rule1.yaml", from.display(), self.daemon.policies().display())?;
        let revision = self.daemon.apply("rule1.yaml", &std::fs::read_to_string(from)?)?;
        writeln!(self.out, "# in force: revision {revision}")?;
        Ok(())
    }

    fn title(&mut self, title: &str) -> Result<()> {
        writeln!(self.out, "\n--- {title}")?;
        Ok(self.out.flush()?)
    }

    /// Runs a shell command in a pod.
    fn pod(&mut self, pod: &str, command: &str, expect: &Expect<'_>) -> Result<()> {
        let mut shell = self.node.pod(pod).namespace.command("sh");
        let _: &mut Command = shell.arg("-c").arg(command);
        self.tell(pod, command, &mut shell, expect)
    }

    /// Runs a shell command on the node.
    fn node(&mut self, command: &str, expect: &Expect<'_>) -> Result<()> {
        let mut shell = self.node.namespace.command("sh");
        let sluice = binaries::program("sluice")?;
        let script = format!(
            "sluice() {{ {} --socket {}/sluiced.sock \"$@\"; }}; {command}",
            sluice.display(),
            self.daemon.directory.display()
        );
        let _: &mut Command = shell.arg("-c").arg(script);
        self.tell("node", command, &mut shell, expect)
    }

    fn tell(&mut self, place: &str, command: &str, shell: &mut Command, expect: &Expect<'_>) -> Result<()> {
        write!(self.out, "\n{place}# {command}\n")?;
        self.out.flush()?;
        let _: &mut Command = shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let process = leftovers::start(shell)?;
        let pid = process.id();
        let output = process.wait_with_output()?;
        leftovers::ended(pid);
        self.out.write_all(&output.stdout)?;
        self.out.write_all(&output.stderr)?;
        if output.status.code() != Some(0) {
            writeln!(self.out, "[exit status {}]", output.status.code().unwrap_or(-1))?;
        }
        expect.check(place, command, &output)
    }
}

impl Expect<'_> {
    fn check(&self, place: &str, command: &str, output: &Output) -> Result<()> {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let status = output.status.code();
        ensure!(
            status == Some(self.status),
            "{place}# {command}\nended with {status:?}, not {}",
            self.status
        );
        if self.parts.is_empty() {
            ensure!(stdout == self.stdout, "{place}# {command}\nprinted {stdout:?}, not {:?}", self.stdout);
        }
        for part in self.parts {
            ensure!(stdout.contains(part), "{place}# {command}\ndid not print {part:?}:\n{stdout}");
        }
        Ok(())
    }
}

/// A policy for somebody else: a change of revision that concerns nobody here.
const OTHER_POLICY: &str = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: other, namespace: default}\n\
spec: {endpointSelector: {matchLabels: {org: alliance}}, ingress: [{fromEndpoints: [{}]}]}\n";

fn policy(example: &str) -> std::path::PathBuf {
    binaries::checkout().join("examples/starwars").join(example)
}

fn landing(family: Family) -> String {
    format!("curl -s -XPOST http://{}/v1/request-landing", host(family))
}

fn exhaust_port(family: Family) -> String {
    format!("curl -s -XPUT http://{}/v1/exhaust-port", host(family))
}

fn host(family: Family) -> String {
    match STAR_WARS.first().map(|deathstar| deathstar.address(family)) {
        Some(std::net::IpAddr::V6(v6)) => format!("[{v6}]"),
        Some(std::net::IpAddr::V4(v4)) => v4.to_string(),
        None => String::new(),
    }
}
