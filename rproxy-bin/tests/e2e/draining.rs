//! Tests of shutdown and restart under load: in-flight requests finish and idle connections close.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::upstream::{Nginx, ok, read_head, scripted};
use crate::support::{Proxy, TIMEOUT, connect, get, has, read_response, read_to_end};

const UNLIMITED: [(&str, &str); 2] = [("RPROXY_RATE_LIMIT", "1000000"), ("RPROXY_RATE_BURST", "1000000")];

/// Clients that send requests on keep-alive connections until stopped, and count the results.
struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Tally {
    served: AtomicUsize,
    bad_gateway: AtomicUsize,
    /// The number of responses with an unexpected status, plus the number of requests without a response.
    failed: AtomicUsize,
}

impl Load {
    fn start(address: SocketAddr, clients: usize) -> Self {
        let (stop, tally) = (Arc::<AtomicBool>::default(), Arc::<Tally>::default());
        let clients = (0..clients).map(|_| {
            let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // A refused connection is expected after the shutdown.
                    let Ok(stream) = TcpStream::connect(address) else { return };
                    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
                    send(stream, &stop, &tally);
                }
            })
        });
        Self { clients: clients.collect(), stop, tally }
    }

    /// Waits until `more` additional requests have been served.
    fn wait_for(&self, more: usize) {
        let goal = self.tally.served.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + TIMEOUT;
        while self.tally.served.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < deadline, "no progress");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn stop(self) -> Arc<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        self.tally
    }
}

fn send(mut stream: TcpStream, stop: &AtomicBool, tally: &Tally) {
    while !stop.load(Ordering::Relaxed) {
        if stream.write_all(b"GET /small.txt HTTP/1.1\r\nhost: a\r\n\r\n").is_err() {
            eprintln!("cannot write to {:?}", stream.local_addr());
            tally.failed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let Some(response) = read_response(&mut stream) else {
            eprintln!("no response on {:?}", stream.local_addr());
            tally.failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let counter = match response.status {
            200 if response.body == "hello" => &tally.served,
            502 => &tally.bad_gateway,
            _ => &tally.failed,
        };
        if !matches!((response.status, &*response.body), (200, "hello") | (502, _)) {
            eprintln!("unexpected response: {} {:?}", response.head, response.body);
        }
        counter.fetch_add(1, Ordering::Relaxed);
        if response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return;
        }
    }
}

fn nginx() -> Option<Nginx> {
    let nginx = Nginx::start("")?;
    std::fs::write(nginx.folder.path().join("small.txt"), "hello").unwrap();
    Some(nginx)
}

#[test]
fn sigterm_under_load_loses_no_request_and_exits_0() {
    let Some(nginx) = nginx() else { return };
    let mut proxy = Proxy::start(nginx.address, &UNLIMITED);
    let load = Load::start(proxy.address, 16);
    load.wait_for(2000);
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0));
    let tally = load.stop();
    assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
    assert_eq!(tally.bad_gateway.load(Ordering::Relaxed), 0);
}

#[test]
fn backend_restart_causes_502_only_while_the_backend_is_down() {
    let Some(mut nginx) = nginx() else { return };
    let proxy = Proxy::start(nginx.address, &UNLIMITED);
    let load = Load::start(proxy.address, 8);
    load.wait_for(1000);
    nginx.kill();
    assert_eq!(get(proxy.address, "/small.txt").status, 502, "the upstream is down");
    nginx.restart();
    // The upstream is up again: requests that start now succeed.
    assert_eq!(get(proxy.address, "/small.txt").status, 200);
    load.wait_for(100);
    let before = load.tally.bad_gateway.load(Ordering::Relaxed);
    load.wait_for(2000);
    let tally = load.stop();
    assert_eq!(tally.bad_gateway.load(Ordering::Relaxed), before, "502 after the upstream was back");
    assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
}

#[test]
fn nginx_reload_fails_no_request() {
    let Some(nginx) = nginx() else { return };
    let proxy = Proxy::start(nginx.address, &UNLIMITED);
    let load = Load::start(proxy.address, 8);
    load.wait_for(500);
    for _ in 0..3 {
        // The old workers of nginx close their idle connections at any moment.
        let pid = std::fs::read_to_string(nginx.folder.path().join("pid")).unwrap();
        std::process::Command::new("kill").args(["-HUP", pid.trim()]).status().unwrap();
        load.wait_for(1000);
    }
    let tally = load.stop();
    assert_eq!(tally.bad_gateway.load(Ordering::Relaxed), 0);
    assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
}

#[test]
fn drain_finishes_requests_in_flight_and_closes_idle_connections() {
    let (sent, go_on) = (Arc::new(std::sync::Barrier::new(2)), Arc::new(std::sync::Barrier::new(2)));
    let barriers = (Arc::clone(&sent), Arc::clone(&go_on));
    let upstream = scripted(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.contains("/slow") {
                barriers.0.wait();
                barriers.1.wait();
            }
            stream.write_all(ok("done").as_bytes()).unwrap();
        }
    });
    let mut proxy = Proxy::start(upstream, &[]);
    let mut idle = connect(proxy.address);
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut idle).unwrap().body, "done");
    let mut busy = connect(proxy.address);
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    sent.wait();

    proxy.signal("TERM");
    assert_eq!(read_to_end(&mut idle), "");
    go_on.wait();
    let response = read_response(&mut busy).unwrap();
    assert_eq!(response.body, "done");
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn drain_timeout_and_second_signal_end_the_process() {
    let upstream = scripted(|mut stream| {
        read_head(&mut stream);
        std::thread::park();
    });
    for (timeout, second_signal) in [("300ms", false), ("60", true)] {
        let mut proxy = Proxy::start(upstream, &[("RPROXY_DRAIN_TIMEOUT", timeout)]);
        let mut busy = connect(proxy.address);
        busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        busy.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let _ = busy.read(&mut [0]); // no response, but the request has arrived
        proxy.signal("INT");
        proxy.wait_for_log("draining");
        if second_signal {
            proxy.signal("INT");
        }
        let began = Instant::now();
        proxy.wait();
        assert!(began.elapsed() < Duration::from_secs(15));
    }
}

#[test]
fn wrk_load_test_reports_no_errors() {
    let Some(nginx) = nginx() else { return };
    if !has("wrk") {
        return;
    }
    let proxy = Proxy::start(nginx.address, &UNLIMITED);
    let url = format!("http://{}/small.txt", proxy.address);
    let output = std::process::Command::new("wrk").args(["-t2", "-c64", "-d3s", &url]).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("Requests/sec"), "{report}");
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
}
