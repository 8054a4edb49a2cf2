//! Checks of a configuration against this machine and its network, which `--check` runs.
//!
//! They find out whether ACME validation will reach this proxy, whether the listeners can be bound, and whether the
//! directories are writable. They never make a configuration invalid: a name may resolve to a load balancer that this
//! machine cannot see.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rproxy_server::ListenAddr;

use crate::config::{Config, writable_parent};
use crate::sandbox::Sandbox;
use crate::startup_advice::{folder_advice, listen_advice};

/// The results of all checks of a configuration against this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preflight {
    findings: Vec<Finding>,
}

/// The result of one preflight check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The preflight check passed.
    Ok(String),
    /// The preflight check found something unusual, which can be intended.
    Note(String),
    /// The preflight check found a problem: the proxy will not work as configured.
    Problem(String),
}

impl Preflight {
    /// Checks the directories and the network, which can take some seconds.
    ///
    /// Only certificate directories are checked if no ACME certificates are ordered. The main listeners are bound for
    /// a moment, to check whether the names lead to them.
    pub fn run(config: &Config) -> Self {
        let mut findings = Vec::new();
        if config.tls.local || !config.tls.acme_domains().is_empty() {
            findings.push(check_directory(&config.tls.cache_dir));
        }
        if !config.tls.acme_domains().is_empty() {
            let listeners = check_listeners("RPROXY_LISTEN", config.listeners(), &mut findings);
            // Bound only to check that the address is free.
            let _redirect = check_listeners("RPROXY_HTTP_PORT", config.redirect_listeners(), &mut findings);
            let names = config.tls.acme_domains().iter().map(|name| name.as_str().to_owned());
            findings.extend(check_names(names.collect(), VALIDATION_PORT, listeners));
        }
        findings.extend(Sandbox::findings(config));
        findings.iter_mut().for_each(|finding| finding.spell(config));
        Self { findings }
    }

    /// Returns the results of all preflight checks.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Returns the problems that prevent the proxy from working as configured.
    pub fn problems(&self) -> Vec<&str> {
        let problem = |finding: &'_ Finding| matches!(finding, Finding::Problem(_));
        self.findings.iter().filter(|finding| problem(finding)).map(Finding::text).collect()
    }
}

/// Formats the results as TOML comments, which follow the report of `--check`.
impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.findings.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n# Preflight checks on this machine")?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "# {finding}"))
    }
}

impl Finding {
    /// Names settings as the sources of the configuration do.
    fn spell(&mut self, config: &Config) {
        let (Self::Ok(text) | Self::Note(text) | Self::Problem(text)) = self;
        *text = config.spell(text);
    }

    fn text(&self) -> &str {
        match self {
            Self::Ok(text) | Self::Note(text) | Self::Problem(text) => text,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok(text) => write!(f, "ok: {text}"),
            Self::Note(text) => write!(f, "note: {text}"),
            Self::Problem(text) => write!(f, "problem: {text}"),
        }
    }
}

/// The port to which a certificate authority connects for TLS-ALPN-01 (RFC 8737 §3), regardless of the listen address.
const VALIDATION_PORT: u16 = 443;

/// The maximum time to check all names.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(6);
/// The maximum time for one connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Checks whether a directory is writable, or can be created in its nearest existing ancestor. Creates nothing.
fn check_directory(path: &Path) -> Finding {
    let shown = path.display();
    match writable_parent(path) {
        Ok(present) if present == path => Finding::Ok(format!("{shown} is writable")),
        Ok(present) => Finding::Ok(format!("{shown} can be created in {}", present.display())),
        Err(problem) => Finding::Problem(with_advice(
            format!("{CACHE_DIR}: {}", problem.text),
            folder_advice(CACHE_DIR, path, &io::Error::from(problem.kind)),
        )),
    }
}

const CACHE_DIR: &str = "RPROXY_TLS_CACHE_DIR";

fn with_advice(text: String, advice: Option<String>) -> String {
    advice.into_iter().fold(text, |text, advice| format!("{text}; {advice}"))
}

