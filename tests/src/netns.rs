//! Network namespaces: made, entered, removed.

use crate::commands::run;
use crate::leftovers;
use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::AsFd;
use std::process::Command;

/// A named network namespace; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes it, with loopback up.
    pub fn new(name: &str) -> Result<Self> {
        let _making = leftovers::making();
        run(&["ip", "netns", "add", name])?;
        let namespace = Self { name: name.to_owned() };
        run(&["ip", "-n", name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// A command that will run inside. `ip netns exec` would hide bpffs behind a new /sys; nsenter does not.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let _: &mut Command = command.arg(format!("--net={}", self.path())).arg("--").arg(program);
        command
    }

    /// Runs `ip` with these words inside.
    pub fn ip(&self, words: &str) -> Result<()> {
        let mut all = vec!["ip", "-n", &self.name];
        all.extend(words.split_whitespace());
        run(&all)
    }

    pub fn sysctl(&self, setting: &str) -> Result<()> {
        run(&["nsenter", &format!("--net={}", self.path()), "--", "sysctl", "-qw", setting])
    }

    /// Runs `work` on a thread of its own inside: sockets that it opens belong to this namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<Result<T>> {
        let path = self.path();
        std::thread::spawn(move || {
            let file = std::fs::File::open(&path).with_context(|| path.clone())?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("enter {path}"))?;
            Ok(work())
        })
    }

    /// `spawn`, waited for.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.spawn(work).join().map_err(|panic| anyhow::anyhow!("panicked: {panic:?}"))?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _result = run(&["ip", "netns", "del", &self.name]);
    }
}
