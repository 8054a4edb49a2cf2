//! A test ACME server on loopback: Debian's `pebble` and `pebble-challtestsrv`.
//!
//! Included with `#[path]` by every test that needs it. It depends on `rproxy-tls` (whose local CA certifies Pebble's
//! own TLS), `rproxy-test-support`, `rustls`, `rustls-pki-types` and `tempfile`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rproxy_test_support::free_port;
use rproxy_tls::{Certificates, LocalCa};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tempfile::TempDir;

/// The options of the test ACME server.
#[derive(Clone, Debug, Default)]
pub struct PebbleOptions {
    /// The port to which the ACME server connects for TLS-ALPN-01 validations.
    pub tls_port: u16,
    /// The lifetime of the certificates that the ACME server issues. The default is several years.
    pub validity: Option<Duration>,
    /// The external accounts that the ACME server knows, as `(kid, base64url key)`. If there are any, accounts need to
    /// be bound to one of them.
    pub external_accounts: Vec<(String, String)>,
    /// The names for which the ACME server rejects orders.
    pub blocked: Vec<String>,
    /// The percentage of nonces that the ACME server rejects.
    pub bad_nonces: u8,
}

/// A test ACME server that is stopped on drop.
#[derive(Debug)]
pub struct Pebble {
    folder: TempDir,
    options: PebbleOptions,
    port: u16,
    management_port: u16,
    children: Vec<ChildGuard>,
}

impl Pebble {
    /// Starts an ACME server, or returns `None` if Pebble is not installed.
    ///
    /// With `TEST_REQUIRE_COUNTERPARTS`, a missing Pebble fails the test.
    pub fn start(options: PebbleOptions) -> Option<Self> {
        let mut pebble = Self::prepare(options)?;
        pebble.launch();
        Some(pebble)
    }

    /// Reserves the ports of an ACME server without starting it.
    pub fn prepare(options: PebbleOptions) -> Option<Self> {
        for program in ["pebble", "pebble-challtestsrv"] {
            if !is_installed(program) {
                assert!(std::env::var_os("TEST_REQUIRE_COUNTERPARTS").is_none(), "{program} is not installed");
                eprintln!("skipped: {program} is not installed");
                return None;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        Certificates::builder().local(LocalCa::new(folder.path())).build().unwrap();
        Some(Self { folder, options, port: free_port(), management_port: free_port(), children: Vec::new() })
    }

    /// Starts or restarts the ACME server, without its previous state.
    pub fn launch(&mut self) {
        self.stop();
        let dns_port = free_port();
        let config = self.folder.path().join("pebble.json");
        fs::write(&config, self.config()).unwrap();
        let log = File::create(self.log_path()).unwrap();

        let mut dns = Command::new("pebble-challtestsrv");
        dns.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-dns01", &format!("127.0.0.1:{dns_port}")])
            .args(["-management", &format!("127.0.0.1:{}", free_port())])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.children.push(ChildGuard::spawn(dns));

        let mut pebble = Command::new("pebble");
        pebble
            .arg("-config")
            .arg(&config)
            .args(["-dnsserver", &format!("127.0.0.1:{dns_port}")])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", self.options.bad_nonces.to_string())
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.children.push(ChildGuard::spawn(pebble));

        for port in [dns_port, self.port, self.management_port] {
            self.await_port(port);
        }
    }

    /// Stops the ACME server.
    pub fn stop(&mut self) {
        self.children.clear();
    }

    /// Returns the URL of the ACME directory.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// Returns the PEM file of the CA for the ACME server's own TLS certificate.
    pub fn directory_ca(&self) -> PathBuf {
        self.folder.path().join("local/ca.pem")
    }

    /// Returns the root of the certificates that the ACME server issues, as PEM. The root changes with each start.
    pub fn issuer_pem(&self) -> String {
        let response = self.get(self.management_port, "/roots/0");
        let start = response.find("-----BEGIN").expect("a PEM root");
        response[start..].to_owned()
    }

    /// Returns the root store of a client that trusts the issued certificates.
    pub fn issuer(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.issuer_pem().as_bytes()).unwrap();
        roots.add(root).unwrap();
        roots
    }

    /// Returns the log of the ACME server since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Returns the number of orders since the last start of the ACME server.
    pub fn orders(&self) -> usize {
        self.log().matches("POST /order-plz ").count()
    }

    /// Returns the number of accounts created since the last start of the ACME server.
    pub fn accounts(&self) -> usize {
        self.log().matches("accounts in memory").count()
    }

    fn config(&self) -> String {
        let (port, management_port) = (self.port, self.management_port);
        let tls_port = self.options.tls_port;
        // The local CA stores key and chain in one file.
        let identity = self.folder.path().join("local/localhost.pem");
        let identity = quoted(&identity.display().to_string());
        let bound = !self.options.external_accounts.is_empty();
        let accounts: Vec<_> = self
            .options
            .external_accounts
            .iter()
            .map(|(kid, key)| format!("{}: {}", quoted(kid), quoted(key)))
            .collect();
        let accounts = accounts.join(", ");
        let blocked: Vec<_> = self.options.blocked.iter().map(|name| quoted(name)).collect();
        let blocked = blocked.join(", ");
        let validity = match self.options.validity {
            Some(validity) => format!(r#""certificateValidityPeriod": {},"#, validity.as_secs()),
            None => String::new(),
        };
        format!(
            r#"{{ "pebble": {{
                "listenAddress": "127.0.0.1:{port}",
                "managementListenAddress": "127.0.0.1:{management_port}",
                "certificate": {identity},
                "privateKey": {identity},
                "httpPort": 1,
                "tlsPort": {tls_port},
                "ocspResponderURL": "",
                {validity}
                "externalAccountBindingRequired": {bound},
                "externalAccountMACKeys": {{ {accounts} }},
                "domainBlocklist": [{blocked}]
            }} }}"#
        )
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("pebble.log")
    }

    fn await_port(&mut self, port: u16) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            for child in &mut self.children {
                let ended = child.0.try_wait().unwrap();
                assert!(ended.is_none(), "the ACME server exited: {}", self.log());
            }
            assert!(Instant::now() < deadline, "port {port} is not open: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn get(&self, port: u16, path: &str) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.directory_ca()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut stream = StreamOwned::new(client, socket);
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut response = Vec::new();
        // Fails if the connection is closed without a close_notify, after the response is complete.
        let _ = stream.read_to_end(&mut response);
        String::from_utf8(response).unwrap()
    }
}

/// A child process that is killed on drop.
#[derive(Debug)]
struct ChildGuard(Child);

impl ChildGuard {
    fn spawn(mut command: Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}

/// Formats text as a JSON string. The texts in this file need no other escapes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