/// Binds the listeners; returns `None` if one of them cannot be bound.
fn check_listeners(setting: &str, listeners: Vec<ListenAddr>, findings: &mut Vec<Finding>) -> Option<Vec<TcpListener>> {
    let mut bound = Some(Vec::new());
    for listener in listeners {
        let ListenAddr::Tcp(address) = listener else { continue };
        match TcpListener::bind(address) {
            Ok(listener) => {
                findings.push(Finding::Ok(format!("{address} can be bound")));
                bound.iter_mut().for_each(|bound| bound.extend(listener.try_clone()));
            }
            Err(error) => {
                bound = None;
                findings.push(match error.kind() {
                    ErrorKind::AddrInUse => Finding::Note(format!("{address} is in use, perhaps by a running rproxy")),
                    _ => Finding::Problem(with_advice(
                        format!("{setting}: {address} cannot be bound: {error}"),
                        listen_advice(setting, &listener, &error),
                    )),
                });
            }
        }
    }
    bound
}

/// Checks whether the names resolve to this machine, and whether connections to `port` of each name reach the
/// listeners.
fn check_names(names: Vec<String>, port: u16, listeners: Option<Vec<TcpListener>>) -> Vec<Finding> {
    let is_done = Arc::new(AtomicBool::new(false));
    let mark = mark();
    let can_tell = listeners.is_some();
    for listener in listeners.into_iter().flatten() {
        let is_done = Arc::clone(&is_done);
        thread::spawn(move || serve_mark(&listener, mark, &is_done));
    }
    let (sender, found) = mpsc::channel();
    for (index, name) in names.iter().enumerate() {
        let (sender, name) = (sender.clone(), name.clone());
        // A call to the resolver cannot be interrupted, so its thread is abandoned.
        thread::spawn(move || sender.send((index, check_name(&name, port, can_tell.then_some(mark)))));
    }
    drop(sender);
    let mut findings: Vec<_> = names
        .iter()
        .map(|name| {
            vec![Finding::Note(format!("{name} could not be checked within {} seconds", TOTAL_TIMEOUT.as_secs()))]
        })
        .collect();
    let deadline = Instant::now() + TOTAL_TIMEOUT;
    while let Ok((index, of_name)) = found.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        findings[index] = of_name;
    }
    is_done.store(true, Ordering::Relaxed);
    findings.into_iter().flatten().collect()
}

/// Checks whether connections to each address of a name reach this process.
fn check_name(name: &str, port: u16, mark: Option<Mark>) -> Vec<Finding> {
    let addresses = match (name, port).to_socket_addrs() {
        Ok(addresses) => addresses,
        // A start and a reload accept the name as well: it can get its DNS record later.
        Err(error) => {
            let consequence = "the order of its certificate fails, and is retried, until it does";
            return vec![Finding::Note(format!("{name} does not resolve: {error}; {consequence}"))];
        }
    };
    let mut seen: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    seen.into_iter()
        .map(|address| {
            let ip = address.ip();
            let owner = match is_local(ip) {
                true => "this machine",
                false => "another machine",
            };
            let resolved = format!("{name} resolves to {ip} ({owner})");
            match (probe(address, mark), is_local(ip)) {
                (Ok(Destination::Here), true) => {
                    Finding::Ok(format!("{resolved}, and connections to its port {port} reach this proxy"))
                }
                (Ok(Destination::Here), false) => Finding::Ok(format!(
                    "{resolved}, but connections to its port {port} reach this proxy, through a router or load balancer"
                )),
                (Ok(Destination::Unknown), true) => {
                    Finding::Ok(format!("{resolved}, and a server listens on its port {port}"))
                }
                (Ok(Destination::Unknown), false) => Finding::Note(format!(
                    "{resolved}, and a server listens on its port {port}: a load balancer, or an unrelated server"
                )),
                (Ok(Destination::Elsewhere), _) => Finding::Problem(format!(
                    "{resolved}, and connections to its port {port} reach another server, as ACME validation would"
                )),
                (Err(error), true) => {
                    Finding::Problem(format!("{resolved}, and its port {port} cannot be reached: {error}"))
                }
                (Err(error), false) => {
                    Finding::Note(format!("{resolved}, and its port {port} cannot be reached from here: {error}"))
                }
            }
        })
        .collect()
}

