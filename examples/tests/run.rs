//! Every example runs and does what its first lines say.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Example {
    child: Child,
    address: String,
}

impl Example {
    fn start(program: &str, args: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .arg("127.0.0.1:0")
            .args(args)
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("where it listens").to_owned();
        Self { child, address }
    }

    fn get(&self, path: &str, host: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn axum_rate_limit() {
    let example = Example::start(env!("CARGO_BIN_EXE_axum-rate-limit"), &[], &[]);
    let limited = (0..30).filter(|_| example.get("/", "a").starts_with("HTTP/1.1 429")).count();
    assert!((1..=20).contains(&limited), "{limited} of 30");
}

#[test]
fn hyper_minimal() {
    let example = Example::start(env!("CARGO_BIN_EXE_hyper-minimal"), &[], &[]);
    let answer = example.get("/", "a");
    assert!(answer.contains("x-content-type-options: nosniff") && answer.ends_with("Hello, World!\n"), "{answer}");
}

#[test]
fn custom_proxy() {
    let backend = Example::start(env!("CARGO_BIN_EXE_hyper-minimal"), &[], &[]);
    let proxy = Example::start(env!("CARGO_BIN_EXE_custom-proxy"), &[&format!("app.local={}", backend.address)], &[]);
    assert!(proxy.get("/", "app.local").ends_with("Hello, World!\n"));
    assert!(proxy.get("/.env", "app.local").starts_with("HTTP/1.1 404"));
    assert!(proxy.get("/", "other.local").starts_with("HTTP/1.1 421"));
}

#[test]
fn embedded() {
    let backend = Example::start(env!("CARGO_BIN_EXE_hyper-minimal"), &[], &[]);
    let proxy = Example::start(env!("CARGO_BIN_EXE_embedded"), &[], &[("RPROXY_UPSTREAM", &backend.address)]);
    assert!(proxy.get("/own", "a").ends_with("answered here\n"));
    assert!(proxy.get("/", "a").ends_with("Hello, World!\n"));
    assert!(proxy.get("/%2eenv", "a").starts_with("HTTP/1.1 404"));
}
