//! The daemon: reads its arguments and runs [`sluiced::daemon`].

use anyhow::Context;
use clap::{CommandFactory, Parser};
use proxy_core::text::harmless;
use sluiced::daemon;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sluiced                                     the node file is /etc/sluice/node.toml
  sluiced --config examples/laptop/node.toml  without root, where it says `mode = \"none\"`
  sluiced --uninstall                         undo everything in the kernel

Signals: SIGHUP reads the node file and the policies again; SIGTERM and SIGINT end it when
its connections have ended, or after `[limits] drain_ms`; a second signal ends it at once. Enforcement
in the kernel stays.

Exit status: 0 ended by a signal, 1 the node file is not valid, 2 could not start.";

/// Enforces network policy on this node: who may talk to whom in the kernel, what they may say in one proxy.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// The node file, TOML or YAML.
    #[arg(long, value_name = "FILE", default_value = "/etc/sluice/node.toml")]
    config: PathBuf,
    /// Write the man page of this program.
    #[arg(long, exclusive = true)]
    man: bool,
    /// Remove everything from the kernel (programs, maps, routes, sysctls) and print what was removed.
    #[arg(long)]
    uninstall: bool,
}

fn main() -> ExitCode {
    let arguments = arguments();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&mut io::stderr(), &failure.lines());
            ExitCode::from(failure.status())
        }
    }
}

/// A complaint about an argument shows it escaped: it is what is said of the escaped ones.
fn arguments() -> Arguments {
    Arguments::try_parse().unwrap_or_else(|error| {
        let shown = std::env::args_os().map(|argument| harmless(&argument.to_string_lossy()).into_owned());
        Arguments::try_parse_from(shown).err().unwrap_or(error).exit()
    })
}

fn run(arguments: &Arguments) -> Result<(), daemon::Failure> {
    if arguments.man {
        return Ok(man(&mut io::stdout()).context("the man page can't be written")?);
    }
    match arguments.uninstall {
        true => daemon::uninstall(&arguments.config).map(|undone| say(&mut io::stdout(), &undone)),
        false => daemon::run(&arguments.config),
    }
}

/// Section 8: what administrators run.
fn man(to: &mut dyn Write) -> io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command()).section("8").render(&mut page)?;
    to.write_all(&page)?;
    to.flush()
}

/// Names of interfaces and files are in the lines. Where nobody listens, there is nobody to tell.
fn say(to: &mut dyn Write, lines: &[String]) {
    for line in lines {
        drop(writeln!(to, "{}", harmless(line)));
    }
}
