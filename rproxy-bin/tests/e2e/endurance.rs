//! Long-running tests, and tests with many clients. The long forms take minutes and are ignored by default:
//!
//! ```text
//! cargo nextest run -p rproxy-bin --all-features --test e2e endurance --run-ignored all --no-capture
//! ```

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::support::upstream::{ok, responding};
use crate::support::{Proxy, TIMEOUT, free_port, read_response};

/// A TLS client connection that accepts any certificate.
struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Client {
    fn config() -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&crate::client::trusting());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Every handshake is a full one.
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    }

    fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        socket.set_nodelay(true).unwrap();
        let session = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        }
        Self { stream }
    }

    fn leaf(&self) -> CertificateDer<'static> {
        self.stream.conn.peer_certificates().unwrap()[0].clone()
    }

    fn get(&mut self) {
        self.stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("a request");
        let response = read_response(&mut self.stream).expect("a response");
        assert_eq!((response.status, &*response.body), (200, "served"));
    }
}

/// Clients that send requests until the value is dropped, and panic on any failure.
struct Load {
    done: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Starts the clients on separate threads. If `keep_alive`, every second one keeps its connection; the others open
    /// one per request.
    fn start(address: SocketAddr, clients: usize, keep_alive: bool) -> Self {
        let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..clients).map(|index| {
            let (done, served) = (Arc::clone(&done), Arc::clone(&served));
            std::thread::spawn(move || {
                let config = Client::config();
                let mut client = Client::connect(address, &config);
                while !done.load(Ordering::Relaxed) {
                    client.get();
                    served.fetch_add(1, Ordering::Relaxed);
                    if index % 2 == 0 || !keep_alive {
                        client = Client::connect(address, &config);
                    }
                }
            })
        });
        let clients = clients.collect();
        Self { done, served, clients }
    }

    fn served(&self) -> usize {
        assert!(self.clients.iter().all(|client| !client.is_finished()), "a request failed");
        self.served.load(Ordering::Relaxed)
    }

    /// Waits until `more` additional requests have been served.
    fn wait_for(&self, more: usize) {
        let (before, deadline) = (self.served(), Instant::now() + TIMEOUT);
        while self.served() < before + more {
            assert!(Instant::now() < deadline, "no progress");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn end(self) -> usize {
        self.done.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("no request failed");
        }
        self.served.load(Ordering::Relaxed)
    }
}

const QUIET: [(&str, &str); 3] =
    [("RPROXY_HTTP_PORT", "0"), ("RPROXY_RATE_LIMIT_ENABLED", "false"), ("RPROXY_WORKERS", "2")];

/// Writes a new certificate and then its private key, as certificate tools do.
fn replace(cert: &Path, key: &Path) -> CertificateDer<'static> {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(cert, pair.cert.pem()).unwrap();
    std::fs::write(key, pair.signing_key.serialize_pem()).unwrap();
    pair.cert.der().clone()
}

fn reload_certificates_under_load(times: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    replace(&cert, &key);
    let files = [("RPROXY_TLS_CERT", cert.to_str().unwrap()), ("RPROXY_TLS_KEY", key.to_str().unwrap())];
    let proxy = Proxy::start(responding(|_| ok("served")), &[&files[..], &QUIET].concat());
    let load = Load::start(proxy.address, 4, true);
    let (config, began) = (Client::config(), Instant::now());
    for number in 0..times {
        let leaf = replace(&cert, &key);
        // Half of the changes are detected, the others are reloaded by a signal.
        if number % 2 == 0 {
            proxy.signal("HUP");
        }
        let deadline = Instant::now() + TIMEOUT;
        while Client::connect(proxy.address, &config).leaf() != leaf {
            assert!(Instant::now() < deadline, "the certificate {number} is not served: {}", proxy.log());
        }
        load.served();
    }
    let served = load.end();
    eprintln!("{times} certificates in {:?}, {served} requests, none failed", began.elapsed());
    assert!(served > times);
}

#[test]
fn certificate_reload_under_load_fails_no_request() {
    reload_certificates_under_load(10);
}

#[test]
#[ignore = "takes minutes"]
fn a_thousand_certificate_reloads_under_load_fail_no_request() {
    reload_certificates_under_load(1000);
}

