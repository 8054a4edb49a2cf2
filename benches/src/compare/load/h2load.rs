//! Runs h2load, and parses its output.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use super::{Tally, Target, output_of};
use crate::compare::certificate::HOST;

/// Runs h2load with additional arguments for the request.
pub(super) async fn run(
    target: &Target,
    connections: usize,
    streams: usize,
    request: &[&str],
    duration: Duration,
) -> Result<Tally> {
    let mut command = Command::new("h2load");
    let (connections, streams) = (format!("-c{connections}"), format!("-m{streams}"));
    command.args(["-t1", &connections, &streams, &format!("-D{}", duration.as_secs())]);
    command.args(["-H", &format!(":authority: {HOST}")]).args(request).arg(target.url());
    parse(&output_of(command).await?, duration)
}

/// Parses the output of h2load. `duration` is the requested time, since h2load rounds the one it prints.
fn parse(output: &str, duration: Duration) -> Result<Tally> {
    let line = |start: &str| {
        let found = output.lines().find_map(|line| line.strip_prefix(start));
        found.with_context(|| format!("h2load printed no {start:?}: {output}"))
    };
    let protocol = line("Application protocol: ")?;
    ensure!(protocol == "h2", "the proxy chose {protocol}, not HTTP/2");
    let requests = counts(line("requests: ")?)?;
    let statuses = counts(line("status codes: ")?)?;
    let of = |counts: &[(u64, &str)], what: &str| counts.iter().find(|(_, name)| *name == what).map_or(0, |of| of.0);

    for bad in ["failed", "errored", "timeout"] {
        let count = of(&requests, bad);
        ensure!(count == 0, "{count} requests {bad}");
    }
    match of(&statuses, "2xx") {
        0 => bail!("no response has a 2xx status"),
        good => {
            let other: u64 = statuses.iter().map(|(count, _)| count).sum::<u64>() - good;
            ensure!(other == 0, "{other} of {} responses have no 2xx status", good + other);
        }
    }
    Ok(Tally::new(of(&requests, "succeeded"), duration))
}

/// Parses a list such as `12 total, 12 started, 0 failed` into pairs of number and name.
fn counts(line: &str) -> Result<Vec<(u64, &str)>> {
    line.split(", ")
        .map(|part| {
            let (count, name) = part.split_once(' ').with_context(|| line.to_owned())?;
            Ok((count.parse().with_context(|| line.to_owned())?, name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
starting benchmark...
spawning thread #0: 4 total client(s). Timing-based test with 0s of warm-up time and 3s of main duration for measurements.
TLS Protocol: TLSv1.3
Cipher: TLS_AES_256_GCM_SHA384
Server Temp Key: X25519 253 bits
Application protocol: h2
Main benchmark duration is started for thread #0.

finished in 3.00s, 41234.33 req/s, 6.45MB/s
requests: 123703 total, 123831 started, 123703 done, 123703 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 123705 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 19.34MB (20284120) total, 6.13MB (6432556) headers (space savings 81.12%), 2.01MB (2102951) data
";

    #[test]
    fn parses_the_number_of_successful_requests_from_h2load() {
        let tally = parse(OUTPUT, Duration::from_secs(3)).unwrap();
        assert_eq!((tally.requests, tally.elapsed), (123_703, Duration::from_secs(3)));
    }

    #[test]
    fn rejects_h2load_output_with_failures_or_another_protocol() {
        for (from, to, error) in [
            ("0 4xx", "5 4xx", "5 of 123710 responses have no 2xx status"),
            ("0 3xx", "7 3xx", "7 of 123712 responses have no 2xx status"),
            ("123705 2xx", "0 2xx", "no response has a 2xx status"),
            ("0 failed", "2 failed", "2 requests failed"),
            ("0 timeout", "3 timeout", "3 requests timeout"),
            ("protocol: h2", "protocol: http/1.1", "the proxy chose http/1.1, not HTTP/2"),
        ] {
            let output = OUTPUT.replace(from, to);
            assert_eq!(parse(&output, Duration::from_secs(3)).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn rejects_truncated_h2load_output() {
        assert!(parse("starting benchmark...\n", Duration::from_secs(3)).is_err());
    }
}
