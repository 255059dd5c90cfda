//! The daemon of one node: its files, its process, and what it answers.

use crate::pods::{NODE_V4, NODE_V6, Node, POD_NETWORKS};
use crate::{binaries, leftovers};
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A node's Sluice. Dropping it ends the process and undoes what it did to the kernel.
#[derive(Debug)]
pub struct Daemon {
    /// Holds node.toml, policies/, state/, sluiced.sock and sluiced.log.
    pub directory: PathBuf,
    pins: PathBuf,
    namespace_path: String,
    process: Option<Child>,
}

impl Daemon {
    /// Writes the node file of `node` and starts the daemon in it; returns when it answers.
    pub fn start(node: &Node) -> Result<Self> {
        Self::start_with(node, "")
    }

    /// `start`, with more lines at the end of the node file.
    pub fn start_with(node: &Node, more: &str) -> Result<Self> {
        let directory = leftovers::directory(&node.name);
        leftovers::make_directory(&directory.join("policies"))?;
        let pins = leftovers::pin_directory(&node.name)?;
        let daemon = Self { directory, pins, namespace_path: node.namespace.path(), process: None };
        std::fs::write(daemon.config(), daemon.node_file(node)? + more)?;
        let mut daemon = daemon;
        daemon.spawn()?;
        Ok(daemon)
    }

    pub fn config(&self) -> PathBuf {
        self.directory.join("node.toml")
    }

    pub fn policies(&self) -> PathBuf {
        self.directory.join("policies")
    }

    /// The BPF file system below which it pins.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Starts the process and waits until it answers.
    pub fn spawn(&mut self) -> Result<()> {
        let log =
            std::fs::File::options().create(true).append(true).open(self.directory.join("sluiced.log"))?;
        let mut command = Command::new("nsenter");
        let _: &mut Command = command
            .arg(format!("--net={}", self.namespace_path))
            .arg("--")
            .arg(binaries::program("sluiced")?)
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.process = Some(leftovers::start(&mut command).context("start sluiced")?);
        self.wait_until("it answers", |daemon| daemon.sluice(&["status", "-o", "json"]).is_ok())
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            let _status = process.wait()?;
            leftovers::ended(process.id());
        }
        Ok(())
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Runs `sluice` against this daemon: its standard output.
    ///
    /// # Errors
    /// It exits with 2 (no answer).
    pub fn sluice(&self, arguments: &[&str]) -> Result<String> {
        let output = self.sluice_command()?.args(arguments).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() != Some(2), "{complaint}the daemon's log:\n{}", self.log());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn sluice_command(&self) -> Result<Command> {
        let mut command = Command::new(binaries::program("sluice")?);
        let _: &mut Command = command.arg("--socket").arg(self.directory.join("sluiced.sock"));
        Ok(command)
    }

    /// The revision in force.
    pub fn revision(&self) -> Result<u64> {
        let status: serde_json::Value = serde_json::from_str(&self.sluice(&["status", "-o", "json"])?)?;
        status.get("revision").and_then(serde_json::Value::as_u64).context("a revision")
    }

    /// Puts `text` in force as `<name>` in the policy directory: written aside, renamed into place, waited for.
    pub fn apply(&self, name: &str, text: &str) -> Result<u64> {
        let before = self.revision()?;
        let aside = self.directory.join(name);
        std::fs::write(&aside, text)?;
        std::fs::rename(aside, self.policies().join(name))?;
        self.wait_for_revision_after(before)
    }

    /// Takes a policy file away, and waits.
    pub fn remove(&self, name: &str) -> Result<u64> {
        let before = self.revision()?;
        std::fs::remove_file(self.policies().join(name))?;
        self.wait_for_revision_after(before)
    }

    pub fn wait_for_revision_after(&self, before: u64) -> Result<u64> {
        self.wait_until("a new revision", |daemon| daemon.revision().is_ok_and(|now| now > before))?;
        self.revision()
    }

    /// Flow records so far, newest last, one JSON value each.
    pub fn flows(&self) -> Result<Vec<serde_json::Value>> {
        let lines = self.sluice(&["monitor", "--follow=false", "--last", "100000", "-o", "json"])?;
        lines.lines().map(|line| serde_json::from_str(line).context("a flow record")).collect()
    }

    /// Asks again every few milliseconds, at most ten seconds.
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds(self) {
            if Instant::now() > deadline {
                bail!("waited in vain until {what}; the daemon's log:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("sluiced.log")).unwrap_or_default()
    }

    fn node_file(&self, node: &Node) -> Result<String> {
        let mut text = format!(
            "[node]\nname = \"node-1\"\npod_networks = {POD_NETWORKS:?}\naddresses = [\"{NODE_V4}\", \"{NODE_V6}\"]\n\
             state_directory = \"{directory}/state\"\n\n\
             [policies]\ndirectories = [\"{directory}/policies\"]\n\n\
             [redirect]\nmode = \"ebpf\"\nobject = \"{object}\"\nbpffs = \"{pins}\"\n\n\
             [api]\nsocket = \"{directory}/sluiced.sock\"\n",
            directory = self.directory.display(),
            object = binaries::kernel_object()?.display(),
            pins = self.pins.display(),
        );
        for pod in &node.pods {
            let spec = &pod.spec;
            let labels: Vec<String> = spec.labels.iter().map(|(k, v)| format!("{k} = \"{v}\"")).collect();
            write!(
                text,
                "\n[[endpoint]]\nname = \"{}\"\nnamespace = \"default\"\ninterface = \"{}\"\naddresses = [\"{}\", \"{}\"]\nlabels = {{ {} }}\n",
                spec.name,
                spec.interface(),
                spec.v4,
                spec.v6,
                labels.join(", ")
            )?;
        }
        Ok(text)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _killed = self.kill();
        remove_tree(&self.pins);
        remove_tree(&self.directory);
    }
}

fn remove_tree(directory: &Path) {
    let _result = std::fs::remove_dir_all(directory);
}
