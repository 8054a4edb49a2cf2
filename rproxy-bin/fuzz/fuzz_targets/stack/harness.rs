//! Fuzz harness for the whole stack over real sockets, with the bytes of a client and of a backend as input.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rproxy::Config;
use rproxy_server::{ListenAddr, RequestBody, RunningServer, Server};

/// The separator in the fuzz input between the client's bytes and the backend's response to each request.
pub(crate) const SEPARATOR: &[u8] = b"\n====\n";

/// Asserts that nothing panics, every connection ends, and client and backend receive unambiguous messages.
pub(crate) fn stack(bytes: &[u8]) {
    let between = bytes.windows(SEPARATOR.len()).position(|window| window == SEPARATOR).unwrap_or(bytes.len());
    let answer = bytes.get(between + SEPARATOR.len()..).unwrap_or_default();
    let (to_client, to_backend) = HARNESS.play(&bytes[..between], answer);
    assert!(!PANICKED.load(Ordering::SeqCst), "something panicked");
    if !to_client.is_empty() {
        let line = to_client.split(|byte| *byte == b'\r').next().unwrap_or_default();
        assert!(line.starts_with(b"HTTP/1.") && line.len() >= 12, "{}", line.escape_ascii());
        assert_unambiguous(&to_client, "the client");
    }
    for received in to_backend {
        assert_unambiguous(&received, "the backend");
        let Some(head) = head(&received) else { continue };
        let lines = || head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let hosts = lines().filter(|line| line.to_ascii_lowercase().starts_with(b"host:")).count();
        assert_eq!(hosts, 1, "{}", head.escape_ascii());
        assert!(!lines().any(|line| line.to_ascii_lowercase().starts_with(b"proxy:")));
    }
}

/// Asserts that the first received head has consistent line endings and at most one body length.
fn assert_unambiguous(received: &[u8], by: &str) {
    let Some(head) = head(received) else { return };
    let shown = head.escape_ascii();
    for (at, byte) in head.iter().enumerate() {
        match byte {
            b'\n' => assert!(at > 0 && head[at - 1] == b'\r', "a bare LF to {by}: {shown}"),
            b'\r' => assert_eq!(head.get(at + 1), Some(&b'\n'), "a bare CR to {by}: {shown}"),
            0 => panic!("a NUL to {by}: {shown}"),
            _ => {}
        }
    }
    let framing = head.split(|byte| *byte == b'\n').filter(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with(b"content-length:") || line.starts_with(b"transfer-encoding:")
    });
    assert!(framing.count() <= 1, "two lengths to {by}: {shown}");
}

fn head(received: &[u8]) -> Option<&[u8]> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    received.get(..end + 4)
}

static HARNESS: LazyLock<Harness> = LazyLock::new(Harness::new);
static PANICKED: AtomicBool = AtomicBool::new(false);

/// The time to wait for the rest of an incomplete message, which is short because many inputs are incomplete.
const WAIT: Duration = Duration::from_millis(30);
/// The maximum time for any step of the test, reached only after an error.
const TIMEOUT: Duration = Duration::from_secs(10);

struct Harness {
    address: SocketAddr,
    backend: Arc<Mutex<Backend>>,
    _running: RunningServer,
}

/// A backend that sends a scripted response, and records the bytes received on each connection.
#[derive(Default)]
struct Backend {
    answer: Arc<[u8]>,
    received: Vec<Vec<u8>>,
    open: usize,
}

impl Harness {
    fn new() -> Self {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // Panics of the harness itself are reported by its caller.
            if thread::current().name().is_some_and(|name| name.starts_with("rproxy-worker")) {
                PANICKED.store(true, Ordering::SeqCst);
            }
            before(info);
        }));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let mut config = Config::default();
        config.upstream.backends =
            vec![listener.local_addr().expect("an address").to_string().parse().expect("a backend")];
        config.upstream.timeout = WAIT * 4;
        config.upstream.read_timeout = WAIT * 4;
        config.request_guard.body_timeout = WAIT;
        config.rate_limit.enabled = false;
        config.client_ip.trusted_proxies = "127.0.0.0/8".parse().expect("a range");
        config.limits.head_timeout = WAIT;
        config.limits.idle_timeout = WAIT;
        config.limits.send_timeout = TIMEOUT / 2;
        let backend = Arc::<Mutex<Backend>>::default();
        thread::spawn({
            let backend = Arc::clone(&backend);
            move || serve(&listener, &backend)
        });
        let stack = rproxy::stack(&config).expect("a stack");
        let running = Server::bind(ListenAddr::Tcp((Ipv4Addr::LOCALHOST, 0).into()))
            .workers(1)
            .limits(config.limits.limits())
            .start(move |_| stack.service::<RequestBody>())
            .expect("a server");
        Self { address: running.local_addr().expect("an address"), backend, _running: running }
    }

    /// Returns the bytes that the client received, and the bytes that the backend received on each connection.
    fn play(&self, sent: &[u8], answer: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        lock(&self.backend).answer = answer.into();
        let mut client = TcpStream::connect(self.address).expect("a connection");
        client.set_nodelay(true).expect("a socket");
        client.set_read_timeout(Some(TIMEOUT)).expect("a socket");
        // A server that rejects early may close before everything is sent.
        let _ = client.write_all(sent);
        let mut received = Vec::new();
        match client.read_to_end(&mut received) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the connection does not end")
            }
            Err(_) => {}
        }
        drop(client);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let mut backend = lock(&self.backend);
            if backend.open == 0 {
                return (received, std::mem::take(&mut backend.received));
            }
            drop(backend);
            assert!(Instant::now() < deadline, "a connection to the backend does not end");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn serve(listener: &TcpListener, backend: &Arc<Mutex<Backend>>) {
    while let Ok((mut stream, _)) = listener.accept() {
        let answer = {
            let mut backend = lock(backend);
            backend.open += 1;
            Arc::clone(&backend.answer)
        };
        let backend = Arc::clone(backend);
        thread::spawn(move || {
            let received = converse(&mut stream, &answer).unwrap_or_default();
            let mut backend = lock(&backend);
            backend.received.push(received);
            backend.open -= 1;
        });
    }
}

/// Responds to the first request head, and reads until no more bytes arrive.
fn converse(stream: &mut TcpStream, answer: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(WAIT * 2))?;
    let (mut received, mut is_answered, mut part) = (Vec::new(), false, [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(read) => received.extend_from_slice(&part[..read]),
        }
        if !is_answered && head(&received).is_some() {
            is_answered = true;
            // The proxy may have closed the connection.
            if stream.write_all(answer).is_err() || stream.shutdown(Shutdown::Write).is_err() {
                break;
            }
        }
    }
    Ok(received)
}

fn lock(backend: &Mutex<Backend>) -> MutexGuard<'_, Backend> {
    backend.lock().unwrap_or_else(PoisonError::into_inner)
}
