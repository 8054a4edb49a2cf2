//! Measures the latency of an honest client and the memory of rproxy during attacks by other clients.

mod attack;
mod http2;

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use self::attack::{Attack, RunningAttack};
use crate::cargo;
use crate::compare::load::{Load, Target};
use crate::compare::machine::Machine;
use crate::compare::memory::Memory;
use crate::compare::programs::Program;
use crate::compare::proxies::{self, Place, Running};
use crate::compare::statistics::Spread;
use crate::compare::template::Conditions;
use crate::compare::workbench::Workbench;

/// Measures the latency of an honest client with and without attacks, and writes a table.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Number of measurement runs per attack.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pairs: u16,
    /// Duration of a measurement run in seconds.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Output file of the table.
    #[arg(long, default_value = "docs/contributing/reliability/floods.md")]
    out: PathBuf,
    /// rproxy binary to measure, instead of a new build.
    #[arg(long)]
    rproxy: Option<PathBuf>,
    /// Run only attacks whose name contains this text.
    #[arg(long)]
    only: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // Dropping the future ends the processes that it started.
        tokio::select! {
            done = flood(options) => done,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

/// The load of the honest client, which is low enough for a machine under attack.
const HONEST: Load = Load::OpenLoop { rate: 500, connections: 8 };

async fn flood(options: &Options) -> Result<()> {
    let rproxy = match &options.rproxy {
        Some(path) => path.canonicalize()?,
        None => cargo::build("release", &["-p", "rproxy-bin"])?.join("rproxy"),
    };
    let workbench = Workbench::new()?;
    let rproxy = Program::rproxy("rproxy", &rproxy, workbench.folder()).await?;
    let machine = Machine::here().await;
    let origin = proxies::start_files(&workbench.place()?, &workbench.files).await?;
    let mut rows = Vec::new();
    for attack in Attack::ALL {
        if options.only.as_ref().is_some_and(|only| !attack.name().contains(only)) {
            continue;
        }
        let row = turns(options, &workbench, &rproxy, &origin, attack).await.with_context(|| attack.name())?;
        println!("{}: {}", attack.name(), row.ratio);
        rows.push(row);
    }
    let table = table(options, &machine, &rows)?;
    if let Some(folder) = options.out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&options.out, &table)?;
    println!("{table}");
    Ok(())
}

/// The result of one attack: latency and memory.
struct Row {
    attack: Attack,
    /// The 99th percentile latency of the honest client without the attack, in milliseconds.
    alone: Spread,
    flooded: Spread,
    ratio: Spread,
    /// The resident memory of rproxy at the end of a run without the attack, in bytes.
    memory_alone: u64,
    memory_flooded: u64,
    /// The connections and sent bytes of the attackers in all runs, as text.
    done: String,
}

async fn turns(
    options: &Options,
    workbench: &Workbench,
    rproxy: &Program,
    origin: &Running,
    attack: Attack,
) -> Result<Row> {
    let folder = workbench.place()?;
    let place = Place {
        folder: &folder,
        origin: origin.address,
        certificate: &workbench.certificate,
        conditions: Conditions { tls: attack.is_over_tls(), ..Conditions::default() },
    };
    let running = rproxy.start(place).await?;
    let target = |path: &str| Target {
        address: running.address,
        path: path.to_owned(),
        origin: origin.address,
        certificate: attack.is_over_tls().then(|| workbench.certificate.clone()),
    };
    let honest = target("/small");
    let duration = Duration::from_secs(options.seconds);
    HONEST.run(&honest, Duration::from_secs(1)).await?;
    let (mut alone, mut flooded) = (Vec::new(), Vec::new());
    let (mut memory_alone, mut memory_flooded) = (0, 0);
    let mut done = attack::Done::default();
    for _ in 0..options.pairs {
        alone.push(percentile(&honest, duration).await?);
        memory_alone = memory_alone.max(Memory::of(running.process.id())?.resident);
        let running_attack = RunningAttack::begin(attack, &target(attack.path()))?;
        // Time to build up the attack.
        sleep(Duration::from_secs(1)).await;
        flooded.push(percentile(&honest, duration).await?);
        memory_flooded = memory_flooded.max(Memory::of(running.process.id())?.resident);
        done += running_attack.end()?;
        sleep(Duration::from_millis(500)).await;
    }
    Ok(Row {
        attack,
        alone: Spread::of(&alone).context("no turns")?,
        flooded: Spread::of(&flooded).context("no turns")?,
        ratio: Spread::of_ratios(&flooded, &alone).context("no turns")?,
        memory_alone,
        memory_flooded,
        done: done.to_string(),
    })
}

/// Returns the 99th percentile latency in milliseconds. Fails if a request got no response.
async fn percentile(target: &Target, duration: Duration) -> Result<f64> {
    let tally = HONEST.run(target, duration).await?;
    let latencies = tally.latencies.context("no latencies")?;
    Ok(latencies.value_at_quantile(0.99) as f64 / 1e6)
}

fn table(options: &Options, machine: &Machine, rows: &[Row]) -> Result<String> {
    let mut text = format!(
        "<!-- Written by `cargo run --release -p rproxy-benches -- floods`. -->\n\n\
         # Flood attack results\n\n\
         Latency of an honest client ({}), measured in {} pairs of turns of {} s, without and with each attack. All of its \
         requests got 200. Client, attackers, rproxy and its backend share the machine. The attackers run with `SCHED_IDLE`, so \
         they use only processor time that no other process needs; the second column shows how much they achieved.\n\n\
         {} with {} cores, Linux {}, commit {}, load {} at the start.\n\n\
         | Attack | Work of the attackers | p99 without, ms | p99 with, ms | Ratio | Memory without | Memory with |\n\
         |---|---|--:|--:|--:|--:|--:|\n",
        HONEST.describe(),
        options.pairs,
        options.seconds,
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.commit,
        machine.load,
    );
    for row in rows {
        let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        writeln!(
            text,
            "| {}: {} | {} | {:.2} | {:.2} | {:.2} | {} | {} |",
            row.attack.name(),
            row.attack.describe(),
            row.done,
            row.alone,
            row.flooded,
            row.ratio,
            mebibytes(row.memory_alone),
            mebibytes(row.memory_flooded),
        )?;
    }
    Ok(text)
}
