//! A long mixed load on rproxy, with reloads of its configuration and outages of its backends.
//!
//! Three conditions must hold: each response is correct, except during an outage; memory, descriptors and tasks do not
//! grow; and all resources are released after the load.

mod authority;
mod clients;
mod disturbance;
mod origin;
mod plot;
mod report;
mod requests;
mod tally;
mod watch;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as state;

use crate::cargo;
use crate::compare::{Machine, Process, free_address};
use authority::Authority;
use disturbance::{Backend, Disturbances};
pub(crate) use origin::Options as OriginOptions;
pub(crate) use origin::run as serve_origin;
use report::Report;
use requests::Target;
use tally::Tally;
use watch::Watch;

/// Runs rproxy under a mixed load with reloads and backend outages, and writes a report.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Duration of the load in minutes.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Directory for the report and its plot.
    #[arg(long, default_value = "docs/contributing/reliability")]
    out: PathBuf,
    /// rproxy binary to run, instead of a new build.
    #[arg(long)]
    rproxy: Option<PathBuf>,
    /// Run without TLS and thus without HTTP/2.
    #[arg(long)]
    plain: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // Dropping the future ends the processes that it started.
        tokio::select! {
            done = soak(options) => done,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

async fn soak(options: &Options) -> Result<()> {
    let rproxy = match &options.rproxy {
        Some(path) => path.canonicalize()?,
        None => cargo::build("release", &["-p", "rproxy-bin"])?.join("rproxy"),
    };
    let folder = TempDir::with_prefix("rproxy-soak-")?;
    let machine = Machine::here().await;
    let authority = Arc::new(Authority::new(folder.path())?);
    let backends = [Backend::start(folder.path(), "a").await?, Backend::start(folder.path(), "b").await?];
    let tls = (!options.plain).then_some(&*authority);
    let proxy = Proxy::start(&rproxy, folder.path(), &backends, tls).await?;

    let load = Duration::from_secs(options.minutes * 60);
    let watch = Arc::new(Watch::new(proxy.admin));
    let before = watch.level().await?;
    let (stop, stopped) = state::channel(false);
    let disturbances = Disturbances::new(load);
    let tally = Arc::new(Tally::new(disturbances.outages()));
    let target = Target::new(proxy.address, tls)?;
    let began = Instant::now();
    let clients = clients::all(&target, &tally, &stopped);
    let disturbing =
        tokio::spawn(disturbances.run(backends, proxy.reloading(folder.path(), &authority), stopped.clone()));
    let watching = tokio::spawn(Arc::clone(&watch).run((load / 400).max(Duration::from_secs(1)), stopped));

    tokio::time::sleep(load).await;
    stop.send_replace(true);
    clients.join_all().await;
    // The backends run until the end, so that the proxy must close idle connections by itself.
    let (samples, (disturbed, _backends)) = (watching.await?, disturbing.await??);
    let after = watch.settled(&before).await?;
    let log = proxy.log()?;

    let report = Report { machine, load: began.elapsed().min(load), before, samples, after, tally, disturbed, log };
    fs::create_dir_all(&options.out)?;
    plot::draw(&report, &options.out.join("soak.svg"))?;
    let text = report.to_string();
    fs::write(options.out.join("soak.md"), &text)?;
    println!("{text}");
    let failures = report.failures();
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// The rproxy process under load.
struct Proxy {
    process: Process,
    log: PathBuf,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Proxy {
    async fn start(rproxy: &Path, folder: &Path, backends: &[Backend; 2], tls: Option<&Authority>) -> Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let file = configuration(folder, 0)?;
        let mut command = Command::new(rproxy);
        command.env_clear().arg("--config").arg(file).envs([
            ("RPROXY_LISTEN", address.to_string()),
            ("RPROXY_HTTP_PORT", "0".to_owned()),
            ("RPROXY_ADMIN_LISTEN", admin.to_string()),
            ("RPROXY_UPSTREAM", backends.each_ref().map(|backend| backend.address().to_string()).join(",")),
            ("RPROXY_TRUSTED_PROXIES", format!("{}/32", clients::BALANCER)),
            // Small, so that the cache evicts after some minutes.
            ("RPROXY_CACHE_SIZE", "4MiB".to_owned()),
            ("RPROXY_CACHE_PATHS", "/static/**".to_owned()),
            ("RPROXY_RATE_LIMIT", clients::RATE.to_string()),
            ("RPROXY_RATE_BURST", clients::BURST.to_string()),
            ("RPROXY_IDLE_TIMEOUT", format!("{}s", clients::IDLE_TIMEOUT.as_secs())),
        ]);
        if let Some(authority) = tls {
            command.env("RPROXY_TLS_CERT", &authority.certificate).env("RPROXY_TLS_KEY", &authority.key);
        }
        let mut process = Process::spawn("rproxy", command, folder)?;
        process.listens_on(address).await?;
        Ok(Self { process, log: folder.join("rproxy.log"), address, admin })
    }

    /// Returns a function that rewrites the configuration files and reloads the proxy.
    fn reloading(&self, folder: &Path, authority: &Arc<Authority>) -> impl FnMut(u32) -> Result<()> + Send + use<> {
        let (folder, authority, id) = (folder.to_owned(), Arc::clone(authority), self.process.id());
        move |turn| {
            configuration(&folder, turn)?;
            if turn % 3 == 0 {
                authority.issue()?;
            }
            disturbance::signal(id, rustix::process::Signal::HUP)
        }
    }

    fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).context("the proxy's log")
    }
}

/// Writes the configuration file, with values that differ in each reload.
fn configuration(folder: &Path, turn: u32) -> Result<PathBuf> {
    let file = folder.join("rproxy.toml");
    let text =
        format!("blocked_paths = \"default,/private-{}/**\"\nupstream_timeout = \"{}s\"\n", turn % 7, 10 + turn % 3);
    fs::write(&file, text)?;
    Ok(file)
}
