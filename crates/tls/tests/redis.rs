//! Machines behind one address that share a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/client.rs"]
mod client;
#[path = "support/pebble.rs"]
mod pebble;
#[path = "support/server.rs"]
mod server;

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use pebble::{Pebble, PebbleOptions};
use redis::Commands;
use rproxy_tls::{Acme, Certificates, Error};
use server::{LONG, Server, acme, certificates, folder_with, of, options, until, walk};
use tokio::time::timeout;

/// A Redis that ends with this value.
struct Redis {
    port: u16,
    child: Option<Child>,
}

impl Redis {
    /// `None`, with a line that says so, where there is no redis-server; with `TEST_REQUIRE_COUNTERPARTS` a failure.
    fn start() -> Option<Self> {
        let mut redis = Self::prepare()?;
        redis.launch();
        Some(redis)
    }

    /// One that is down.
    fn prepare() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("redis-server").is_file()) {
            assert!(std::env::var_os("TEST_REQUIRE_COUNTERPARTS").is_none(), "redis-server is not installed");
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Some(Self { port, child: None })
    }

    fn launch(&mut self) {
        let mut server = Command::new("redis-server");
        server.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        self.child = Some(server.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        let deadline = Instant::now() + LONG;
        while self.client().get_connection().is_err() {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    fn keys(&self) -> Vec<String> {
        self.client().get_connection().unwrap().keys("*").unwrap()
    }

    /// The key that ends so.
    fn key(&self, end: &str) -> Option<String> {
        self.keys().into_iter().find(|key| key.ends_with(end))
    }

    fn listeners(&self) -> usize {
        let mut connection = self.client().get_connection().unwrap();
        let clients: String =
            redis::cmd("CLIENT").arg("LIST").arg("TYPE").arg("pubsub").query(&mut connection).unwrap();
        clients.lines().count()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A machine: a folder of its own, and the Redis of all.
fn machine(pebble: &Pebble, redis: &Redis, folder: &Path, with: impl FnOnce(Acme) -> Acme) -> Certificates {
    certificates(with(acme(pebble, folder)).redis(redis.url()))
}

/// The lock of the folder where a certificate is kept.
fn folder_lock(folder: &Path, certificate: &str) -> File {
    let is_it = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(certificate));
    let kept = walk(folder).into_iter().find(is_it).unwrap();
    let lock = File::create(kept.join("lock")).unwrap();
    lock.lock().unwrap();
    lock
}

#[tokio::test]
async fn one_machine_orders_another_is_asked_and_all_have_the_certificate() {
    // What the directory reaches is the one that does not order.
    let (mut orders, mut answers) = (Server::bind().await, Server::bind().await);
    let Some(pebble) = Pebble::start(options(&answers)) else { return };
    let Some(redis) = Redis::start() else { return };
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let names = |acme: Acme| acme.domain("a.test").certificate(["b.test", "c.test"]);
    let [one, two] = [0, 1].map(|index: usize| machine(&pebble, &redis, folders[index].path(), names));
    let _locks = ["a.test", "b.test"].map(|name| folder_lock(folders[1].path(), name));
    answers.serve(&two);
    until("it listens", || redis.listeners() == 1).await;
    orders.serve(&one);
    timeout(LONG, async { tokio::join!(one.ready(), two.ready()) }).await.unwrap();
    for name in ["a.test", "b.test", "c.test"] {
        let [one, two] = [&orders, &answers].map(|server| server.visit(pebble.issuer(), name));
        assert_eq!(one.await.unwrap().leaf, two.await.unwrap().leaf);
    }
    assert_eq!((pebble.orders(), pebble.accounts()), (2, 1), "{}", pebble.log());

    // One that comes later orders nothing, and has what the others have.
    let three = machine(&pebble, &redis, folders[2].path(), names);
    let running = tokio::spawn(three.clone().run());
    timeout(LONG, three.ready()).await.unwrap();
    until("it is in the folder too", || folder_with(folders[2].path(), "certificate.pem")().is_some()).await;
    running.abort();
    assert_eq!(of(&three, "a.test").not_after, of(&one, "a.test").not_after);
    assert_eq!((pebble.orders(), pebble.accounts()), (2, 1), "{}", pebble.log());
}

#[tokio::test]
async fn machines_that_start_together_order_once() {
    let (mut one_server, mut two_server) = (Server::bind().await, Server::bind().await);
    let Some(pebble) = Pebble::start(options(&one_server)) else { return };
    let Some(redis) = Redis::start() else { return };
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let names = |acme: Acme| acme.domains(["a.test", "b.test", "c.test"]);
    let [one, two] = [0, 1].map(|index: usize| machine(&pebble, &redis, folders[index].path(), names));
    one_server.serve(&one);
    two_server.serve(&two);
    timeout(LONG, async { tokio::join!(one.ready(), two.ready()) }).await.unwrap();
    for name in ["a.test", "b.test", "c.test"] {
        assert_eq!(of(&one, name).not_after, of(&two, name).not_after, "{name}");
    }
    assert_eq!((pebble.orders(), pebble.accounts()), (3, 1), "{}", pebble.log());
}

#[tokio::test]
async fn without_redis_nothing_is_ordered_and_what_is_there_is_served() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else { return };
    let Some(mut redis) = Redis::prepare() else { return };
    let folder = tempfile::tempdir().unwrap();
    let first = machine(&pebble, &redis, folder.path(), |acme| acme.domain("a.test"));
    server.serve(&first);
    until("Redis is missed", || of(&first, "a.test").last_error.is_some_and(|error| error.contains("Redis"))).await;
    assert_eq!(pebble.orders(), 0);
    redis.launch();
    timeout(LONG, first.ready()).await.unwrap();
    assert!(folder_with(folder.path(), "certificate.pem")().is_some(), "it is kept before it is served");
    until("it is shared", || redis.key("/certificate.pem").is_some()).await;

    redis.stop();
    let second = machine(&pebble, &redis, folder.path(), |acme| acme.domain("a.test"));
    server.serve(&second);
    assert!(of(&second, "a.test").is_valid(SystemTime::now()));
    server.visit(pebble.issuer(), "a.test").await.unwrap();

    // A Redis that has lost everything gets it back, and nothing is ordered.
    redis.launch();
    second.reload();
    until("it is shared again", || redis.key("/certificate.pem").is_some()).await;
    assert_eq!(pebble.orders(), 1, "{}", pebble.log());
}

#[tokio::test]
async fn a_machine_that_died_while_it_ordered_is_waited_for_no_longer_than_its_lock_lasts() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else { return };
    let Some(redis) = Redis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let certificates = machine(&pebble, &redis, folder.path(), |acme| acme.domain("a.test"));
    server.serve(&certificates);
    timeout(LONG, certificates.ready()).await.unwrap();
    let lock = redis.key("/certificate.pem").unwrap().replace("/certificate.pem", "/lock");
    until("the lock is given back", || redis.key("/lock").is_none()).await;

    let mut connection = redis.client().get_connection().unwrap();
    let () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
    let () = connection.pset_ex(&lock, "the dead", 1500).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let other = machine(&pebble, &redis, folder.path(), |acme| acme.domain("a.test"));
    server.serve(&other);
    timeout(LONG, other.ready()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(1400), "it did not wait");
}

#[tokio::test]
async fn the_wait_after_a_refusal_is_for_all_machines() {
    let server = Server::bind().await;
    let Some(pebble) = Pebble::start(PebbleOptions { blocked: vec!["blocked.test".to_owned()], ..options(&server) })
    else {
        return;
    };
    let Some(redis) = Redis::start() else { return };
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let one = machine(&pebble, &redis, folders[0].path(), |acme| acme.domain("blocked.test"));
    let running = tokio::spawn(one.clone().run());
    until("the wait is shared", || redis.key("/retry").is_some()).await;

    let mut server = server;
    let two = machine(&pebble, &redis, folders[1].path(), |acme| acme.domains(["blocked.test", "a.test"]));
    server.serve(&two);
    until("a.test is issued", || of(&two, "a.test").not_after.is_some()).await;
    assert_eq!(pebble.orders(), 2, "one for each name: {}", pebble.log());
    running.abort();
}

#[test]
fn an_address_that_is_none_is_refused_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    for url in ["http://:hush@a.test/", "redis://", "hush", "redis://:hush@a.test:1/x"] {
        let acme = Acme::new(folder.path()).domain("a.test").redis(url);
        assert!(!format!("{acme:?}").contains("hush"));
        let error = Certificates::builder().acme(acme).build().unwrap_err();
        assert!(matches!(error, Error::Redis { .. }), "{url}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    let acme = Acme::new(folder.path()).domain("a.test").redis("rediss://:hush@a.test/");
    let certificates = Certificates::builder().acme(acme).build().unwrap();
    assert!(!format!("{certificates:?}").contains("hush"));
}
