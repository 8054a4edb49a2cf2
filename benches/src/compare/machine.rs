//! The machine on which a benchmark runs, and the versions of the load generators.

use std::fs;
use std::thread;
use std::time::SystemTime;

use serde::Serialize;
use tokio::process::Command;

use super::proxies::version_line;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory: String,
    pub(crate) system: String,
    pub(crate) kernel: String,
    /// The one-minute load average before the benchmark.
    pub(crate) load: String,
    /// The versions of the load generators.
    pub(crate) generators: Vec<(&'static str, String)>,
}

impl Machine {
    pub(crate) async fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let field = |text: String, name: &str| value(&text, name).unwrap_or("unknown").to_owned();
        let mut generators = Vec::new();
        for (program, argument) in [("wrk", "-v"), ("h2load", "--version")] {
            let version = version_line(Command::new(program).arg(argument)).await;
            generators.push((program, version.unwrap_or_else(|_| "not installed".to_owned())));
        }
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            commit: commit().await,
            processor: field(read("/proc/cpuinfo"), "model name"),
            cores: thread::available_parallelism().map_or(0, usize::from),
            memory: field(read("/proc/meminfo"), "MemTotal"),
            system: field(read("/etc/os-release").replace('=', ":"), "PRETTY_NAME").trim_matches('"').to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            generators,
        }
    }
}

/// Returns the value in a line of the form `name : value`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// Returns the hash of the current commit, marked if there are uncommitted changes.
async fn commit() -> String {
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]).await else { return "unknown".to_owned() };
    match git(&["status", "--porcelain", "--untracked-files=no"]).await.as_deref() {
        Some("") => commit,
        _ => commit + ", with changes",
    }
}

async fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).kill_on_drop(true).output().await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpuinfo_value_matches_only_whole_names() {
        let text = "model\t\t: 17\nmodel name\t: AMD EPYC: two\n\nmodel name\t: other\n";
        assert_eq!(value(text, "model name"), Some("AMD EPYC: two"));
        assert_eq!(value(text, "name"), None);
    }
}
