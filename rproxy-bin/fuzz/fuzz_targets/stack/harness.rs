//! The whole stack as a function from bytes to bytes: what a client says and what a backend answers go in, what each of
//! them hears comes out. Through real sockets, because that is what the stack has on both sides.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rproxy::Config;
use rproxy_server::{ListenAddr, RequestBody, RunningServer, Server};

/// What the client says comes first, then this, then what the backend answers to the head of each request.
pub(crate) const BETWEEN: &[u8] = b"\n====\n";

/// Nothing panics, every connection ends, the backend hears requests of one reading, the client hears answers.
pub(crate) fn stack(bytes: &[u8]) {
    let between = bytes.windows(BETWEEN.len()).position(|window| window == BETWEEN).unwrap_or(bytes.len());
    let answer = bytes.get(between + BETWEEN.len()..).unwrap_or_default();
    let (to_client, to_backend) = STAGE.play(&bytes[..between], answer);
    assert!(!PANICKED.load(Ordering::SeqCst), "something panicked");
    if !to_client.is_empty() {
        let line = to_client.split(|byte| *byte == b'\r').next().unwrap_or_default();
        assert!(line.starts_with(b"HTTP/1.") && line.len() >= 12, "{}", line.escape_ascii());
        one_reading(&to_client, "the client");
    }
    for heard in to_backend {
        one_reading(&heard, "the backend");
        let Some(head) = head(&heard) else { continue };
        let lines = || head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let hosts = lines().filter(|line| line.to_ascii_lowercase().starts_with(b"host:")).count();
        assert_eq!(hosts, 1, "{}", head.escape_ascii());
        assert!(!lines().any(|line| line.to_ascii_lowercase().starts_with(b"proxy:")));
    }
}

/// The first head has line ends of one kind, and says at most once how long its body is.
fn one_reading(heard: &[u8], by: &str) {
    let Some(head) = head(heard) else { return };
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

fn head(heard: &[u8]) -> Option<&[u8]> {
    let end = heard.windows(4).position(|window| window == b"\r\n\r\n")?;
    heard.get(..end + 4)
}

static STAGE: LazyLock<Stage> = LazyLock::new(Stage::new);
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Short, because whatever is not whole is waited for so long.
const WAIT: Duration = Duration::from_millis(30);
/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(10);

struct Stage {
    address: SocketAddr,
    backend: Arc<Mutex<Backend>>,
    _running: RunningServer,
}

/// What the backend says, and what it has heard on each of its connections.
#[derive(Default)]
struct Backend {
    answer: Arc<[u8]>,
    heard: Vec<Vec<u8>>,
    open: usize,
}

impl Stage {
    fn new() -> Self {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // The harness's own are told by those who called it.
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
        config.limits.send_timeout = PATIENCE / 2;
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

    /// What the client hears, and what the backend heard on each connection.
    fn play(&self, says: &[u8], answer: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        lock(&self.backend).answer = answer.into();
        let mut client = TcpStream::connect(self.address).expect("a connection");
        client.set_nodelay(true).expect("a socket");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket");
        // Who refuses early may close before everything is said.
        let _ = client.write_all(says);
        let mut heard = Vec::new();
        match client.read_to_end(&mut heard) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the connection does not end")
            }
            Err(_) => {}
        }
        drop(client);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut backend = lock(&self.backend);
            if backend.open == 0 {
                return (heard, std::mem::take(&mut backend.heard));
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
            let heard = converse(&mut stream, &answer).unwrap_or_default();
            let mut backend = lock(&backend);
            backend.heard.push(heard);
            backend.open -= 1;
        });
    }
}

/// Answers the first head, and listens for a little while.
fn converse(stream: &mut TcpStream, answer: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(WAIT * 2))?;
    let (mut heard, mut is_answered, mut part) = (Vec::new(), false, [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(read) => heard.extend_from_slice(&part[..read]),
        }
        if !is_answered && head(&heard).is_some() {
            is_answered = true;
            // It may have gone.
            if stream.write_all(answer).is_err() || stream.shutdown(Shutdown::Write).is_err() {
                break;
            }
        }
    }
    Ok(heard)
}

fn lock(backend: &Mutex<Backend>) -> MutexGuard<'_, Backend> {
    backend.lock().unwrap_or_else(PoisonError::into_inner)
}
