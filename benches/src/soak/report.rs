//! What came of it, in Markdown.

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
    /// What the proxy logged.
    pub(super) log: String,
}

const MEBI: f64 = (1 << 20) as f64;
/// How much a level may rise over the last half, as a part of its mean: more than noise, less than any leak.
const LEVEL: f64 = 0.05;
/// In a short run the caches still fill: what is level only shows in minutes.
const SHORT: Duration = Duration::from_secs(10 * 60);

/// A figure that is to stay level: its name, its unit, and how it is read.
type Figure = (&'static str, f64, fn(&Level) -> f64);

const FIGURES: [Figure; 5] = [
    ("memory, MiB", MEBI, |level| level.resident),
    ("descriptors", 1.0, |level| level.descriptors),
    ("tasks", 1.0, |level| level.tasks),
    ("connections", 1.0, |level| level.connections),
    ("tunnels", 1.0, |level| level.tunnels),
];

impl Report {
    /// What did not hold; nothing, one hopes.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for (kind, count) in self.tally.counts() {
            if count.wrong > 0 {
                failures.push(format!("{kind}: {} wrong", count.wrong));
            }
            if count.right == 0 {
                failures.push(format!("{kind}: nothing was right"));
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
            failures.push("not everything was given back when the load ended".to_owned());
        }
        if self.after.panics > 0.0 {
            failures.push(format!("{} panics", self.after.panics));
        }
        let errors = self.log_lines("ERROR");
        if errors > 0 {
            failures.push(format!("{errors} lines of the log are errors"));
        }
        failures
    }

    /// By what part of its mean a figure rises over the last half.
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
            true => writeln!(f, "**All of it held.**\n")?,
            false => writeln!(f, "**Did not hold:** {}.\n", failures.join("; "))?,
        }
        let Disturbed { restarts, pauses, reloads, .. } = self.disturbed;
        writeln!(
            f,
            "Meanwhile: {restarts} times a backend was killed and came back after 1.5 s, {pauses} times one was stopped for \
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
        writeln!(f, "![What the proxy held](soak.svg)")
    }
}

impl Report {
    fn work(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| Work | right | 429, as due | while a backend was away | wrong |\n|---|--:|--:|--:|--:|")?;
        let counts = self.tally.counts();
        for (kind, count) in &counts {
            writeln!(f, "| {kind} | {} | {} | {} | {} |", count.right, count.limited, count.excused, count.wrong)?;
        }
        writeln!(
            f,
            "\nEvery answer is compared with what it has to be, byte by byte. *While a backend was away*: a 502, 503 or 504 with \
             its `Proxy-Status`, an answer cut short, or a tunnel that ended, within a second of that. Anything else is wrong, at \
             any time.\n"
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
            "| Held | before | mean of the last half | its slope, per hour | after the load |\n|---|--:|--:|--:|--:|"
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
