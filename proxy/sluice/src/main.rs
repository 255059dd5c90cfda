//! `sluice`, the command line: asks the daemon, and answers without it by the same code.
//!
//! Exit status: 0 yes or ok; 1 no (denied, invalid, status not ok); 2 there is no answer, and what to do about it.

mod args;
mod check;
mod client;
mod endpoint;
mod monitor;
mod node;
mod offline;
mod output;
mod pages;
mod policy;

use anyhow::Result;
use args::{Cli, Command, ConfigCommand, EndpointCommand, Global, IdentityCommand, PolicyCommand};
use clap::Parser;
use client::Client;
use output::{Answer, Out};
use proxy_core::text::Complaints;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const SOCKET: &str = "/run/sluice/sluiced.sock";

fn main() -> ExitCode {
    let cli = arguments();
    let mut out = io::stdout().lock();
    match run(&mut out, &cli).and_then(|answer| Ok(out.flush().map(|()| answer)?)) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        // Whoever reads has seen enough: `sluice monitor | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<Complaints>() {
                Some(complaints) => tell(&complaints.lines()),
                None => tell(&[format!("{error:#}")]),
            }
            ExitCode::from(2)
        }
    }
}

/// A complaint about an argument shows it escaped: it is what is said of the escaped ones.
fn arguments() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        let shown = std::env::args_os().map(|argument| output::harmless(&argument.to_string_lossy()));
        Cli::try_parse_from(shown).err().unwrap_or(error).exit()
    })
}

fn run(out: Out<'_>, cli: &Cli) -> Result<Answer> {
    let global = &cli.global;
    let format = global.output;
    match &cli.command {
        Command::Completions { shell } => pages::completions(out, *shell),
        Command::Config(ConfigCommand::Check { file }) => node::check(out, format, file),
        Command::Endpoint(EndpointCommand::Get { name }) => {
            endpoint::get(out, &client(global)?, format, name)
        }
        Command::Endpoint(EndpointCommand::List) => endpoint::list(out, &client(global)?, format),
        Command::Identity(IdentityCommand::List) => endpoint::identities(out, &client(global)?, format),
        Command::Man { dir } => pages::man(out, dir.as_deref()),
        Command::Monitor(args) => monitor::monitor(out, &client(global)?, format, args),
        Command::Policy(PolicyCommand::Check { files }) => check::check(out, format, files),
        Command::Policy(PolicyCommand::Explain(args)) => policy::explain(out, global, args),
        Command::Policy(PolicyCommand::Get) => policy::get(out, &client(global)?, format),
        Command::Status { wait } => {
            node::status(out, &client(global)?, format, Duration::from_secs((*wait).into()))
        }
        Command::Uninstall => node::uninstall(global.config.as_deref()),
    }
}

/// The daemon that was named: by its socket, by its node file, or the one of this machine.
fn client(global: &Global) -> Result<Client> {
    let socket = match (&global.socket, &global.config) {
        (Some(socket), _) => socket.clone(),
        (None, Some(file)) => node::read(file)?.api.socket,
        (None, None) => PathBuf::from(SOCKET),
    };
    Client::new(socket)
}

/// Says something on the standard error; if nobody listens there, there is nobody to tell.
fn tell(lines: &[String]) {
    let lines: Vec<String> = lines.iter().map(|line| output::harmless(line)).collect();
    let _result = writeln!(io::stderr(), "sluice: {}", lines.join("\n"));
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let of_io = |cause: &io::Error| cause.kind() == ErrorKind::BrokenPipe;
    let of_json = |cause: &serde_json::Error| cause.io_error_kind() == Some(ErrorKind::BrokenPipe);
    error
        .chain()
        .any(|cause| cause.downcast_ref().is_some_and(of_io) || cause.downcast_ref().is_some_and(of_json))
}
