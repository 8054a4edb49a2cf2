//! What only this machine and its network can say of a configuration, for `--check`: whether the certificate authority
//! will find the names here, whether the listeners can be bound, whether the folder can be written.
//!
//! Nothing here makes a configuration invalid: a name may lead here over a balancer that this machine can't see.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rproxy_server::Listen;
use rustix::fs::{Access, access};

use crate::config::Config;

/// What was found, one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preflight {
    findings: Vec<Finding>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// As it should be.
    Ok(String),
    /// Not as it mostly is, which need not be wrong.
    Note(String),
    /// Something will not work.
    Problem(String),
}

impl Preflight {
    /// Looks at the disk and the network: up to some seconds. Without names to order certificates for there is nothing
    /// to look at but the folder of a local authority.
    ///
    /// The main listeners are bound for a moment, so that it can be seen whether a name leads to them.
    pub fn run(config: &Config) -> Self {
        let mut findings = Vec::new();
        if config.tls_local || !config.acme_domains().is_empty() {
            findings.push(check_directory(&config.tls_cache_dir));
        }
        if !config.acme_domains().is_empty() {
            let listeners = check_listeners(config.listeners(), &mut findings);
            // Held to be taken, not to be answered on.
            let _redirect = check_listeners(config.redirect_listeners(), &mut findings);
            let names = config.acme_domains().iter().map(|name| name.as_str().to_owned());
            findings.extend(check_names(names.collect(), VALIDATION_PORT, listeners));
        }
        Self { findings }
    }

    /// What was found.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

/// As comments, to follow the report of `--check`.
impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.findings.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n# Preflight, as far as this machine can tell")?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "# {finding}"))
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

/// RFC 8737 §3: the authority connects to this port, whatever is listened on.
const VALIDATION_PORT: u16 = 443;

/// How long all names together may take.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(6);
/// How long one connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the folder, or the one that it would be made in, can be written to. Nothing is made.
fn check_directory(path: &Path) -> Finding {
    let shown = path.display();
    let Some(present) = path.ancestors().find(|folder| folder.exists()) else {
        return Finding::Problem(format!("{shown} can't be made"));
    };
    match access(present, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if !present.is_dir() => Finding::Problem(format!("{} is no folder", present.display())),
        Ok(()) if present == path => Finding::Ok(format!("{shown} can be written to")),
        Ok(()) => Finding::Ok(format!("{shown} can be made in {}", present.display())),
        Err(error) => {
            Finding::Problem(format!("{} can't be written to: {}", present.display(), io::Error::from(error)))
        }
    }
}

/// The listeners that could be bound; `None` where something is in the way.
fn check_listeners(listeners: Vec<Listen>, findings: &mut Vec<Finding>) -> Option<Vec<TcpListener>> {
    let mut bound = Some(Vec::new());
    for address in listeners {
        let Listen::Tcp(address) = address else { continue };
        match TcpListener::bind(address) {
            Ok(listener) => {
                findings.push(Finding::Ok(format!("{address} can be listened on")));
                bound.iter_mut().for_each(|bound| bound.extend(listener.try_clone()));
            }
            Err(error) => {
                bound = None;
                findings.push(match error.kind() {
                    ErrorKind::AddrInUse => Finding::Note(format!("{address} is taken; by an rproxy that runs?")),
                    ErrorKind::PermissionDenied => Finding::Problem(format!(
                        "{address} needs a privilege: CAP_NET_BIND_SERVICE, or a socket from systemd"
                    )),
                    _ => Finding::Problem(format!("{address} can't be listened on: {error}")),
                });
            }
        }
    }
    bound
}

/// Whether each name is this machine's, and whether its port leads to these listeners.
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
        // A resolver that does not answer can't be interrupted, only left behind.
        thread::spawn(move || sender.send((index, check_name(&name, port, can_tell.then_some(mark)))));
    }
    drop(sender);
    let mut findings: Vec<_> = names
        .iter()
        .map(|name| vec![Finding::Problem(format!("{name}: no answer within {} seconds", TOTAL_TIMEOUT.as_secs()))])
        .collect();
    let deadline = Instant::now() + TOTAL_TIMEOUT;
    while let Ok((index, of_name)) = found.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        findings[index] = of_name;
    }
    is_done.store(true, Ordering::Relaxed);
    findings.into_iter().flatten().collect()
}

