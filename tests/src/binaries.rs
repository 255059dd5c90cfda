//! Where the programs under test are.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// `sluiced` or `sluice`, built in the profile of the running program.
///
/// # Errors
/// The build fails.
pub fn program(name: &str) -> Result<PathBuf> {
    static DIRECTORY: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    directory.clone().map(|d| d.join(name)).map_err(anyhow::Error::msg)
}

/// The kernel object.
///
/// # Errors
/// It has not been built.
pub fn kernel_object() -> Result<PathBuf> {
    let object = checkout().join("target/bpf/redirect.o");
    ensure!(object.exists(), "no kernel object at {}: run `make bpf`", object.display());
    Ok(object)
}

fn build() -> Result<PathBuf> {
    let mut directory = std::env::current_exe()?;
    let _popped = directory.pop();
    if directory.ends_with("deps") {
        let _popped = directory.pop();
    }
    let mut cargo = Command::new(env!("CARGO"));
    let _: &mut Command = cargo
        .current_dir(checkout())
        .args(["build", "--quiet", "-p", "sluiced", "-p", "sluice", "--bins"])
        .env("CARGO_TARGET_DIR", directory.parent().context("a target directory")?);
    if directory.ends_with("release") {
        let _: &mut Command = cargo.arg("--release");
    }
    ensure!(cargo.status()?.success(), "cargo build -p sluiced -p sluice failed");
    Ok(directory)
}
