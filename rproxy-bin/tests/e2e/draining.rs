//! Ends and restarts under load: what is in flight is finished, what is idle is closed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::upstream::{Nginx, ok, read_head, scripted};
use crate::support::{PATIENCE, Proxy, connect, get, has, read_answer, read_to_end};

const UNLIMITED: [(&str, &str); 2] = [("RPROXY_RATE_LIMIT", "1000000"), ("RPROXY_RATE_BURST", "1000000")];

/// Clients that ask over and over on connections that they keep, and count what becomes of it.
struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Tally {
    served: AtomicUsize,
    bad_gateway: AtomicUsize,
    /// Anything else: another status, or a request that got no answer.
    failed: AtomicUsize,
}

impl Load {
    fn start(address: SocketAddr, clients: usize) -> Self {
        let (stop, tally) = (Arc::<AtomicBool>::default(), Arc::<Tally>::default());
        let clients = (0..clients).map(|_| {
            let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Refused is no failure: nobody listens any more, which is how it is to be.
                    let Ok(stream) = TcpStream::connect(address) else { return };
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    ask(stream, &stop, &tally);
                }
            })
        });
        Self { clients: clients.collect(), stop, tally }
    }

    /// Waits until so many more were served.
    fn wait_for(&self, more: usize) {
        let goal = self.tally.served.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + PATIENCE;
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

fn ask(mut stream: TcpStream, stop: &AtomicBool, tally: &Tally) {
    while !stop.load(Ordering::Relaxed) {
        if stream.write_all(b"GET /small.txt HTTP/1.1\r\nhost: a\r\n\r\n").is_err() {
            tally.failed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let Some(answer) = read_answer(&mut stream) else {
            tally.failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let counter = match answer.status {
            200 if answer.body == "hello" => &tally.served,
            502 => &tally.bad_gateway,
            _ => &tally.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
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
fn an_upstream_that_restarts_under_load_costs_502s_only_while_it_is_down() {
    let Some(mut nginx) = nginx() else { return };
    let proxy = Proxy::start(nginx.address, &UNLIMITED);
    let load = Load::start(proxy.address, 8);
    load.wait_for(1000);
    nginx.kill();
    assert_eq!(get(proxy.address, "/small.txt").status, 502, "down is down");
    nginx.restart();
    // From here on it is up: requests that begin now are served.
    assert_eq!(get(proxy.address, "/small.txt").status, 200);
    load.wait_for(100);
    let before = load.tally.bad_gateway.load(Ordering::Relaxed);
    load.wait_for(2000);
    let tally = load.stop();
    assert_eq!(tally.bad_gateway.load(Ordering::Relaxed), before, "502 after the upstream was back");
    assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
}

#[test]
fn an_upstream_that_reloads_under_load_costs_nothing() {
    let Some(nginx) = nginx() else { return };
    let proxy = Proxy::start(nginx.address, &UNLIMITED);
    let load = Load::start(proxy.address, 8);
    load.wait_for(500);
    for _ in 0..3 {
        // New workers take over; the old ones close their idle connections at any moment.
        let pid = std::fs::read_to_string(nginx.folder.path().join("pid")).unwrap();
        std::process::Command::new("kill").args(["-HUP", pid.trim()]).status().unwrap();
        load.wait_for(1000);
    }
    let tally = load.stop();
    assert_eq!(tally.bad_gateway.load(Ordering::Relaxed), 0);
    assert_eq!(tally.failed.load(Ordering::Relaxed), 0);
}

#[test]
fn a_response_in_flight_is_finished_and_idle_connections_close() {
    let (asked, go_on) = (Arc::new(std::sync::Barrier::new(2)), Arc::new(std::sync::Barrier::new(2)));
    let barriers = (Arc::clone(&asked), Arc::clone(&go_on));
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
    assert_eq!(read_answer(&mut idle).unwrap().body, "done");
    let mut busy = connect(proxy.address);
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    asked.wait();

    proxy.signal("TERM");
    assert_eq!(read_to_end(&mut idle), "");
    go_on.wait();
    let answer = read_answer(&mut busy).unwrap();
    assert_eq!(answer.body, "done");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn the_drain_time_is_the_longest_and_a_second_signal_ends_at_once() {
    let upstream = scripted(|mut stream| {
        read_head(&mut stream);
        std::thread::park();
    });
    for (timeout, second_signal) in [("300ms", false), ("60", true)] {
        let mut proxy = Proxy::start(upstream, &[("RPROXY_DRAIN_TIMEOUT", timeout)]);
        let mut busy = connect(proxy.address);
        busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        busy.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let _ = busy.read(&mut [0]); // nothing comes; its request is on its way
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
fn wrk_sees_no_error_through_the_whole_stack() {
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