/// What there is to say of one name, by address.
fn check_name(name: &str, port: u16, mark: Option<Mark>) -> Vec<Finding> {
    let addresses = match (name, port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return vec![Finding::Problem(format!("{name} does not resolve: {error}"))],
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
            let whose = match is_local(ip) {
                true => "of this machine",
                false => "not of this machine",
            };
            match (probe(address, mark), is_local(ip)) {
                (Ok(Destination::Here), true) => {
                    Finding::Ok(format!("{name} is {ip}, {whose}, and port {port} leads here"))
                }
                (Ok(Destination::Here), false) => Finding::Ok(format!(
                    "{name} is {ip}, {whose}; port {port} leads here all the same, over a router or a balancer"
                )),
                (Ok(Destination::Unknown), true) => {
                    Finding::Ok(format!("{name} is {ip}, {whose}, and something listens on port {port}"))
                }
                (Ok(Destination::Unknown), false) => Finding::Note(format!(
                    "{name} is {ip}, {whose}; something listens on port {port}: a balancer, or another machine"
                )),
                (Ok(Destination::Elsewhere), _) => Finding::Problem(format!(
                    "{name} is {ip}, {whose}, and port {port} leads to something else: the authority would find that"
                )),
                (Err(error), true) => {
                    Finding::Problem(format!("{name} is {ip}, {whose}, and port {port} can't be reached: {error}"))
                }
                (Err(error), false) => Finding::Note(format!(
                    "{name} is {ip}, {whose}, and port {port} can't be reached from here: {error}"
                )),
            }
        })
        .collect()
}

/// Where a connection leads.
enum Destination {
    /// To our own listener.
    Here,
    /// To somebody else.
    Elsewhere,
    /// To somebody; our own listeners can't be told from others now.
    Unknown,
}

fn probe(address: SocketAddr, mark: Option<Mark>) -> io::Result<Destination> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    let Some(mark) = mark else { return Ok(Destination::Unknown) };
    stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    let mut shown = Mark::default();
    Ok(match stream.read_exact(&mut shown) {
        Ok(()) if shown == mark => Destination::Here,
        // A server of TLS waits for its client to speak first.
        _ => Destination::Elsewhere,
    })
}

/// What our listeners say, so that they are known.
type Mark = [u8; 16];

fn mark() -> Mark {
    use std::hash::{BuildHasher, RandomState};
    let [one, two] = [1, 2].map(|salt| RandomState::new().hash_one(salt).to_ne_bytes());
    let mut mark = Mark::default();
    mark[..8].copy_from_slice(&one);
    mark[8..].copy_from_slice(&two);
    mark
}

/// Shows the mark to whoever connects, until told to end.
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

/// Only one's own addresses can be bound to.
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
    fn a_name_that_leads_here_is_told_from_one_that_leads_elsewhere() {
        let (ours, port) = listener();
        let name = || vec!["127.0.0.1".to_owned()];
        let found = texts(&check_names(name(), port, Some(vec![ours])));
        assert_eq!(found, [format!("ok: 127.0.0.1 is 127.0.0.1, of this machine, and port {port} leads here")]);

        let (other, port) = listener();
        let (ours, _) = listener();
        // Something that answers with bytes of its own.
        let speaks = thread::spawn(move || other.accept().unwrap().0.write_all(b"220 mail.example ESMTP").unwrap());
        let found = texts(&check_names(name(), port, Some(vec![ours])));
        assert!(found[0].starts_with("problem: ") && found[0].contains("leads to something else"), "{found:?}");
        speaks.join().unwrap();

        let (taken, port) = listener();
        let found = texts(&check_names(name(), port, None));
        assert!(found[0].starts_with("ok: ") && found[0].contains("something listens"), "{found:?}");
        drop(taken);
        let found = texts(&check_names(name(), port, Some(Vec::new())));
        assert!(found[0].starts_with("problem: ") && found[0].contains("can't be reached"), "{found:?}");
    }

    #[test]
    fn a_name_that_does_not_resolve_is_a_problem() {
        // RFC 6761 §6.4.
        let found = texts(&check_names(vec!["nowhere.invalid".to_owned()], 443, None));
        assert!(found[0].starts_with("problem: nowhere.invalid"), "{found:?}");
    }

    #[test]
    fn a_taken_port_and_a_privileged_one_are_told_apart() {
        let (taken, port) = listener();
        let mut findings = Vec::new();
        let bound = check_listeners(vec![Listen::Tcp(taken.local_addr().unwrap())], &mut findings);
        assert!(bound.is_none());
        assert_eq!(texts(&findings), [format!("note: 127.0.0.1:{port} is taken; by an rproxy that runs?")]);
        let mut findings = Vec::new();
        assert_eq!(
            check_listeners(vec!["127.0.0.1:0".parse().unwrap()], &mut findings).map(|bound| bound.len()),
            Some(1)
        );
    }

    #[test]
    fn a_folder_is_looked_at_and_not_made() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        assert_eq!(
            check_directory(&deep),
            Finding::Ok(format!("{} can be made in {}", deep.display(), root.path().display()))
        );
        assert!(!root.path().join("a").exists());
        assert_eq!(check_directory(root.path()), Finding::Ok(format!("{} can be written to", root.path().display())));
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(check_directory(&file.join("x")), Finding::Problem(_)));
    }
}
