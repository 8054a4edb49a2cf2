//! Runs one scenario, with alternating measurement runs of the proxies.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::StatusCode;

use super::Options;
use super::figure::Sample;
use super::load::{Idle, Load, Target, fetch};
use super::memory::Memory;
use super::outcome::{Outcome, Verdict};
use super::processor::Usage;
use super::programs::Program;
use super::proxies::{Place, Proxy, Running, start_files, start_program};
use super::scenario::{Kind, Origin, Plan, Scenario};
use super::workbench::Workbench;

/// Runs a scenario, and returns errors as [`Verdict::Void`], so that other scenarios continue.
pub(crate) async fn run(
    workbench: &Workbench,
    programs: &[Arc<Program>],
    scenario: Scenario,
    options: &Options,
) -> Outcome {
    let plan = scenario.plan();
    let able = programs.iter().filter(|program| plan.proxies.contains(&program.proxy)).cloned();
    let able: Vec<Arc<Program>> = able.collect();
    let results = match attempt(workbench, &able, &plan, options).await {
        Ok(verdicts) => able.into_iter().zip(verdicts).collect(),
        Err(error) => able.into_iter().map(|program| (program, Verdict::Void(format!("{error:#}")))).collect(),
    };
    Outcome { scenario, results }
}

async fn attempt(
    workbench: &Workbench,
    programs: &[Arc<Program>],
    plan: &Plan,
    options: &Options,
) -> Result<Vec<Verdict>> {
    let origin = match plan.origin {
        Origin::Files => start_files(&workbench.place()?, &workbench.files).await?,
        Origin::Program => start_program(&workbench.place()?).await?,
    };
    match plan.kind {
        Kind::Turns(load) => turns(workbench, programs, plan, load, &origin, options).await,
        Kind::Idle | Kind::Empty => one_by_one(workbench, programs, plan, &origin, options).await,
    }
}

/// Alternates between the programs, so that slow phases of the machine affect all of them equally.
async fn turns(
    workbench: &Workbench,
    programs: &[Arc<Program>],
    plan: &Plan,
    load: Load,
    origin: &Running,
    options: &Options,
) -> Result<Vec<Verdict>> {
    let mut contestants = Vec::new();
    for program in programs {
        contestants.push(Contestant::prepare(workbench, plan, load, origin, program).await?);
    }
    for turn in 1..=options.pairs {
        for contestant in &mut contestants {
            contestant.turn(load, Duration::from_secs(options.seconds)).await;
        }
        eprintln!("{}: {turn} of {}", plan.title, options.pairs);
    }
    Ok(contestants.into_iter().map(|contestant| contestant.verdict).collect())
}

/// A proxy that takes part in a scenario.
struct Contestant {
    verdict: Verdict,
    /// The running proxy, or `None` if it failed to start.
    running: Option<(Running, Target)>,
}

impl Contestant {
    async fn prepare(
        workbench: &Workbench,
        plan: &Plan,
        load: Load,
        origin: &Running,
        program: &Program,
    ) -> Result<Self> {
        Ok(match ready(workbench, plan, load, origin, program).await {
            Ok((running, target)) => {
                let usage = Usage::of(running.process.id())?;
                let (processes, threads) = (usage.processes(), usage.threads());
                let verdict = Verdict::Samples { samples: Vec::new(), processes, threads };
                Self { verdict, running: Some((running, target)) }
            }
            Err(error) => Self { verdict: Verdict::Void(format!("{error:#}")), running: None },
        })
    }

    async fn turn(&mut self, load: Load, duration: Duration) {
        let (Some((running, target)), Verdict::Samples { samples, .. }) = (&self.running, &mut self.verdict) else {
            return;
        };
        match measure(running, target, load, duration).await {
            Ok(sample) => samples.push(sample),
            Err(error) => self.verdict = Verdict::Void(format!("{error:#}")),
        }
    }
}

/// Starts a proxy, checks its response, and warms it up.
async fn ready(
    workbench: &Workbench,
    plan: &Plan,
    load: Load,
    origin: &Running,
    program: &Program,
) -> Result<(Running, Target)> {
    let folder = workbench.place()?;
    let (running, target) = start(workbench, plan, origin, program, &folder).await?;
    // With several sites, no site serves the host of this request.
    if plan.origin == Origin::Files && plan.conditions.sites == 0 {
        let response = fetch(&target.at(0), &[]).await?;
        ensure!(response.status() == StatusCode::OK, "{} returned {}", target.path, response.status());
        // Numbered objects all have the content of this file.
        let file = if target.path.contains("{n}") { "1k.js" } else { target.path.trim_start_matches('/') };
        let file = workbench.files.join(file);
        ensure!(*response.body() == std::fs::read(file)?, "{} has another content", target.path);
    }
    load.run(&target, load.warm_up()).await.context("warming up")?;
    if plan.proxies == Proxy::CACHES && matches!(load, Load::Wrk { .. }) {
        let status = fetch(&target, &[]).await?.headers().get("cache-status").cloned();
        let is_hit = status.is_some_and(|status| String::from_utf8_lossy(status.as_bytes()).contains("; hit"));
        ensure!(is_hit, "the response is not a cache hit");
    }
    Ok((running, target))
}

async fn start(
    workbench: &Workbench,
    plan: &Plan,
    origin: &Running,
    program: &Program,
    folder: &Path,
) -> Result<(Running, Target)> {
    let (certificate, conditions) = (&workbench.certificate, plan.conditions);
    let running = program.start(Place { folder, origin: origin.address, certificate, conditions }).await?;
    let certificate = conditions.tls.then(|| certificate.clone());
    let target = Target { address: running.address, path: plan.path.to_owned(), origin: origin.address, certificate };
    Ok((running, target))
}

async fn measure(running: &Running, target: &Target, load: Load, duration: Duration) -> Result<Sample> {
    let before = Usage::of(running.process.id())?;
    let tally = load.run(target, duration).await?;
    let after = Usage::of(running.process.id())?;
    Ok(Sample::of_load(after.since(&before), &tally))
}

/// Measures the memory of each program alone, so that no page is shared with another program.
async fn one_by_one(
    workbench: &Workbench,
    programs: &[Arc<Program>],
    plan: &Plan,
    origin: &Running,
    options: &Options,
) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    for program in programs {
        let verdict = hold(workbench, plan, origin, program, options).await;
        verdicts.push(verdict.unwrap_or_else(|error| Verdict::Void(format!("{error:#}"))));
        eprintln!("{}: {}", plan.title, program.name);
    }
    Ok(verdicts)
}

async fn hold(
    workbench: &Workbench,
    plan: &Plan,
    origin: &Running,
    program: &Program,
    options: &Options,
) -> Result<Verdict> {
    let folder = workbench.place()?;
    let (running, target) = start(workbench, plan, origin, program, &folder).await?;
    let id = running.process.id();
    // Start-up work may continue after the socket listens.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sample = match plan.kind {
        Kind::Turns(_) | Kind::Empty => Sample::of_memory(Memory::of(id)?),
        Kind::Idle => {
            fetch(&target, &[]).await?;
            let without = Memory::of(id)?;
            let mut idle = Idle::open(&target, options.idle_connections).await?;
            tokio::time::sleep(Duration::from_secs(options.idle_seconds)).await;
            let with = Memory::of(id)?;
            idle.are_all_open()?;
            idle.check_some(&target, options.idle_connections.div_ceil(100)).await?;
            Sample::of_growth(without, with, options.idle_connections)
        }
    };
    let usage = Usage::of(id)?;
    Ok(Verdict::Samples { samples: vec![sample], processes: usage.processes(), threads: usage.threads() })
}
