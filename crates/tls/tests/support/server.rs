//! A test TLS server whose certificates are issued by Pebble.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::{net::SocketAddr, path::Path, time::Duration};

use rproxy_tls::{Acme, CertificateStatus, Certificates, is_challenge};
use rustls::RootCertStore;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    client::{Handshake, connect, echo, modern},
    pebble::{Pebble, PebbleOptions},
};

/// The timeout of all waits in tests, which a passing test never reaches.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// A test TLS server whose certificates can be replaced, which simulates a restart.
pub struct Server {
    address: SocketAddr,
    certificates: watch::Sender<Option<Certificates>>,
    _listener: JoinSet<()>,
    driver: JoinSet<()>,
}

impl Server {
    pub async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let certificates = watch::Sender::new(None::<Certificates>);
        let current = certificates.subscribe();
        let mut listener_task = JoinSet::new();
        listener_task.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let Some(certificates) = current.borrow().clone() else {
                    continue;
                };
                tokio::spawn(async move {
                    let acceptor = TlsAcceptor::from(certificates.server_config());
                    let Ok(mut stream) = acceptor.accept(socket).await else {
                        return;
                    };
                    if !is_challenge(stream.get_ref().1.alpn_protocol()) {
                        let _ = echo(&mut stream).await;
                    }
                });
            }
        });
        Self { address, certificates, _listener: listener_task, driver: JoinSet::new() }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Replaces the certificates of the server, and renews the new certificates.
    pub fn serve(&mut self, certificates: &Certificates) {
        self.certificates.send_replace(Some(certificates.clone()));
        self.driver = JoinSet::new();
        self.driver.spawn(certificates.clone().run());
    }

    pub async fn connect(&self, roots: RootCertStore, name: &str) -> std::io::Result<Handshake> {
        let socket = TcpStream::connect(self.address).await?;
        timeout(TIMEOUT, connect(&modern(roots), socket, name)).await?
    }
}

pub fn acme(pebble: &Pebble, folder: &Path) -> Acme {
    Acme::new(folder)
        .directory(pebble.directory())
        .directory_ca_file(pebble.directory_ca())
        .contact("admin@example.com")
}

pub fn certificates(acme: Acme) -> Certificates {
    Certificates::builder().acme(acme).build().unwrap()
}

pub fn options(server: &Server) -> PebbleOptions {
    PebbleOptions { tls_port: server.port(), ..PebbleOptions::default() }
}

pub fn status_of(certificates: &Certificates, name: &str) -> CertificateStatus {
    let statuses = certificates.status();
    let status = statuses.iter().find(|status| status.names.iter().any(|other| other == name));
    status.unwrap().clone()
}

pub async fn wait_until(event: &str, has_happened: impl Fn() -> bool) {
    let waited = timeout(TIMEOUT, async {
        while !has_happened() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "timed out waiting until {event}");
}

/// Returns a function that searches the folder and its subfolders for a file with this name.
pub fn find_file(folder: &Path, name: &str) -> impl Fn() -> Option<std::path::PathBuf> {
    let (folder, name) = (folder.to_owned(), name.to_owned());
    move || {
        let mut all = files_under(&folder).into_iter();
        all.find(|path| path.file_name().is_some_and(|file| *file == *name))
    }
}

pub fn files_under(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_under(&path));
        }
        found.push(path);
    }
    found
}