/// The server that accepted a test connection.
enum Destination {
    /// This process accepted the connection.
    Here,
    /// Another process or machine accepted the connection.
    Elsewhere,
    /// The server is unknown, because the listeners of this process are not bound.
    Unknown,
}

fn probe(address: SocketAddr, mark: Option<Mark>) -> io::Result<Destination> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    let Some(mark) = mark else { return Ok(Destination::Unknown) };
    stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    let mut shown = Mark::default();
    Ok(match stream.read_exact(&mut shown) {
        Ok(()) if shown == mark => Destination::Here,
        // A TLS server waits for the client to send first.
        _ => Destination::Elsewhere,
    })
}

/// A random number that identifies the test listeners of this process.
type Mark = [u8; 16];

fn mark() -> Mark {
    use std::hash::{BuildHasher, RandomState};
    let [one, two] = [1, 2].map(|salt| RandomState::new().hash_one(salt).to_ne_bytes());
    let mut mark = Mark::default();
    mark[..8].copy_from_slice(&one);
    mark[8..].copy_from_slice(&two);
    mark
}

/// Sends the mark to every client of `listener` until `is_done` is set.
fn serve_mark(listener: &TcpListener, mark: Mark, is_done: &AtomicBool) {
    if listener.set_nonblocking(true).is_err() {
        return;
    }
    while !is_done.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let _ = stream.set_nonblocking(false).and_then(|()| stream.write_all(&mark));
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Returns whether the address belongs to this machine, by trying to bind it.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    fn texts(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn preflight_distinguishes_listeners_of_rproxy_from_other_servers() {
        let (ours, port) = listener();
        let name = || vec!["127.0.0.1".to_owned()];
        let found = texts(&check_names(name(), port, Some(vec![ours])));
        assert_eq!(
            found,
            [format!(
                "ok: 127.0.0.1 resolves to 127.0.0.1 (this machine), and connections to its port {port} reach this proxy"
            )]
        );

        let (other, port) = listener();
        let (ours, _) = listener();
        // A server that sends bytes of its own.
        let speaks = thread::spawn(move || other.accept().unwrap().0.write_all(b"220 mail.example ESMTP").unwrap());
        let found = texts(&check_names(name(), port, Some(vec![ours])));
        assert!(found[0].starts_with("problem: ") && found[0].contains("reach another server"), "{found:?}");
        speaks.join().unwrap();

        let (taken, port) = listener();
        let found = texts(&check_names(name(), port, None));
        assert!(found[0].starts_with("ok: ") && found[0].contains("a server listens"), "{found:?}");
        drop(taken);
        let found = texts(&check_names(name(), port, Some(Vec::new())));
        assert!(found[0].starts_with("problem: ") && found[0].contains("cannot be reached"), "{found:?}");
    }

    #[test]
    fn preflight_reports_unresolvable_name_as_a_note() {
        // RFC 6761 §6.4.
        let found = texts(&check_names(vec!["nowhere.invalid".to_owned()], 443, None));
        assert!(found[0].starts_with("note: nowhere.invalid does not resolve: "), "{found:?}");
    }

    #[test]
    fn preflight_reports_port_in_use_as_a_note() {
        let (taken, port) = listener();
        let mut findings = Vec::new();
        let bound = check_listeners("RPROXY_LISTEN", vec![ListenAddr::Tcp(taken.local_addr().unwrap())], &mut findings);
        assert!(bound.is_none());
        assert_eq!(texts(&findings), [format!("note: 127.0.0.1:{port} is in use, perhaps by a running rproxy")]);
        let mut findings = Vec::new();
        assert_eq!(
            check_listeners("RPROXY_LISTEN", vec!["127.0.0.1:0".parse().unwrap()], &mut findings)
                .map(|bound| bound.len()),
            Some(1)
        );
    }

    #[test]
    fn preflight_checks_directory_without_creating_it() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        assert_eq!(
            check_directory(&deep),
            Finding::Ok(format!("{} can be created in {}", deep.display(), root.path().display()))
        );
        assert!(!root.path().join("a").exists());
        assert_eq!(check_directory(root.path()), Finding::Ok(format!("{} is writable", root.path().display())));
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(check_directory(&file.join("x")), Finding::Problem(_)));
    }
}
