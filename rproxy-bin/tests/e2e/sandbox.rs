//! Tests of the user and the sandbox of the process: what it gives up, and what still works then.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::pebble::{Pebble, PebbleOptions};
use crate::running::{check, rproxy};
use crate::support::upstream::{echo, ok, responding};
use crate::support::{Proxy, TIMEOUT, curl, free_port, get, has, request};

/// A user without privileges, which exists on every system by its number.
const USER: &str = "65534:65534";
const UID: u32 = 65534;

/// A file of basic authentication.
const USERS: &str = "alice:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n";

/// Returns whether the tests run as root, who can change the user of a process.
fn is_root() -> bool {
    let is_root = rustix::process::getuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can change the user of a process");
    }
    is_root
}

/// Returns whether the kernel has Landlock with TCP ports.
fn has_landlock() -> bool {
    let (_, report) = check(&[("RPROXY_SANDBOX", "auto")]);
    let has_landlock = report.contains("# ports to connect to: ");
    if !has_landlock {
        eprintln!("skipped: the kernel has no Landlock with TCP ports");
    }
    has_landlock
}

/// A folder that all users can search, with a configuration file.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates a folder, which belongs to `uid`.
    fn folder(&self, name: &str, uid: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        if rustix::process::getuid().is_root() {
            chown(&path, Some(uid), Some(uid)).unwrap();
        }
        path
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn configure(&self, settings: &str) {
        self.write("conf/rproxy.toml", settings);
    }

    fn start(&self) -> Proxy {
        Proxy::run(&["--config", self.path("conf/rproxy.toml").to_str().unwrap()], &[])
    }

    /// Changes the configuration, and returns the error of the reload.
    fn failed_reload(&self, proxy: &Proxy, settings: &str, count: usize) -> String {
        self.configure(settings);
        proxy.signal("HUP");
        proxy.wait_for_logs("reload failed", count);
        let log = proxy.log();
        log.lines().rfind(|line| line.contains("reload failed")).unwrap().to_owned()
    }

    /// Changes the configuration, and waits until the reload has applied it.
    fn reload(&self, proxy: &Proxy, settings: &str, count: usize) {
        self.configure(settings);
        proxy.signal("HUP");
        proxy.wait_for_logs("configuration reloaded", count);
    }
}

/// Returns the values of a field of proc_pid_status(5), for every thread of a process.
fn statuses(pid: u32, field: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok());
    let value = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    status.map(value).collect()
}

