//! Commands of the machine.

use anyhow::{Context as _, Result, ensure};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Runs a command to its end.
///
/// # Errors
/// It can't be started, or exits with anything but 0; the message carries what it printed.
pub fn run(words: &[&str]) -> Result<()> {
    let (program, arguments) = words.split_first().context("an empty command")?;
    // In a group of its own: the terminal's Ctrl-C is for who runs it.
    let mut command = Command::new(program);
    let _: &mut Command = command.args(arguments).process_group(0);
    let output = command.output().with_context(|| (*program).to_owned())?;
    ensure!(
        output.status.success(),
        "`{}` failed: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
