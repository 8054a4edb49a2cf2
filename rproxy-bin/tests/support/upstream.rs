//! Backends for tests: nginx, and scripted servers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::{TIMEOUT, free_port, has};

/// An nginx process with the given content of its server block.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
    config: std::path::PathBuf,
}

impl Nginx {
    pub(crate) fn start(server: &str) -> Option<Self> {
        if !has("nginx") {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        let port = free_port();
        let config = format!(
            "daemon off; worker_processes 1; pid {root}/pid; error_log {root}/error.log;
             events {{ worker_connections 4096; }}
             http {{
                 access_log off; client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;
                 fastcgi_temp_path {root}/fcgi; uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
                 keepalive_requests 1000000; client_max_body_size 0;
                 server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; {server} }}
             }}"
        );
        let path = folder.path().join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let child = spawn(&path, address);
        Some(Self { child, address, folder, config: path })
    }

    /// Kills nginx and closes all its connections.
    pub(crate) fn kill(&mut self) {
        // The master process stops its worker when it is terminated.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }

    /// Reloads nginx: new workers start, and old workers finish their requests.
    pub(crate) fn reload(&self) {
        assert!(Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Starts nginx again on the same port.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.config, self.address);
    }
}

fn spawn(config: &std::path::Path, address: SocketAddr) -> Child {
    let child = Command::new("/usr/sbin/nginx")
        .args(["-c", config.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nginx does not listen");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a backend that calls `serve` on a new thread for each connection that sends a request.
pub(crate) fn scripted(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || {
                // The check of idle backends after the start connects, and sends nothing.
                if stream.peek(&mut [0]).is_ok_and(|length| length > 0) {
                    serve(stream);
                }
            });
        }
    });
    address
}

/// Reads a request head; returns `None` if the connection ends first.
pub(crate) fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Starts a backend that reads each request and responds with the result of `response` for the request head.
pub(crate) fn responding(response: impl Fn(&str) -> String + Clone + Send + 'static) -> SocketAddr {
    scripted(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if read_body(&mut stream, &head.to_ascii_lowercase()).is_none()
                || stream.write_all(response(&head).as_bytes()).is_err()
            {
                return;
            }
        }
    })
}

/// Reads a request body to its end; returns `None` if the connection ends first.
pub(crate) fn read_body(stream: &mut TcpStream, head: &str) -> Option<()> {
    if head.contains("transfer-encoding: chunked") {
        loop {
            let line = read_line(stream)?;
            match usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()? {
                0 => break,
                size => stream.read_exact(&mut vec![0; size + 2]).ok()?,
            }
        }
        while !read_line(stream)?.is_empty() {}
        return Some(());
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(0, |length| length.trim().parse().unwrap());
    stream.read_exact(&mut vec![0; length]).ok()
}

/// Reads a line, and returns it without the line ending.
fn read_line(stream: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        line.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
}

/// Returns a 200 response with this body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Starts a backend that responds with the received request head.
pub(crate) fn echo() -> SocketAddr {
    responding(ok)
}
