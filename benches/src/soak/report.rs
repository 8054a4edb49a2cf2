//! The soak test report in Markdown.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::disturbance::Disturbed;
use super::tally::Tally;
use super::watch::{Level, Sample, last_half, slope};
use crate::compare::Machine;

pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) load: Duration,
    pub(super) before: Level,
    pub(super) samples: Vec<Sample>,
    pub(super) after: Level,
    pub(super) tally: Arc<Tally>,
    pub(super) disturbed: Disturbed,
    /// The log output of the proxy.
    pub(super) log: String,
}

const MEBI: f64 = (1 << 20) as f64;
/// The maximum increase of a figure over the last half of a run, relative to its mean, that does not count as a leak.
const LEVEL: f64 = 0.05;
/// The minimum duration of a run that is checked for leaks, because caches are still filling in shorter runs.
const SHORT: Duration = Duration::from_secs(10 * 60);

/// A figure that must not increase: name, unit and accessor.
type Figure = (&'static str, f64, fn(&Level) -> f64);

const FIGURES: [Figure; 5] = [
    ("memory, MiB", MEBI, |level| level.resident),
    ("descriptors", 1.0, |level| level.descriptors),
    ("tasks", 1.0, |level| level.tasks),
    ("connections", 1.0, |level| level.connections),
    ("tunnels", 1.0, |level| level.tunnels),
];

impl Report {
    /// Returns the conditions of the soak test that were violated.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for (kind, count) in self.tally.counts() {
            if count.wrong > 0 {
                failures.push(format!("{kind}: {} wrong", count.wrong));
            }
            if count.right == 0 {
                failures.push(format!("{kind}: no correct response"));
            }
        }
        if self.load >= SHORT {
            for (name, _, figure) in &FIGURES[..3] {
                let rise = self.rise(*figure);
                if rise > LEVEL {
                    failures.push(format!("{name}: up by {:.1} % over the last half", rise * 100.0));
                }
            }
        }
        if !self.after.is_back_to(&self.before) {
            failures.push("not everything was released after the load".to_owned());
        }
        if self.after.panics > 0.0 {
            failures.push(format!("{} panics", self.after.panics));
        }
        let errors = self.log_lines("ERROR");
        if errors > 0 {
            failures.push(format!("{errors} error lines in the log"));
        }
        failures
    }

    /// Returns the increase of a figure over the last half of the run, relative to its mean.
    fn rise(&self, figure: fn(&Level) -> f64) -> f64 {
        let half = last_half(&self.samples);
        let (Some(first), Some(last)) = (half.first(), half.last()) else { return 0.0 };
        slope(half, figure) * (last.0 - first.0) / mean(half, figure).max(1.0)
    }

    fn log_lines(&self, level: &str) -> usize {
        self.log.lines().filter(|line| line.contains(level)).count()
    }
}

fn mean(samples: &[Sample], figure: fn(&Level) -> f64) -> f64 {
    samples.iter().map(|(_, level)| figure(level)).sum::<f64>() / samples.len().max(1) as f64
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { date, commit, processor, cores, system, kernel, load, .. } = &self.machine;
        let minutes = self.load.as_secs() / 60;
        writeln!(f, "# Soak of {minutes} min\n")?;
        writeln!(f, "```\ncargo run --release -p rproxy-benches -- soak --minutes {minutes}\n```\n")?;
        writeln!(
            f,
            "{date}, commit {commit}. {processor}, {cores} cores, {system}, Linux {kernel}; load average before: {load}.\n"
        )?;
        let failures = self.failures();
        match failures.is_empty() {
            true => writeln!(f, "**Passed.**\n")?,
            false => writeln!(f, "**Failed:** {}.\n", failures.join("; "))?,
        }
        let Disturbed { restarts, pauses, reloads, .. } = self.disturbed;
        writeln!(
            f,
            "During the load: {restarts} times a backend was killed and restarted after 1.5 s, {pauses} times one was stopped for \
             1.5 s, {reloads} reloads (SIGHUP with a changed file, a third of them with a new certificate). \
             {:.0} requests, {:.0} µs of processor time each; {} panics; {} warnings and {} errors in the log.\n",
            self.after.requests,
            self.after.processor * 1e6 / self.after.requests.max(1.0),
            self.after.panics,
            self.log_lines("WARN"),
            self.log_lines("ERROR"),
        )?;
        self.work(f)?;
        self.levels(f)?;
        writeln!(f, "![Memory, descriptors, tasks, connections and tunnels of the proxy over time](soak.svg)")
    }
}

impl Report {
    fn work(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| Client | Correct | 429, expected | During a backend failure | Wrong |\n|---|--:|--:|--:|--:|")?;
        let counts = self.tally.counts();
        for (kind, count) in &counts {
            writeln!(f, "| {kind} | {} | {} | {} | {} |", count.right, count.limited, count.excused, count.wrong)?;
        }
        writeln!(
            f,
            "\nEach response is compared with the expected one, byte by byte. *During a backend failure*: a 502, 503 or 504 with \
             `Proxy-Status`, an aborted response, or a closed tunnel, within a second of the failure. Any other deviation is wrong.\n"
        )?;
        for (kind, count) in &counts {
            for words in &count.words {
                writeln!(f, "- {kind}: {words}")?;
            }
        }
        writeln!(f)
    }

    fn levels(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let half = last_half(&self.samples);
        writeln!(
            f,
            "| State | Before | Mean of the last half | Slope per hour | After the load |\n|---|--:|--:|--:|--:|"
        )?;
        for (name, unit, figure) in FIGURES {
            writeln!(
                f,
                "| {name} | {:.1} | {:.1} | {:+.2} ({:+.1} % over the half) | {:.1} |",
                figure(&self.before) / unit,
                mean(half, figure) / unit,
                slope(half, figure) * 3600.0 / unit,
                self.rise(figure) * 100.0,
                figure(&self.after) / unit,
            )?;
        }
        writeln!(f)
    }
}
