//! Runs wrk, and parses its output.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;
use tokio::process::Command;

use super::requests::Requests;
use super::{Tally, Target, output_of};
use crate::compare::certificate::HOST;

pub(super) async fn run(target: &Target, connections: usize, requests: Requests, duration: Duration) -> Result<Tally> {
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{connections}"), &format!("-d{}s", duration.as_secs())]);
    command.args(["-H", &format!("Host: {HOST}")]);
    let mut file = NamedTempFile::new()?;
    if requests != Requests::Get {
        file.write_all(script(&requests.messages(&target.path))?.as_bytes())?;
        command.arg("-s").arg(file.path());
    }
    command.arg(target.url());
    parse(&output_of(command).await?)
}

/// Returns a Lua script that sends the messages round robin.
fn script(messages: &[Vec<u8>]) -> Result<String> {
    let mut script = "local requests = {\n".to_owned();
    for message in messages {
        let text = str::from_utf8(message)?.replace('\\', "\\\\").replace('"', "\\\"");
        writeln!(script, "\"{}\",", text.replace('\r', "\\r").replace('\n', "\\n"))?;
    }
    script += "}\nlocal last = 0\n\
               request = function()\n  last = last % #requests + 1\n  return requests[last]\nend\n";
    Ok(script)
}

/// Parses the output of wrk. Fails on responses without a success status, and on socket errors.
fn parse(output: &str) -> Result<Tally> {
    let line = |part: &str| output.lines().map(str::trim).find(|line| line.contains(part));
    ensure!(line("Non-2xx").is_none(), "{}", line("Non-2xx").unwrap_or_default());
    ensure!(line("Socket errors").is_none(), "{}", line("Socket errors").unwrap_or_default());
    let total = line(" requests in ").with_context(|| format!("wrk printed no total: {output}"))?;
    let (requests, rest) = total.split_once(" requests in ").context("a total")?;
    let elapsed = rest.split(',').next().unwrap_or_default();
    let requests = requests.parse().with_context(|| total.to_owned())?;
    Ok(Tally::new(requests, time(elapsed).with_context(|| total.to_owned())?))
}

/// Parses a number with a unit, such as `3.01s` or `1.50m`.
fn time(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text[..unit].parse().ok()?;
    let seconds = match &text[unit..] {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
Running 3s test @ http://localhost:9402/small
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.05ms  395.05us   9.91ms   86.20%
    Req/Sec    30.81k     1.97k   33.20k    83.87%
  95034 requests in 3.10s, 30.36MB read
Requests/sec:  30656.66
Transfer/sec:      9.79MB
";

    #[test]
    fn script_contains_the_messages_as_lua_strings() {
        let script = script(&[b"GET / HTTP/1.1\r\n\r\n".to_vec(), b"a\"b".to_vec()]).unwrap();
        assert!(
            script.starts_with("local requests = {\n\"GET / HTTP/1.1\\r\\n\\r\\n\",\n\"a\\\"b\",\n}\n"),
            "{script}"
        );
    }

    #[test]
    fn parses_the_total_of_wrk_requests() {
        let tally = parse(OUTPUT).unwrap();
        assert_eq!((tally.requests, tally.elapsed), (95034, Duration::from_millis(3100)));
    }

    #[test]
    fn rejects_wrk_output_with_unsuccessful_responses() {
        let output = OUTPUT.replace("Requests/sec", "  Non-2xx or 3xx responses: 12\nRequests/sec");
        assert_eq!(parse(&output).unwrap_err().to_string(), "Non-2xx or 3xx responses: 12");
    }

    #[test]
    fn rejects_wrk_output_with_socket_errors() {
        let errors = "Socket errors: connect 0, read 3, write 0, timeout 1";
        let output = OUTPUT.replace("Requests/sec", &format!("  {errors}\nRequests/sec"));
        assert_eq!(parse(&output).unwrap_err().to_string(), errors);
    }

    #[test]
    fn rejects_wrk_output_without_a_total() {
        assert!(parse("unable to connect to localhost:9402 Connection refused\n").is_err());
    }

    #[test]
    fn parses_wrk_times_with_one_unit() {
        for (text, milliseconds) in [("500.00ms", 500), ("3.10s", 3100), ("1.50m", 90_000), ("0.5h", 1_800_000)] {
            assert_eq!(time(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "3", "3x", "-1s"] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
