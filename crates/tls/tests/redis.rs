//! Tests of machines behind one address that share ACME state in Redis.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/client.rs"]
mod client;
#[path = "support/pebble.rs"]
mod pebble;
#[path = "support/server.rs"]
mod server;

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use pebble::{Pebble, PebbleOptions};
use redis::Commands;
use rproxy_test_support::free_port;
use rproxy_tls::{Acme, Certificates, Error};
use server::{Server, TIMEOUT, acme, certificates, files_under, find_file, options, status_of, wait_until};
use tokio::time::timeout;

/// A Redis server that is killed on drop.
struct Redis {
    port: u16,
    child: Option<Child>,
}

impl Redis {
    /// Starts a Redis server, or returns `None` if `redis-server` is not installed.
    ///
    /// With `TEST_REQUIRE_COUNTERPARTS`, a missing `redis-server` fails the test.
    fn start() -> Option<Self> {
        let mut redis = Self::prepare()?;
        redis.launch();
        Some(redis)
    }

    /// Reserves a port for a Redis server without starting it.
    fn prepare() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("redis-server").is_file()) {
            assert!(std::env::var_os("TEST_REQUIRE_COUNTERPARTS").is_none(), "redis-server is not installed");
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        let port = free_port();
        Some(Self { port, child: None })
    }

    fn launch(&mut self) {
        let mut server = Command::new("redis-server");
        server.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        self.child = Some(server.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        let deadline = Instant::now() + TIMEOUT;
        while self.client().get_connection().is_err() {
            assert!(Instant::now() < deadline, "redis-server does not respond");
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

    fn key_with_suffix(&self, suffix: &str) -> Option<String> {
        self.keys().into_iter().find(|key| key.ends_with(suffix))
    }

    fn subscribers(&self) -> usize {
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

/// Returns the certificates of a machine with a separate folder and the shared Redis.
fn machine(pebble: &Pebble, redis: &Redis, folder: &Path, with: impl FnOnce(Acme) -> Acme) -> Certificates {
    certificates(with(acme(pebble, folder)).redis(redis.url()))
}

/// Locks the folder in which the certificate is stored.
fn lock_folder(folder: &Path, certificate: &str) -> File {
    let is_it = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(certificate));
    let certificate_folder = files_under(folder).into_iter().find(is_it).unwrap();
    let lock = File::create(certificate_folder.join("lock")).unwrap();
    lock.lock().unwrap();
    lock
}

#[tokio::test]
async fn another_machine_can_serve_the_acme_challenge_and_all_machines_get_the_certificate() {
    // The ACME server reaches the machine that does not order.
    let (mut ordering, mut reachable) = (Server::bind().await, Server::bind().await);
    let Some(pebble) = Pebble::start(options(&reachable)) else { return };
    let Some(redis) = Redis::start() else { return };
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let names = |acme: Acme| acme.domain("a.test").certificate(["b.test", "c.test"]);
    let [one, two] = [0, 1].map(|index: usize| machine(&pebble, &redis, folders[index].path(), names));
    let _locks = ["a.test", "b.test"].map(|name| lock_folder(folders[1].path(), name));
    reachable.serve(&two);
    wait_until("it subscribes", || redis.subscribers() == 1).await;
    ordering.serve(&one);
    timeout(TIMEOUT, async { tokio::join!(one.ready(), two.ready()) }).await.unwrap();
    for name in ["a.test", "b.test", "c.test"] {
        let [one, two] = [&ordering, &reachable].map(|server| server.connect(pebble.issuer(), name));
        assert_eq!(one.await.unwrap().leaf, two.await.unwrap().leaf);
    }
    assert_eq!((pebble.orders(), pebble.accounts()), (2, 1), "{}", pebble.log());

    // A machine that starts later gets the certificates without an order.
    let three = machine(&pebble, &redis, folders[2].path(), names);
    let running = tokio::spawn(three.clone().run());
    timeout(TIMEOUT, three.ready()).await.unwrap();
    wait_until("it is stored in the folder", || find_file(folders[2].path(), "certificate.pem")().is_some()).await;
    running.abort();
    assert_eq!(status_of(&three, "a.test").not_after, status_of(&one, "a.test").not_after);
    assert_eq!((pebble.orders(), pebble.accounts()), (2, 1), "{}", pebble.log());
}

#[tokio::test]
async fn machines_that_start_at_the_same_time_place_one_order() {
    let (mut one_server, mut two_server) = (Server::bind().await, Server::bind().await);
    let Some(pebble) = Pebble::start(options(&one_server)) else { return };
    let Some(redis) = Redis::start() else { return };
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let names = |acme: Acme| acme.domains(["a.test", "b.test", "c.test"]);
    let [one, two] = [0, 1].map(|index: usize| machine(&pebble, &redis, folders[index].path(), names));
    one_server.serve(&one);
    two_server.serve(&two);
    timeout(TIMEOUT, async { tokio::join!(one.ready(), two.ready()) }).await.unwrap();
    for name in ["a.test", "b.test", "c.test"] {
        assert_eq!(status_of(&one, name).not_after, status_of(&two, name).not_after, "{name}");
    }
    assert_eq!((pebble.orders(), pebble.accounts()), (3, 1), "{}", pebble.log());
}

#[tokio::test]
async fn stored_certificates_are_served_and_orders_wait_while_redis_is_unreachable() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else { return };
    let Some(mut redis) = Redis::prepare() else { return };
    let folder = tempfile::tempdir().unwrap();
    let first = machine(&pebble, &redis, folder.path(), |acme| acme.domain("a.test"));
    server.serve(&first);
    wait_until("the order fails for lack of Redis", || {
        status_of(&first, "a.test").last_error.is_some_and(|error| error.contains("Redis"))
    })
    .await;
    assert_eq!(pebble.orders(), 0);
    redis.launch();
    timeout(TIMEOUT, first.ready()).await.unwrap();
    assert!(find_file(folder.path(), "certificate.pem")().is_some(), "it is stored before it is served");
    wait_until("it is shared", || redis.key_with_suffix("/certificate.pem").is_some()).await;

    redis.stop();
    let second = machine(&pebble, &redis, folder.path(), |acme| acme.domain("a.test"));
    server.serve(&second);
    assert!(status_of(&second, "a.test").is_valid(SystemTime::now()));
    server.connect(pebble.issuer(), "a.test").await.unwrap();

    // An empty Redis gets the certificate from the folder, without an order.
    redis.launch();
    second.reload();
    wait_until("it is shared again", || redis.key_with_suffix("/certificate.pem").is_some()).await;
    assert_eq!(pebble.orders(), 1, "{}", pebble.log());
}

#[tokio::test]
async fn order_lock_of_a_crashed_machine_expires() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else { return };
    let Some(redis) = Redis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let certificates = machine(&pebble, &redis, folder.path(), |acme| acme.domain("a.test"));
    server.serve(&certificates);
    timeout(TIMEOUT, certificates.ready()).await.unwrap();
    let lock = redis.key_with_suffix("/certificate.pem").unwrap().replace("/certificate.pem", "/lock");
    wait_until("the lock is released", || redis.key_with_suffix("/lock").is_none()).await;

    let mut connection = redis.client().get_connection().unwrap();
    let () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
    let () = connection.pset_ex(&lock, "a crashed machine", 1500).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let other = machine(&pebble, &redis, folder.path(), |acme| acme.domain("a.test"));
    server.serve(&other);
    timeout(TIMEOUT, other.ready()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(1400), "it did not wait");
}

#[tokio::test]
async fn back_off_after_a_rejected_order_applies_to_all_machines() {
    let server = Server::bind().await;
    let Some(pebble) = Pebble::start(PebbleOptions { blocked: vec!["blocked.test".to_owned()], ..options(&server) })
    else {
        return;
    };
    let Some(redis) = Redis::start() else { return };
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let one = machine(&pebble, &redis, folders[0].path(), |acme| acme.domain("blocked.test"));
    let running = tokio::spawn(one.clone().run());
    wait_until("the back-off is shared", || redis.key_with_suffix("/retry").is_some()).await;

    let mut server = server;
    let two = machine(&pebble, &redis, folders[1].path(), |acme| acme.domains(["blocked.test", "a.test"]));
    server.serve(&two);
    wait_until("a.test is issued", || status_of(&two, "a.test").not_after.is_some()).await;
    assert_eq!(pebble.orders(), 2, "one per name: {}", pebble.log());
    running.abort();
}

#[test]
fn rejects_invalid_redis_urls_without_revealing_the_password() {
    let folder = tempfile::tempdir().unwrap();
    for url in ["http://:hush@a.test/", "redis://", "hush", "redis://:hush@a.test:1/x"] {
        let acme = Acme::new(folder.path()).domain("a.test").redis(url);
        assert!(!format!("{acme:?}").contains("hush"));
        let error = Certificates::builder().acme(acme).build().unwrap_err();
        assert!(matches!(error, Error::InvalidRedisUrl { .. }), "{url}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    let acme = Acme::new(folder.path()).domain("a.test").redis("rediss://:hush@a.test/");
    let certificates = Certificates::builder().acme(acme).build().unwrap();
    assert!(!format!("{certificates:?}").contains("hush"));
}
