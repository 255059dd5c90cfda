//! What the definitions of the commands are good for besides reading them: completions and man pages.

use crate::args::Cli;
use crate::output::{Answer, Out};
use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

pub(crate) fn completions(out: Out<'_>, shell: Shell) -> Result<Answer> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sluice", &mut script);
    out.write_all(&script)?;
    Ok(Answer::Yes)
}

pub(crate) fn man(out: Out<'_>, directory: Option<&Path>) -> Result<Answer> {
    match directory {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            out.write_all(&page)?;
        }
        Some(directory) => {
            let context = || format!("can't write man pages to `{}`", directory.display());
            std::fs::create_dir_all(directory).with_context(context)?;
            clap_mangen::generate_to(Cli::command(), directory).with_context(context)?;
        }
    }
    Ok(Answer::Yes)
}
