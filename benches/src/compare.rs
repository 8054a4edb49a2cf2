//! Compares rproxy with other proxies that do equal work, in alternating runs on one machine.

pub(crate) mod certificate;
mod figure;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod memory;
mod outcome;
mod plot;
mod process;
mod processor;
pub(crate) mod programs;
pub(crate) mod proxies;
mod pypi;
mod report;
mod results;
mod scenario;
mod seen;
pub(crate) mod statistics;
mod summary;
pub(crate) mod template;
mod turns;
pub(crate) mod workbench;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::cargo;
pub(crate) use machine::Machine;
pub(crate) use process::{Process, free_address};
use programs::{Binary, Program, Programs};
use pypi::Environment;
use report::Report;
use scenario::Scenario;
use seen::Seen;
use workbench::Workbench;

/// Compares rproxy with nginx, HAProxy, Varnish, Envoy, Traefik and Caddy, and writes a report.
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
    /// rproxy binary to measure, as LABEL=PATH (repeatable), instead of a new plain release build.
    #[arg(long, value_name = "LABEL=PATH")]
    binary: Vec<Binary>,
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
    let workbench = Workbench::new()?;
    let mut builds = Vec::new();
    for Binary { label, path } in binaries(options)? {
        builds.push(Program::rproxy(&format!("rproxy {label}"), &path, workbench.folder()).await?);
    }
    let programs = Programs::find(builds, &Environment(cargo::target()?.join("compare-peers"))).await;
    let scenarios = match options.scenario.as_slice() {
        [] => Scenario::value_variants(),
        some => some,
    };
    let machine = Machine::here().await;
    let seen = observe(&workbench, &programs.present).await?;
    let mut outcomes = Vec::new();
    for scenario in scenarios {
        outcomes.push(turns::run(&workbench, &programs.present, *scenario, options).await);
    }
    fs::create_dir_all(&options.out)?;
    let plots = plot::all(&programs.present, &outcomes, &options.out)?;
    fs::write(options.out.join("compare.json"), results::json(options, &machine, &programs, &outcomes)?)?;
    let report = Report { options, machine, programs, seen, outcomes, plots }.to_string();
    fs::write(options.out.join("compare.md"), &report)?;
    println!("{report}");
    Ok(())
}

/// Returns the binaries to measure: those of the options, or a new build.
fn binaries(options: &Options) -> Result<Vec<Binary>> {
    if !options.binary.is_empty() {
        return Ok(options.binary.clone());
    }
    // Without profile-guided optimisation, which takes half an hour.
    let path = cargo::build("release", &["-p", "rproxy-bin"])?.join("rproxy");
    Ok(vec![Binary { label: "plain".to_owned(), path }])
}

/// Records the observable features of each proxy, to show that all proxies do equal work.
async fn observe(workbench: &Workbench, programs: &[Arc<Program>]) -> Result<Vec<Result<Seen, String>>> {
    let origin = proxies::start_program(&workbench.place()?).await?;
    let mut seen = Vec::new();
    for program in programs {
        let observed = seen::look(workbench, &origin, program).await;
        seen.push(observed.map_err(|error| format!("{error:#}")));
    }
    Ok(seen)
}
