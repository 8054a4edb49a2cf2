//! The compared proxies, their configurations and their start commands.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::certificate::Certificate;
use super::process::{Process, free_address};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    Rproxy,
    Nginx,
    Haproxy,
    Varnish,
}

/// The directory, addresses and certificate with which a program is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The directory for the exclusive use of this program.
    pub(crate) folder: &'a Path,
    pub(crate) origin: SocketAddr,
    pub(crate) certificate: &'a Certificate,
    pub(crate) tls: bool,
    /// The rproxy binary to measure.
    pub(crate) rproxy: &'a Path,
}

/// A running proxy or origin.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}

/// Templates of the proxy configurations. The report shows them without the values.
const RPROXY: &str = include_str!("../../configs/rproxy.env.template");
const RPROXY_TLS: &str = include_str!("../../configs/rproxy-tls.env.template");
const NGINX: &str = include_str!("../../configs/nginx.conf.template");
const HAPROXY: &str = include_str!("../../configs/haproxy.cfg.template");
const VARNISH: &str = include_str!("../../configs/varnish.vcl.template");
const ORIGIN: &str = include_str!("../../configs/origin.nginx.conf.template");

impl Proxy {
    pub(crate) const REVERSE: &[Self] = &[Self::Rproxy, Self::Nginx, Self::Haproxy];
    pub(crate) const CACHES: &[Self] = &[Self::Rproxy, Self::Nginx, Self::Haproxy, Self::Varnish];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rproxy => "rproxy",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Varnish => "Varnish",
        }
    }

    /// Returns the first line of the version output, or `None` if the program is not installed.
    pub(crate) async fn version(self, rproxy: &Path) -> Option<String> {
        let mut command = match self {
            Self::Rproxy => with(rproxy, ["--version"]),
            Self::Nginx => with("nginx", ["-v"]),
            Self::Haproxy => with("haproxy", ["-v"]),
            Self::Varnish => with("varnishd", ["-V"]),
        };
        first_line(&mut command).await
    }

    pub(crate) async fn start(self, place: Place<'_>) -> Result<Running> {
        let address = free_address()?;
        let command = self.command(place, address)?;
        let mut process = Process::spawn(self.name(), command, place.folder)?;
        process.listens_on(address).await?;
        Ok(Running { address, process })
    }

    fn command(self, place: Place<'_>, listen: SocketAddr) -> Result<Command> {
        let write = |template, with_tls| {
            let file = place.folder.join(self.name());
            fs::write(&file, fill(template, place, listen, with_tls)?)?;
            anyhow::Ok(file)
        };
        Ok(match self {
            Self::Rproxy => {
                let mut settings = fill(RPROXY, place, listen, "")?;
                if place.tls {
                    settings += &fill(RPROXY_TLS, place, listen, "")?;
                }
                let mut command = Command::new(place.rproxy);
                // The proxy reads its settings from the environment.
                command.env_clear();
                let lines = settings.lines().filter(|line| !line.starts_with('#'));
                command.envs(lines.filter_map(|line| line.split_once('=')));
                command
            }
            Self::Nginx => with("nginx", ["-c".as_ref(), write(NGINX, " ssl http2")?.as_os_str()]),
            Self::Haproxy => {
                let with_tls = " ssl crt {{both}} alpn h2,http/1.1";
                with("haproxy", ["-db".as_ref(), "-f".as_ref(), write(HAPROXY, with_tls)?.as_os_str()])
            }
            Self::Varnish => {
                let (vcl, work) = (write(VARNISH, "")?, place.folder.join("varnish-work"));
                let mut command = with("varnishd", ["-F", "-j", "none", "-s", "malloc,64m", "-p", "thread_pools=2"]);
                command.arg("-a").arg(listen.to_string()).arg("-n").arg(work).arg("-f").arg(vcl);
                command
            }
        })
    }
}

/// Starts nginx as the origin of static files.
pub(crate) async fn start_files(folder: &Path, files: &Path) -> Result<Running> {
    let address = free_address()?;
    let text = ORIGIN.replace("{{files}}", path(files)?);
    let text = text.replace("{{folder}}", path(folder)?).replace("{{listen}}", &address.to_string());
    let file = folder.join("origin.conf");
    fs::write(&file, text)?;
    let mut process = Process::spawn("origin", with("nginx", ["-c".as_ref(), file.as_os_str()]), folder)?;
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
pub(crate) const CONFIGURATIONS: [(&str, &str); 6] = [
    ("rproxy.env", RPROXY),
    ("rproxy-tls.env (added in TLS scenarios)", RPROXY_TLS),
    ("nginx.conf", NGINX),
    ("haproxy.cfg", HAPROXY),
    ("varnish.vcl", VARNISH),
    ("origin.nginx.conf", ORIGIN),
];

/// Returns the first line that a program writes to stdout or stderr.
pub(crate) async fn first_line(command: &mut Command) -> Option<String> {
    let output = command.kill_on_drop(true).output().await.ok()?;
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().map(|line| line.trim().to_owned())
}

fn with<P: AsRef<std::ffi::OsStr>, A: AsRef<std::ffi::OsStr>>(
    program: P,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn fill(template: &str, place: Place<'_>, listen: SocketAddr, with_tls: &str) -> Result<String> {
    let text = template.replace("{{with_tls}}", if place.tls { with_tls } else { "" });
    let certificate = place.certificate;
    let values = [
        ("folder", path(place.folder)?.to_owned()),
        ("listen", listen.to_string()),
        ("origin", place.origin.to_string()),
        ("origin_host", place.origin.ip().to_string()),
        ("origin_port", place.origin.port().to_string()),
        ("certificate", path(&certificate.certificate)?.to_owned()),
        ("key", path(&certificate.key)?.to_owned()),
        ("both", path(&certificate.both)?.to_owned()),
    ];
    let text = values.iter().fold(text, |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value));
    ensure!(!text.contains("{{"), "an unknown placeholder in a template");
    Ok(text)
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
        let certificate = Certificate::write_into(folder.path()).unwrap();
        let listen = "127.0.0.1:1".parse().unwrap();
        for tls in [false, true] {
            let (folder, rproxy) = (folder.path(), Path::new("rproxy"));
            let place = Place { folder, origin: listen, certificate: &certificate, tls, rproxy };
            for proxy in Proxy::CACHES {
                proxy.command(place, listen).unwrap();
            }
        }
    }
}
