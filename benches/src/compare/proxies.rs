//! The compared proxies, their configurations and their start commands.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::StatusCode;
use tokio::process::Command;

use super::certificate::Certificate;
use super::load::{Target, fetch};
use super::process::{Process, free_address};
use super::template::Conditions;

/// A kind of proxy, with its configuration and its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    Rproxy,
    Nginx,
    Haproxy,
    Varnish,
    Envoy,
    Traefik,
    Caddy,
}

/// The directory, origin and certificate with which a program is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The directory for the exclusive use of this program.
    pub(crate) folder: &'a Path,
    pub(crate) origin: SocketAddr,
    pub(crate) certificate: &'a Arc<Certificate>,
    pub(crate) conditions: Conditions,
}

/// A running proxy or origin.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}

/// Templates of the proxy configurations. The report shows them without the values.
const RPROXY: &str = include_str!("../../configs/rproxy.toml.template");
const NGINX: &str = include_str!("../../configs/nginx.conf.template");
const HAPROXY: &str = include_str!("../../configs/haproxy.cfg.template");
const VARNISH: &str = include_str!("../../configs/varnish.vcl.template");
const ENVOY: &str = include_str!("../../configs/envoy.yaml.template");
const TRAEFIK: &str = include_str!("../../configs/traefik.yml.template");
const CADDY: &str = include_str!("../../configs/Caddyfile.template");
const ORIGIN: &str = include_str!("../../configs/origin.nginx.conf.template");

impl Proxy {
    pub(crate) const REVERSE: &[Self] =
        &[Self::Rproxy, Self::Nginx, Self::Haproxy, Self::Envoy, Self::Traefik, Self::Caddy];
    pub(crate) const CACHES: &[Self] = &[Self::Rproxy, Self::Nginx, Self::Haproxy, Self::Varnish];
    /// The caches that revalidate a stale response before they serve it.
    pub(crate) const REVALIDATING: &[Self] = &[Self::Rproxy, Self::Nginx, Self::Varnish];

    fn name(self) -> &'static str {
        match self {
            Self::Rproxy => "rproxy",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Varnish => "varnish",
            Self::Envoy => "envoy",
            Self::Traefik => "traefik",
            Self::Caddy => "caddy",
        }
    }

    /// Returns the version of a program.
    pub(crate) async fn version(self, program: &Path) -> Result<String> {
        let argument = match self {
            Self::Rproxy | Self::Envoy => "--version",
            Self::Nginx | Self::Haproxy => "-v",
            Self::Varnish => "-V",
            Self::Traefik | Self::Caddy => "version",
        };
        version_line(Command::new(program).arg(argument)).await
    }

    pub(crate) async fn start(self, program: &Path, place: Place<'_>) -> Result<Running> {
        let address = free_address()?;
        let command = self.command(program, place, address)?;
        let mut process = Process::spawn(self.name(), command, place.folder)?;
        process.listens_on(address).await?;
        if self == Self::Traefik {
            traefik_is_configured(address, place).await?;
        }
        Ok(Running { address, process })
    }

    fn command(self, program: &Path, place: Place<'_>, listen: SocketAddr) -> Result<Command> {
        let folder = place.folder;
        let (template, file) = match self {
            Self::Rproxy => (RPROXY, "rproxy.toml"),
            Self::Nginx => (NGINX, "nginx.conf"),
            Self::Haproxy => (HAPROXY, "haproxy.cfg"),
            Self::Varnish => (VARNISH, "varnish.vcl"),
            Self::Envoy => (ENVOY, "envoy.yaml"),
            // Traefik reads a `traefik.yml` in the current directory as its static configuration.
            Self::Traefik => (TRAEFIK, "dynamic.yml"),
            Self::Caddy => (CADDY, "Caddyfile"),
        };
        let file = folder.join(file);
        fs::write(&file, place.conditions.fill(template, &values(place, listen)?)?)?;
        let mut command = Command::new(program);
        // No setting comes from the environment, and no state from an earlier run.
        command.env_clear().env("HOME", folder).current_dir(folder);
        match self {
            Self::Rproxy => command.arg("--config").arg(file),
            Self::Nginx => command.arg("-c").arg(file),
            Self::Haproxy => {
                fs::write(folder.join("sites.map"), sites_map(place.conditions))?;
                command.arg("-db").arg("-f").arg(file)
            }
            Self::Varnish => {
                // Varnish runs a C compiler.
                command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
                command.args(["-F", "-j", "none", "-s", "malloc,64m", "-p", "thread_pools=2"]);
                command.arg("-a").arg(listen.to_string()).arg("-n").arg(folder.join("varnish-work")).arg("-f").arg(file)
            }
            Self::Envoy => {
                command.args(["--concurrency", "2", "--disable-hot-restart", "--log-level", "error", "-c"]).arg(file)
            }
            Self::Traefik => {
                command.env("GOMAXPROCS", "2").arg(format!("--entrypoints.public.address={listen}"));
                command.arg(format!("--providers.file.filename={}", path(&file)?)).args([
                    "--providers.file.watch=false",
                    "--global.checknewversion=false",
                    "--global.sendanonymoususage=false",
                    "--log.level=ERROR",
                ])
            }
            Self::Caddy => {
                command.env("GOMAXPROCS", "2");
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file)
            }
        };
        Ok(command)
    }
}

