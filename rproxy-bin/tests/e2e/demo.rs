//! The demo: its page, its data, the commands that it prints, and colours in a terminal.

use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::{Proxy, address_in, collect, curl, get, has, wait_for};

struct Demo {
    proxy: Proxy,
    _home: TempDir,
}

impl Demo {
    fn start(args: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let args = [&["demo", "--listen", "127.0.0.1:0"], args].concat();
        let proxy = Proxy::run(&args, &[("HOME", home.path().to_str().unwrap())]);
        proxy.wait_for_output("Press Ctrl-C");
        Self { proxy, _home: home }
    }

    fn curl(&self, args: &[&str], path: &str) -> String {
        let port = self.proxy.address.port();
        let (resolve, url) = (format!("localhost:{port}:127.0.0.1"), format!("https://localhost:{port}{path}"));
        curl(&[&["-k", "--resolve", &resolve], args, &[&url]].concat())
    }

    /// Returns the last metrics of a stream that ends after `events` events.
    fn metrics(&self, events: usize) -> serde_json::Value {
        let port = self.proxy.address.port();
        let mut child = Command::new("curl")
            .args(["-skN", "--max-time", "20", "--resolve", &format!("localhost:{port}:127.0.0.1")])
            .arg(format!("https://localhost:{port}/api/metrics"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = collect(child.stdout.take().unwrap());
        wait_for(&lines, &format!("id: {}", events + 1));
        child.kill().unwrap();
        child.wait().unwrap();
        let lines = lines.lock().unwrap();
        let last = lines.iter().filter_map(|line| line.strip_prefix("data: ")).nth(events - 1).unwrap();
        serde_json::from_str(last).unwrap()
    }
}

#[test]
fn runs_without_configuration() {
    let demo = Demo::start(&[]);
    assert!(demo.curl(&[], "/").contains("<html"));
    assert!(demo.curl(&[], "/api/echo").to_ascii_lowercase().contains("x-forwarded-for"));
    assert_eq!(demo.curl(&["-o", "/dev/null", "-w", "%{http_code}"], "/.env"), "404");
    assert!(demo.proxy.wait_for_output("GET /.env").contains("refused=blocked_path"));
}

#[test]
fn first_request_for_a_visit_is_a_miss_and_the_second_a_hit() {
    let demo = Demo::start(&[]);
    let status = |visit: &str| {
        let head = demo.curl(&["-i"], &format!("/static/now.txt?visit={visit}"));
        head.lines().find_map(|line| line.strip_prefix("cache-status: ")).unwrap().to_owned()
    };
    for visit in ["1", "2"] {
        assert!(status(visit).contains("fwd=uri-miss"), "{visit}");
        assert!(status(visit).contains("hit"), "{visit}");
    }
}

#[test]
fn shows_the_tls_session_of_the_client() {
    let demo = Demo::start(&[]);
    for (args, version, alpn) in [
        (&["--http2"][..], "TLSv1.3", "h2"),
        (&["--http1.1"], "TLSv1.3", "http/1.1"),
        (&["--tls-max", "1.2", "--http2", "-H", "demo-tls-version: spoofed"], "TLSv1.2", "h2"),
    ] {
        let session: serde_json::Value = serde_json::from_str(&demo.curl(args, "/api/tls")).unwrap();
        assert_eq!((&session["version"], &session["alpn"]), (&version.into(), &alpn.into()), "{args:?}");
        for key in ["cipher_suite", "key_exchange"] {
            assert!(session[key].as_str().is_some_and(|name| name.len() > 5), "{key} in {session}");
        }
        assert_eq!(session["certificate"]["names"][0], "localhost");
        assert_eq!(session["certificate"]["source"], "local");
    }
}

#[test]
fn responses_have_the_fields_that_the_page_shows() {
    let head = Demo::start(&[]).curl(&["-I"], "/").to_ascii_lowercase();
    for field in
        ["x-content-type-options: nosniff", "x-frame-options: sameorigin", "content-security-policy: default-src"]
    {
        assert!(head.contains(field), "{field} in {head}");
    }
    assert!(!head.contains("\nserver:") && !head.contains("x-powered-by"), "{head}");
}

#[test]
fn metrics_count_hits_and_blocked_paths() {
    let demo = Demo::start(&[]);
    let before = demo.metrics(1);
    for path in ["/static/now.txt", "/static/now.txt", "/.env"] {
        demo.curl(&[], path);
    }
    let after = demo.metrics(1);
    let difference = |key: &str| after[key].as_i64().unwrap() - before[key].as_i64().unwrap();
    // The first stream of metrics is completed as well.
    assert_eq!((difference("requests"), difference("cache_hits"), difference("blocked_paths")), (4, 1, 1));
    assert_eq!(after["in_flight"], 1);
    assert!(difference("body_bytes") > 80);
}

#[test]
fn printed_command_for_the_rate_limit_reaches_it() {
    // The rate that the demo adds while the command runs would depend on the speed of this machine.
    let demo = Demo::start(&["--rate-limit", "1"]);
    let line = demo.proxy.wait_for_output("429 from the rate limit");
    let command = line.split_once("  curl").unwrap().1;
    let output = Command::new("sh").args(["-c", &format!("curl {command}")]).output().unwrap();
    let counts = String::from_utf8(output.stdout).unwrap();
    let count = |code: &str| -> u32 {
        let line = counts.lines().find_map(|line| line.trim().strip_suffix(code));
        line.unwrap_or_else(|| panic!("no {code} in {counts}")).trim().parse().unwrap()
    };
    let (accepted, rejected) = (count("200"), count("429"));
    assert_eq!(accepted + rejected, 400, "{counts}");
    // The burst, and one more per second.
    assert!((200..300).contains(&accepted), "{counts}");
}

#[test]
fn access_log_has_colors_in_a_terminal_unless_no_color_is_set() {
    // `script` runs a command in a terminal.
    if !has("script") {
        return;
    }
    let binary = env!("CARGO_BIN_EXE_rproxy");
    for (variable, has_colors) in [("", true), ("NO_COLOR=", true), ("NO_COLOR=1", false)] {
        let command = format!("echo pid=$$; exec env {variable} {binary} --listen 127.0.0.1:0 --access-log text");
        let mut terminal = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = collect(terminal.stdout.take().unwrap());
        let pid = wait_for(&lines, "pid=").trim().trim_start_matches("pid=").to_owned();
        let listening = wait_for(&lines, "listening");
        let address = without_colors(&listening);
        get(address_in(&address), "/.env");
        let line = wait_for(&lines, "GET /.env");
        Command::new("kill").arg(&pid).status().unwrap();
        terminal.wait().unwrap();
        assert_eq!(line.contains("\x1b[0;33m 404"), has_colors, "{variable} {line:?}");
        assert_eq!(line.contains('\x1b'), has_colors, "{variable} {line:?}");
        assert_eq!(listening.contains('\x1b'), has_colors, "{variable} {listening:?}");
        assert!(without_colors(&line).contains("\"GET /.env HTTP/1.1\" 404 "), "{line:?}");
    }
}

/// Removes control sequences.
fn without_colors(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}
