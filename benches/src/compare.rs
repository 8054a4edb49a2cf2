//! Compares rproxy with other proxies that do equal work, in alternating runs on one machine.

pub(crate) mod certificate;
mod figure;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod memory;
mod plot;
mod process;
mod processor;
pub(crate) mod proxies;
mod report;
mod scenario;
mod seen;
pub(crate) mod statistics;
mod turns;
pub(crate) mod workbench;

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::cargo;
pub(crate) use machine::Machine;
pub(crate) use process::{Process, free_address};
use proxies::Proxy;
use report::Report;
use scenario::Scenario;
use seen::Seen;
use workbench::Workbench;

/// Compares rproxy with nginx, HAProxy and Varnish, and writes a report.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Scenario to run (repeatable); all scenarios by default.
    #[arg(long, value_enum)]
    scenario: Vec<Scenario>,
    /// Number of runs per proxy.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pairs: u16,
    /// Duration of one run in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Directory for the report and its plots.
    #[arg(long, default_value = "benches/results")]
    out: PathBuf,
    /// rproxy binary to measure, instead of a new build.
    #[arg(long)]
    rproxy: Option<PathBuf>,
    /// Number of connections in the idle scenarios.
    #[arg(long, default_value_t = 10_000)]
    idle_connections: usize,
    /// Seconds for which the connections of the idle scenarios are idle.
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // Dropping the future ends the processes that it started.
        tokio::select! {
            done = compare(options) => done,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

async fn compare(options: &Options) -> Result<()> {
    let rproxy = match &options.rproxy {
        Some(path) => path.canonicalize()?,
        // Without profile-guided optimisation, which takes half an hour.
        None => cargo::build("release", &["-p", "rproxy-bin"])?.join("rproxy"),
    };
    let workbench = Workbench::new(&rproxy)?;
    let scenarios = match options.scenario.as_slice() {
        [] => Scenario::value_variants(),
        some => some,
    };
    let machine = Machine::here(&workbench.rproxy).await;
    let seen = observe(&workbench).await?;
    let mut outcomes = Vec::new();
    for scenario in scenarios {
        outcomes.push(turns::run(&workbench, *scenario, options).await);
    }
    fs::create_dir_all(&options.out)?;
    let plots = plot::all(&outcomes, &options.out)?;
    let report = Report { options, machine, seen, outcomes, plots }.to_string();
    fs::write(options.out.join("compare.md"), &report)?;
    println!("{report}");
    Ok(())
}

/// Records the observable features of each proxy, to show that all proxies do equal work.
async fn observe(workbench: &Workbench) -> Result<Vec<(Proxy, Result<Seen, String>)>> {
    let origin = proxies::start_program(&workbench.place()?).await?;
    let mut seen = Vec::new();
    for proxy in Proxy::CACHES {
        let observed = seen::look(workbench, &origin, *proxy).await;
        seen.push((*proxy, observed.map_err(|error| format!("{error:#}"))));
    }
    Ok(seen)
}