/// Waits until Traefik has read its dynamic configuration, which it does after it listens.
///
/// Then it responds with 418 to a blocked path, and before that with 404, or with an error in the handshake.
async fn traefik_is_configured(address: SocketAddr, place: Place<'_>) -> Result<()> {
    let certificate = place.conditions.tls.then(|| place.certificate.clone());
    let target = Target { address, path: "/.env".to_owned(), origin: place.origin, certificate };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fetch(&target, &[]).await.is_ok_and(|response| response.status() == StatusCode::IM_A_TEAPOT) {
        ensure!(Instant::now() < deadline, "Traefik did not apply its configuration");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Starts nginx as the origin of static files.
pub(crate) async fn start_files(folder: &Path, files: &Path) -> Result<Running> {
    let address = free_address()?;
    let text = ORIGIN.replace("{{files}}", path(files)?);
    let text = text.replace("{{folder}}", path(folder)?).replace("{{listen}}", &address.to_string());
    let file = folder.join("origin.conf");
    fs::write(&file, text)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(file);
    let mut process = Process::spawn("origin", command, folder)?;
    process.listens_on(address).await?;
    Ok(Running { address, process })
}

/// Starts this benchmark program as the origin; see [`crate::origin`].
pub(crate) async fn start_program(folder: &Path) -> Result<Running> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["origin", "--listen", &address.to_string()]);
    let mut process = Process::spawn("program", command, folder)?;
    process.listens_on(address).await?;
    Ok(Running { address, process })
}

/// The configuration templates and their file names.
pub(crate) const CONFIGURATIONS: [(&str, &str); 8] = [
    ("rproxy.toml", RPROXY),
    ("nginx.conf", NGINX),
    ("haproxy.cfg", HAPROXY),
    ("varnish.vcl", VARNISH),
    ("envoy.yaml", ENVOY),
    ("dynamic.yml of Traefik", TRAEFIK),
    ("Caddyfile", CADDY),
    ("origin.nginx.conf", ORIGIN),
];

/// Returns the line with the version that a program writes to stdout or stderr, without the name of its path.
pub(crate) async fn version_line(command: &mut Command) -> Result<String> {
    let program = command.as_std().get_program().display().to_string();
    let output = command.kill_on_drop(true).output().await?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    ensure!(!line.is_empty(), "no version");
    let version = line.trim_start_matches(&program).trim_start();
    Ok(version
        .strip_prefix("version:")
        .or_else(|| version.strip_prefix("Version:"))
        .unwrap_or(version)
        .trim()
        .to_owned())
}

/// Returns HAProxy's map from host names to backends.
fn sites_map(conditions: Conditions) -> String {
    conditions.hosts().iter().enumerate().map(|(number, host)| format!("{host} application{number}\n")).collect()
}

fn values(place: Place<'_>, listen: SocketAddr) -> Result<[(&'static str, String); 10]> {
    let Place { folder, origin, certificate, .. } = place;
    Ok([
        ("folder", path(folder)?.to_owned()),
        ("listen", listen.to_string()),
        ("listen_host", listen.ip().to_string()),
        ("listen_port", listen.port().to_string()),
        ("origin", origin.to_string()),
        ("origin_host", origin.ip().to_string()),
        ("origin_port", origin.port().to_string()),
        ("certificate", path(&certificate.certificate)?.to_owned()),
        ("key", path(&certificate.key)?.to_owned()),
        ("both", path(&certificate.both)?.to_owned()),
    ])
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a folder name that is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_all_placeholders_of_the_configuration_templates() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = Arc::new(Certificate::write_into(folder.path()).unwrap());
        let listen = "127.0.0.1:1".parse().unwrap();
        for (tls, h2c, sites) in [(false, false, 0), (true, false, 0), (true, true, 0), (false, false, 3)] {
            let conditions = Conditions { tls, h2c, sites };
            let place = Place { folder: folder.path(), origin: listen, certificate: &certificate, conditions };
            for proxy in Proxy::REVERSE.iter().chain(Proxy::CACHES) {
                proxy.command(Path::new("proxy"), place, listen).unwrap();
            }
        }
    }
}
