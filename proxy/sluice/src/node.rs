//! `sluice status`, `sluice config check` and `sluice uninstall`.

use crate::args::Format;
use crate::client::Client;
use crate::output::{self, Answer, Out};
use anyhow::{Context, Result, bail};
use config_node::{Config, Mode, Problem};
use proxy_core::api::{Finding, Status};
use proxy_core::text::Complaints;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) const NODE_FILE: &str = "/etc/sluice/node.toml";

pub(crate) fn status(out: Out<'_>, client: &Client, format: Format, wait: Duration) -> Result<Answer> {
    let status: Status = client.get_within(wait, "/v1/status")?;
    output::write(out, format, &status, |out| {
        let cell = |name: &str, value: String| vec![name.to_owned(), output::harmless(&value)];
        let rows = [
            cell("Node", status.node.clone()),
            cell("Version", status.version.clone()),
            cell("Mode", status.mode.clone()),
            cell("Revision", status.revision.to_string()),
            cell("Endpoints", status.endpoints.to_string()),
            cell("Policies", status.policies.to_string()),
            cell("Connections", status.connections.to_string()),
            cell("Records lost", status.records_lost.to_string()),
            cell("Status", if status.ok { "ok" } else { "not ok" }.to_owned()),
        ];
        output::table(out, 5, 3, &rows)?;
        status.findings.iter().try_for_each(|finding| Ok(writeln!(out, "{}", words(finding))?))
    })?;
    Ok(Answer::from(status.ok))
}

fn words(finding: &Finding) -> String {
    let Finding { severity, subject, line, field, message, fix } = finding;
    format!("{severity}: {}", output::complaint(subject, *line, field, message, fix))
}

/// Reads a node file that an answer depends on.
///
/// # Errors
/// It can't be read, or says something wrong: there is no answer then.
pub(crate) fn read(file: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(file).with_context(|| {
        format!("can't read the node file `{}`; name it with --config FILE", file.display())
    })?;
    config_node::read(&file.display().to_string(), &text).map_err(|problems| {
        let each = problems.iter().map(Problem::to_string).collect();
        Complaints { what: "the node file is not valid".to_owned(), each }.into()
    })
}

pub(crate) fn check(out: Out<'_>, format: Format, file: &Path) -> Result<Answer> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("can't read the node file `{}`", file.display()))?;
    let read = config_node::read(&file.display().to_string(), &text);
    let problems = read.as_ref().err().map(Vec::as_slice).unwrap_or_default();
    let views: Vec<Finding> = problems.iter().map(finding).collect();
    output::write(out, format, &views, |out| match &read {
        Ok(config) => {
            let file = output::harmless(&file.display().to_string());
            Ok(writeln!(out, "{file}: ok, {}", summary(config))?)
        }
        Err(problems) => problems
            .iter()
            .try_for_each(|problem| Ok(writeln!(out, "{}", output::harmless(&problem.to_string()))?)),
    })?;
    Ok(Answer::from(read.is_ok()))
}

fn finding(problem: &Problem) -> Finding {
    Finding {
        severity: "error".to_owned(),
        subject: problem.file.clone(),
        line: problem.line,
        field: problem.field.clone(),
        message: problem.message.clone(),
        fix: problem.fix.clone(),
    }
}

fn summary(config: &Config) -> String {
    let mode = match config.redirect.mode {
        Mode::Ebpf => "ebpf",
        Mode::None => "none",
    };
    let count = |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    format!(
        "mode {mode}, {}, {}",
        count(config.endpoints.len(), "endpoint"),
        count(config.listeners.len(), "listener")
    )
}

/// Becomes `sluiced --uninstall`.
pub(crate) fn uninstall(config: Option<&Path>) -> Result<Answer> {
    let sluiced = find_sluiced()?;
    let config = config.unwrap_or(Path::new(NODE_FILE));
    let error = Command::new(&sluiced).arg("--uninstall").arg("--config").arg(config).exec();
    Err(error).with_context(|| format!("can't run `{}`", sluiced.display()))
}

/// Beside this program, or on PATH.
fn find_sluiced() -> Result<PathBuf> {
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("sluiced"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|directory| directory.join("sluiced"));
    match beside.into_iter().chain(on_path).find(|program| program.is_file()) {
        Some(program) => Ok(program),
        None => bail!(
            "there is no `sluiced` beside this program or on PATH; run `sluiced --uninstall` where it is"
        ),
    }
}