/// Returns a free port that only a privileged process can bind. Tests that run at the same time use other ports.
fn privileged_port(mut ports: Range<u16>) -> u16 {
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

fn certificate(name: &str) -> (String, String) {
    let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (pair.cert.pem(), pair.signing_key.serialize_pem())
}

#[test]
fn process_started_as_root_drops_its_privileges_in_every_thread() {
    if !is_root() {
        return;
    }
    let files = Files::new();
    let disk = files.folder("disk", UID);
    let (port, upstream) = (privileged_port(600..700), echo());
    let (cert, key) = certificate("localhost");
    let (cert, key) = (files.write("tls/cert.pem", &cert), files.write("tls/key.pem", &key));
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    files.configure(&format!(
        "listen = \"127.0.0.1:{port}\"\nhttp_port = 0\nuser = \"{USER}\"\nsandbox = \"auto\"\nworkers = 3\n\
         upstream = \"{upstream}\"\ncache_disk = {disk:?}\ntls_cert = {cert:?}\ntls_key = {key:?}\naccess_log = \"text\"\n"
    ));
    let proxy = files.start();
    let started = proxy.wait_for_log("privileges dropped");
    assert!(started.contains("user=\"65534:65534\" no_new_privs=true"), "{started}");
    let url = format!("https://localhost:{port}/hello");
    assert!(curl(&["--cacert", cert.to_str().unwrap(), &url]).contains("GET /hello"), "{}", proxy.log());

    let uids = statuses(proxy.pid(), "Uid");
    assert!(uids.len() > 4, "the main thread, workers, the writers of the log and of the cache: {uids:?}");
    assert!(uids.iter().all(|uid| uid == "65534 65534 65534 65534"), "{uids:?}");
    for (field, expected) in
        [("Gid", "65534 65534 65534 65534"), ("Groups", "65534"), ("CapEff", "0000000000000000"), ("NoNewPrivs", "1")]
    {
        let values = statuses(proxy.pid(), field);
        assert!(values.iter().all(|value| value == expected), "{field}: {values:?}");
    }

    // Only root can read the private key.
    let warning = proxy.wait_for_log("a reload will fail");
    assert!(warning.contains("tls_key: ") && warning.contains("by the user 65534:65534"), "{warning}");
    proxy.signal("HUP");
    let error = proxy.wait_for_log("reload failed, keeping the current configuration");
    assert!(error.contains(&format!("tls_key: {} cannot be read by the user 65534:65534", key.display())), "{error}");
    assert!(!proxy.log().contains("cannot be bound"), "{}", proxy.log());
    assert!(curl(&["--cacert", cert.to_str().unwrap(), &url]).contains("GET /hello"), "{}", proxy.log());
}

#[test]
fn switch_to_a_port_outside_of_the_sandbox_is_rejected() {
    if !has_landlock() {
        return;
    }
    let files = Files::new();
    let [upstream, other] = ["first", "second"].map(|name| responding(move |_| ok(name)));
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    files.configure(&format!(
        "listen = \"127.0.0.1:0\"\nsandbox = \"on\"\nupstream = \"{upstream}\"\nadmin_listen = \"{admin}\"\n"
    ));
    let proxy = files.start();
    let head = format!("POST /upstream?set={other} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    let response = request(admin, &head);
    assert_eq!(response.status, 409, "{}", response.body);
    assert!(
        response.body.contains(&format!("set: port {} is outside of the sandbox", other.port())),
        "{}",
        response.body
    );
    assert_eq!(get(proxy.address, "/").body, "first");
}

#[test]
fn reload_that_needs_more_than_the_sandbox_is_rejected() {
    if !has_landlock() {
        return;
    }
    let files = Files::new();
    let [upstream, other] = ["first", "second"].map(|name| responding(move |_| ok(name)));
    let admin = free_port();
    let settings = |upstream: SocketAddr, more: &str| {
        format!("listen = \"127.0.0.1:0\"\nsandbox = \"on\"\nupstream = \"{upstream}\"\n{more}\n")
    };
    files.configure(&settings(upstream, ""));
    files.write("elsewhere/users", USERS);
    files.write("elsewhere/office", "192.0.2.1");
    let root = files.write("elsewhere/www/index.html", "file").parent().unwrap().to_owned();
    let proxy = files.start();
    assert!(statuses(proxy.pid(), "NoNewPrivs").iter().all(|value| value == "1"));

    let outside = "is outside of the sandbox of this process: restart required";
    let elsewhere = |name: &str| files.path("elsewhere").join(name).display().to_string();
    for (count, (upstream, more, expected)) in [
        (other, String::new(), format!("rproxy.toml:3: upstream: port {} {outside}", other.port())),
        (
            upstream,
            format!("basic_auth = \"{}\"", elsewhere("users")),
            format!("basic_auth: {} {outside}", elsewhere("users")),
        ),
        (upstream, format!("allow = \"{}\"", elsewhere("office")), "outside of the sandbox of this process".to_owned()),
        (upstream, format!("root = {root:?}"), format!("root: {} {outside}", root.display())),
    ]
    .into_iter()
    .enumerate()
    {
        let error = files.failed_reload(&proxy, &settings(upstream, &more), count + 1);
        assert!(error.contains(&expected), "{expected} in {error}");
        assert_eq!(get(proxy.address, "/").body, "first");
    }

    // The kernel rejects the new port.
    files.reload(&proxy, &settings(upstream, &format!("admin_listen = \"127.0.0.1:{admin}\"")), 1);
    let warning = proxy.wait_for_log("restart required to apply: RPROXY_ADMIN_LISTEN");
    assert!(!warning.is_empty() && std::net::TcpStream::connect(("127.0.0.1", admin)).is_err());
}

#[test]
fn sandbox_allows_the_reload_of_files_in_the_same_folders() {
    if !has_landlock() {
        return;
    }
    let files = Files::new();
    // The bcrypt hash of `secret`.
    let hash = |name: &str| format!("{name}:$2y$05$c4WoMPo3SXsafkva.HHa6u7b1XOWKqA7XZANDrnv4IVny/8ABNR66\n");
    let users = files.write("auth/users", &hash("alice"));
    let www = files.write("www/index.html", "file").parent().unwrap().to_owned();
    // As certbot stores certificates.
    let ((first, first_key), (second, second_key)) = (certificate("a.test"), certificate("a.test"));
    for (name, content) in [("cert1", &first), ("key1", &first_key), ("cert2", &second), ("key2", &second_key)] {
        files.write(&format!("archive/{name}.pem"), content);
    }
    files.folder("live", 0);
    let link = |number: u8| {
        for name in ["cert", "key"] {
            let link = files.path(&format!("live/{name}.pem"));
            let _ = fs::remove_file(&link);
            symlink(format!("../archive/{name}{number}.pem"), link).unwrap();
        }
    };
    link(1);
    let (port, admin) = (free_port(), free_port());
    let settings = |more: &str| {
        format!(
            "listen = \"127.0.0.1:{port}\"\nhttp_port = 0\nsandbox = \"on\"\nadmin_listen = \"127.0.0.1:{admin}\"\n\
             tls_cert = {:?}\ntls_key = {:?}\nroot = {www:?}\nbasic_auth = {users:?}\n{more}",
            files.path("live/cert.pem"),
            files.path("live/key.pem")
        )
    };
    files.configure(&settings(""));
    let proxy = files.start();
    let page = |user: &str, path: &str, pem: &str| {
        let ca = files.write("ca.pem", pem);
        let (url, resolve) = (format!("https://a.test:{port}{path}"), format!("a.test:{port}:127.0.0.1"));
        let user = format!("{user}:secret");
        curl(&["--cacert", ca.to_str().unwrap(), "--resolve", &resolve, "-u", &user, &url])
    };
    assert_eq!(page("alice", "/", &first), "file");
    files.write("www/new.html", "new");
    assert_eq!(page("alice", "/new.html", &first), "new");

    // A new file replaces that of the users, as editors do.
    fs::rename(files.write("auth/users.new", &hash("bob")), &users).unwrap();
    link(2);
    files.reload(&proxy, &settings("hsts = false"), 1);
    assert_eq!(page("bob", "/", &second), "file", "{}", proxy.log());
    let metrics = curl(&[&format!("http://127.0.0.1:{admin}/metrics")]);
    assert!(metrics.contains("process_open_fds ") && metrics.contains("process_resident_memory_bytes "), "{metrics}");
    assert!(!proxy.log().contains("WARN"), "{}", proxy.log());

    // The watcher of the files reads a target outside of the sandbox, which the kernel denies also to root.
    files.write("other/cert.pem", &first);
    fs::remove_file(files.path("live/cert.pem")).unwrap();
    symlink("../other/cert.pem", files.path("live/cert.pem")).unwrap();
    let warning = proxy.wait_for_log("certificate reload failed");
    assert!(warning.contains("Permission denied"), "{warning}");
    assert_eq!(page("bob", "/", &second), "file");
}

#[test]
fn handover_works_between_sandboxed_processes_of_another_user() {
    if !is_root() {
        return;
    }
    let files = Files::new();
    let (upstream, port) = (responding(|_| ok("served")), privileged_port(700..800));
    let run = files.folder("run", UID);
    files.configure(&format!(
        "listen = \"127.0.0.1:{port}\"\nuser = \"{USER}\"\nsandbox = \"auto\"\nupstream = \"{upstream}\"\nworkers = 2\n\
         handover_socket = {:?}\n",
        run.join("handover")
    ));
    let mut running = files.start();
    for _ in 0..2 {
        let next = files.start();
        next.wait_for_log("received the listeners from the old process");
        assert!(running.wait().success(), "{}", running.log());
        running = next;
        assert_eq!(get(running.address, "/").body, "served");
        assert!(statuses(running.pid(), "Uid").iter().all(|uid| uid.starts_with("65534 ")));
    }
    assert_eq!(fs::metadata(run.join("handover")).unwrap().uid(), UID);
}

#[test]
fn acme_certificates_are_stored_by_the_user_of_the_sandbox() {
    if !is_root() || !has_landlock() {
        return;
    }
    let port = free_port();
    let Some(pebble) = Pebble::start(PebbleOptions { tls_port: port, ..PebbleOptions::default() }) else { return };
    let files = Files::new();
    let certs = files.folder("state", UID).join("certs");
    let ca = files.write("ca.pem", &fs::read_to_string(pebble.directory_ca()).unwrap());
    let upstream = responding(|_| ok("served"));
    files.configure(&format!(
        "listen = \"127.0.0.1:{port}\"\nhttp_port = 0\nuser = \"{USER}\"\nsandbox = \"on\"\nupstream = \"{upstream}\"\n\
         tls_domains = \"a.example\"\ntls_cache_dir = {certs:?}\nacme_directory = \"{}\"\nacme_ca = {ca:?}\n",
        pebble.directory()
    ));
    let proxy = files.start();
    let issuer = files.write("issuer.pem", &pebble.issuer_pem());
    let served = || {
        let (url, resolve) = (format!("https://a.example:{port}/"), format!("a.example:{port}:127.0.0.1"));
        let arguments = ["-sS", "--max-time", "5", "--cacert", issuer.to_str().unwrap(), "--resolve", &resolve, &url];
        String::from_utf8(Command::new("curl").args(arguments).output().unwrap().stdout).unwrap()
    };
    let deadline = Instant::now() + TIMEOUT;
    while served() != "served" {
        assert!(Instant::now() < deadline, "{}", proxy.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut found = 0;
    let mut folders = vec![certs];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let metadata = fs::metadata(&entry).unwrap();
            assert_eq!(metadata.uid(), UID, "{}", entry.display());
            match metadata.is_dir() {
                true => folders.push(entry),
                false => found += 1,
            }
        }
    }
    assert!(found > 0, "{}", proxy.log());
}

#[test]
fn application_runs_as_the_user_and_without_the_sandbox() {
    if !is_root() || !has("python3") {
        return;
    }
    let (files, port) = (Files::new(), free_port());
    let settings = |sandbox: &str| {
        format!(
            "listen = \"127.0.0.1:0\"\nuser = \"{USER}\"\nsandbox = \"{sandbox}\"\nupstream = \"127.0.0.1:{port}\"\n\
             command = \"python3 -m http.server --bind 127.0.0.1 --directory / {port}\"\n"
        )
    };
    files.configure(&settings("auto"));
    let proxy = files.start();
    let started = proxy.wait_for_log("privileges dropped");
    assert!(
        started.contains("no_new_privs=false") && started.contains("not used: rproxy starts an application"),
        "{started}"
    );
    let line = proxy.wait_for_log("the application was started");
    proxy.wait_for_log("the application accepts connections");
    let pid: u32 = line.split("pid=").nth(1).unwrap().trim().parse().unwrap();
    assert_eq!(statuses(pid, "Uid")[0], "65534 65534 65534 65534");
    assert_eq!(statuses(pid, "NoNewPrivs")[0], "0");
    // A file that no setting of rproxy names.
    assert_eq!(get(proxy.address, "/usr/share/").status, 200, "{}", proxy.log());

    files.configure(&settings("on"));
    let (code, _, error) = rproxy(&["--config", files.path("conf/rproxy.toml").to_str().unwrap()], &[]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("command: the application would inherit the sandbox; set sandbox=off"), "{error}");
}

#[test]
fn start_fails_if_the_user_lacks_a_permission_of_the_configuration() {
    if !is_root() {
        return;
    }
    let files = Files::new();
    let disk = files.folder("disk", 0);
    fs::set_permissions(&disk, Permissions::from_mode(0o700)).unwrap();
    let private = files.write("private/users", USERS);
    fs::set_permissions(&private, Permissions::from_mode(0o600)).unwrap();
    let (disk, private) = (disk.to_str().unwrap(), private.to_str().unwrap());
    let upstream = echo().to_string();
    let base = [("RPROXY_LISTEN", "127.0.0.1:0"), ("RPROXY_UPSTREAM", upstream.as_str())];
    let user = ("RPROXY_USER", USER);
    for (settings, expected) in [
        (
            [("RPROXY_USER", "no-such-user"), ("RPROXY_WORKERS", "1")],
            "RPROXY_USER: /etc/passwd has no user \"no-such-user\"".to_owned(),
        ),
        ([user, ("RPROXY_CACHE_DISK", disk)], format!("RPROXY_CACHE_DISK: {disk} is not writable: Permission denied")),
        (
            [user, ("RPROXY_BASIC_AUTH", private)],
            format!("RPROXY_BASIC_AUTH: {private} cannot be read by the user 65534:65534: Permission denied"),
        ),
    ] {
        let (code, _, error) = rproxy(&[], &[&base[..], &settings].concat());
        assert_eq!(code, Some(1), "{error}");
        assert!(error.contains(&expected), "{expected} in {error}");
    }
    // The command that fixes it is run by root.
    let (_, _, error) = rproxy(&[], &[&base[..], &[user, ("RPROXY_CACHE_DISK", disk)]].concat());
    assert!(error.contains("sudo chown -R \"65534:65534\""), "{error}");

    let (code, report) = check(&[user, ("RPROXY_CACHE_DISK", disk)]);
    assert_eq!(code, Some(2), "{report}");
    assert!(
        report.contains(&format!("problem: RPROXY_CACHE_DISK: {disk} is not writable for the user 65534:65534")),
        "{report}"
    );

    let output = Command::new(env!("CARGO_BIN_EXE_rproxy")).env_clear().envs(base).envs([user]).uid(1).gid(1).output();
    // The folder of the binary may be closed to other users.
    if let Ok(output) = output {
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            error.contains("RPROXY_USER: cannot change the user of the process to 65534:65534; start it as root"),
            "{error}"
        );
    }
}

#[test]
fn check_describes_the_sandbox() {
    let (code, report) = check(&[]);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("# no_new_privs: not set\n# files and ports: not restricted: off\n"), "{report}");
    if !has_landlock() {
        return;
    }
    let files = Files::new();
    let users = files.write("auth/users", USERS);
    let disk = files.folder("disk", 0);
    let settings = [
        ("RPROXY_SANDBOX", "on"),
        ("RPROXY_UPSTREAM", "127.0.0.1:3000, app.example:8443"),
        ("RPROXY_BASIC_AUTH", users.to_str().unwrap()),
        ("RPROXY_CACHE_DISK", disk.to_str().unwrap()),
    ];
    let (_, report) = check(&settings);
    let auth: &Path = users.parent().unwrap();
    for line in [
        "# no_new_privs: set".to_owned(),
        "# Landlock: ABI version ".to_owned(),
        format!("# readable: {}\n", auth.canonicalize().unwrap().display()),
        format!("# writable: {}\n", disk.canonicalize().unwrap().display()),
        "# ports to listen on: 0\n".to_owned(),
        "# ports to connect to: 53, 3000, 8443\n".to_owned(),
    ] {
        assert!(report.contains(&line), "{line} in {report}");
    }
}

#[test]
fn sandboxed_process_serves_requests_like_another_one() {
    let upstream = echo();
    let proxy = Proxy::start(upstream, &[("RPROXY_SANDBOX", "auto"), ("RPROXY_ACCESS_LOG", "text")]);
    assert_eq!(get(proxy.address, "/a").status, 200);
    proxy.wait_for_output("/a");
    let bad = request(proxy.address, "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n");
    assert_eq!(bad.status, 400);
}
