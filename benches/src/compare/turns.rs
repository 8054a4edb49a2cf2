//! Runs one scenario, with alternating measurement runs of the proxies.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::StatusCode;

use super::Options;
use super::figure::Sample;
use super::load::{Idle, Load, Target, fetch};
use super::memory::Memory;
use super::processor::Usage;
use super::proxies::{Place, Proxy, Running, start_files, start_program};
use super::scenario::{Kind, Origin, Plan, Scenario};
use super::workbench::Workbench;

/// The results of a scenario for each proxy.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) scenario: Scenario,
    pub(crate) results: Vec<(Proxy, Verdict)>,
}

#[derive(Debug)]
pub(crate) enum Verdict {
    /// The figures of a proxy, with one sample per run.
    Samples {
        samples: Vec<Sample>,
        processes: usize,
        threads: u32,
    },
    NotInstalled,
    /// The error or wrong response that invalidates all figures of this proxy.
    Void(String),
}

/// Runs a scenario, and returns errors as [`Verdict::Void`], so that other scenarios continue.
pub(crate) async fn run(workbench: &Workbench, scenario: Scenario, options: &Options) -> Outcome {
    let results = match attempt(workbench, scenario, options).await {
        Ok(results) => results,
        Err(error) => {
            let void = |proxy: &Proxy| (*proxy, Verdict::Void(format!("{error:#}")));
            scenario.plan().proxies.iter().map(void).collect()
        }
    };
    Outcome { scenario, results }
}

async fn attempt(workbench: &Workbench, scenario: Scenario, options: &Options) -> Result<Vec<(Proxy, Verdict)>> {
    let plan = scenario.plan();
    let origin = match plan.origin {
        Origin::Files => start_files(&workbench.place()?, &workbench.files).await?,
        Origin::Program => start_program(&workbench.place()?).await?,
    };
    match plan.kind {
        Kind::Turns(load) => turns(workbench, &plan, load, &origin, options).await,
        Kind::Idle | Kind::Empty => one_by_one(workbench, &plan, &origin, options).await,
    }
}

/// Alternates between the proxies, so that slow phases of the machine affect all proxies equally.
async fn turns(
    workbench: &Workbench,
    plan: &Plan,
    load: Load,
    origin: &Running,
    options: &Options,
) -> Result<Vec<(Proxy, Verdict)>> {
    let mut contestants = Vec::new();
    for proxy in plan.proxies {
        contestants.push(Contestant::prepare(workbench, plan, load, origin, *proxy).await?);
    }
    for turn in 1..=options.pairs {
        for contestant in &mut contestants {
            contestant.turn(load, Duration::from_secs(options.seconds)).await;
        }
        eprintln!("{}: {turn} of {}", plan.title, options.pairs);
    }
    Ok(contestants.into_iter().map(|contestant| (contestant.proxy, contestant.verdict)).collect())
}

/// A proxy that takes part in a scenario.
struct Contestant {
    proxy: Proxy,
    verdict: Verdict,
    /// The running proxy, or `None` if it failed to start.
    running: Option<(Running, Target)>,
}

impl Contestant {
    async fn prepare(workbench: &Workbench, plan: &Plan, load: Load, origin: &Running, proxy: Proxy) -> Result<Self> {
        if proxy.version(&workbench.rproxy).await.is_none() {
            return Ok(Self { proxy, verdict: Verdict::NotInstalled, running: None });
        }
        let place = workbench.place()?;
        Ok(match ready(workbench, plan, load, origin, proxy, &place).await {
            Ok((running, target)) => {
                let usage = Usage::of(running.process.id())?;
                let (processes, threads) = (usage.processes(), usage.threads());
                let verdict = Verdict::Samples { samples: Vec::new(), processes, threads };
                Self { proxy, verdict, running: Some((running, target)) }
            }
            Err(error) => Self { proxy, verdict: Verdict::Void(format!("{error:#}")), running: None },
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
    proxy: Proxy,
    place: &Path,
) -> Result<(Running, Target)> {
    let (running, target) = start(workbench, plan, origin, proxy, place).await?;
    if plan.origin == Origin::Files {
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
    proxy: Proxy,
    folder: &Path,
) -> Result<(Running, Target)> {
    let (certificate, tls) = (&workbench.certificate, plan.tls);
    let place = Place { folder, origin: origin.address, certificate, tls, rproxy: &workbench.rproxy };
    let running = proxy.start(place).await?;
    let certificate = tls.then(|| certificate.clone());
    let target = Target { address: running.address, path: plan.path.to_owned(), origin: origin.address, certificate };
    Ok((running, target))
}

async fn measure(running: &Running, target: &Target, load: Load, duration: Duration) -> Result<Sample> {
    let before = Usage::of(running.process.id())?;
    let tally = load.run(target, duration).await?;
    let after = Usage::of(running.process.id())?;
    Ok(Sample::of_load(after.since(&before), &tally))
}

/// Measures the memory of each proxy alone, so that no page is shared with another proxy.
async fn one_by_one(
    workbench: &Workbench,
    plan: &Plan,
    origin: &Running,
    options: &Options,
) -> Result<Vec<(Proxy, Verdict)>> {
    let mut results = Vec::new();
    for proxy in plan.proxies {
        let place = workbench.place()?;
        let verdict = match proxy.version(&workbench.rproxy).await {
            None => Verdict::NotInstalled,
            Some(_) => match hold(workbench, plan, origin, *proxy, &place, options).await {
                Ok(verdict) => verdict,
                Err(error) => Verdict::Void(format!("{error:#}")),
            },
        };
        results.push((*proxy, verdict));
        eprintln!("{}: {}", plan.title, proxy.name());
    }
    Ok(results)
}

async fn hold(
    workbench: &Workbench,
    plan: &Plan,
    origin: &Running,
    proxy: Proxy,
    place: &Path,
    options: &Options,
) -> Result<Verdict> {
    let (running, target) = start(workbench, plan, origin, proxy, place).await?;
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
