//! Builds the programs that the benchmarks run.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Runs `cargo build` with `arguments`. Returns the folder of the binaries.
pub(crate) fn build(profile: &str, arguments: &[&str]) -> Result<PathBuf> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let status = command.args(["build", "--profile", profile]).args(arguments).status()?;
    ensure!(status.success(), "`cargo build {}` failed", arguments.join(" "));
    // This program is in a sibling folder.
    Ok(target()?.join(if profile == "dev" { "debug" } else { profile }))
}

/// Returns the target folder that contains this program.
pub(crate) fn target() -> Result<PathBuf> {
    let own = env::current_exe()?;
    let target = own.parent().and_then(|folder| folder.parent()).context("no target folder")?;
    Ok(target.to_owned())
}