fn hand_over_under_load(times: usize) {
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let upstream = responding(|_| ok("served")).to_string();
    let path = folder.path().join("handover");
    let mut settings = vec![
        ("RPROXY_TLS_LOCAL", "true"),
        ("RPROXY_TLS_CACHE_DIR", folder.path().to_str().unwrap()),
        ("RPROXY_LISTEN", &listen),
        ("RPROXY_UPSTREAM", &upstream),
        ("RPROXY_HANDOVER_SOCKET", path.to_str().unwrap()),
    ];
    settings.extend(QUIET);
    let mut running = Proxy::run(&[], &settings);
    let load = Load::start(listen.parse().unwrap(), 4, false);
    for _ in 0..times {
        let next = Proxy::run(&[], &settings);
        next.wait_for_log("received the listeners from the old process");
        assert!(running.wait().success(), "{}", running.log());
        running = next;
        load.wait_for(50);
    }
    eprintln!("{times} handovers, {} requests over TLS, none failed", load.end());
}

#[test]
#[ignore = "takes minutes"]
fn fifty_handovers_under_tls_load_fail_no_request() {
    hand_over_under_load(50);
}

/// Connections whose TLS handshakes remain incomplete.
struct HalfOpen(Vec<TcpStream>);

impl HalfOpen {
    fn new(address: SocketAddr, count: usize) -> Self {
        let socket = |_| {
            let mut socket = TcpStream::connect(address).unwrap();
            // The head of a record with a ClientHello of 512 bytes, and its first byte.
            socket.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        Self((0..count).map(socket).collect())
    }

    /// Returns the number of connections with an incomplete handshake that the server has not closed.
    fn held(&mut self) -> usize {
        let is_held = |mut socket: &TcpStream| matches!(socket.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.0.iter().filter(|socket| is_held(socket)).count()
    }
}

/// Returns the 99th percentile of the time for connection, TLS handshake, request and response.
fn p99(address: SocketAddr, config: &Arc<ClientConfig>, visits: usize) -> Duration {
    let mut took: Vec<_> = (0..visits)
        .map(|_| {
            let began = Instant::now();
            Client::connect(address, config).get();
            let took = began.elapsed();
            std::thread::sleep(Duration::from_millis(1));
            took
        })
        .collect();
    took.sort();
    took[visits * 99 / 100]
}

fn half_open(settings: &[(&str, &str)], at_least: usize) {
    const COUNT: usize = 10_000;
    const VISITS: usize = 500;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let local = [("RPROXY_TLS_LOCAL", "true"), ("RPROXY_TLS_CACHE_DIR", folder.path().to_str().unwrap())];
    let proxy = Proxy::start(responding(|_| ok("served")), &[&local[..], &QUIET, settings].concat());
    let config = Client::config();
    p99(proxy.address, &config, VISITS);
    // Alternating measurements and the median of each, since other programs run, too.
    let mut alone = Vec::new();
    let mut among = Vec::new();
    for _ in 0..3 {
        alone.push(p99(proxy.address, &config, VISITS));
        let mut half_open = HalfOpen::new(proxy.address, COUNT);
        among.push(p99(proxy.address, &config, VISITS));
        let held = half_open.held();
        assert!(held >= at_least, "only {held} are half-open");
        eprintln!("{held} of {COUNT} half-open; p99 {:?} alone, {:?} among them", alone.last(), among.last());
    }
    let median = |mut all: Vec<Duration>| {
        all.sort();
        all[all.len() / 2]
    };
    let (alone, among) = (median(alone), median(among));
    eprintln!(
        "p99 {alone:?} alone, {among:?} among {COUNT} half-open handshakes: {:.2}",
        among.as_secs_f64() / alone.as_secs_f64()
    );
    assert!(among <= alone * 2);
}

#[test]
#[ignore = "takes minutes and 10,000 descriptors"]
fn ten_thousand_incomplete_handshakes_do_not_delay_other_clients() {
    // The server aborts the oldest: it holds at most 4,096.
    half_open(&[("RPROXY_HANDSHAKE_TIMEOUT", "5m")], 4000);
}

#[test]
#[ignore = "takes minutes and 10,000 descriptors"]
fn ten_thousand_incomplete_handshakes_within_the_limit_do_not_delay_other_clients() {
    half_open(&[("RPROXY_HANDSHAKE_TIMEOUT", "5m"), ("RPROXY_MAX_HANDSHAKES", "20000")], 10_000);
}
