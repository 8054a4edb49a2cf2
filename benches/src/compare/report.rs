//! The comparison report in Markdown: first the figures, then the test conditions.

use std::fmt::{self, Display, Formatter};

use super::Options;
use super::figure::Figure;
use super::machine::Machine;
use super::proxies::{CONFIGURATIONS, Proxy};
use super::scenario::{Kind, Origin};
use super::seen::Seen;
use super::statistics::Spread;
use super::turns::{Outcome, Verdict};

/// The measurements of all scenarios. [`Display`] writes the report.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) options: &'a Options,
    pub(crate) machine: Machine,
    pub(crate) seen: Vec<(Proxy, Result<Seen, String>)>,
    pub(crate) outcomes: Vec<Outcome>,
    /// The names of the plot files in the directory of the report.
    pub(crate) plots: Vec<String>,
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "# rproxy compared with other proxies\n")?;
        self.method(f)?;
        self.summary(f)?;
        for plot in &self.plots {
            writeln!(f, "![{}]({plot})\n", plot.trim_end_matches(".svg"))?;
        }
        writeln!(f, "## Scenarios\n")?;
        for outcome in &self.outcomes {
            self.scenario(f, outcome)?;
        }
        self.work(f)?;
        self.machine(f)?;
        configurations(f)
    }
}

impl Report<'_> {
    fn method(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Options { pairs, seconds, rproxy, .. } = self.options;
        let built = match rproxy {
            Some(path) => format!("rproxy is the binary `{}`.", path.display()),
            None => "rproxy was built by `cargo build --release`.".to_owned(),
        };
        let Machine { date, commit, .. } = &self.machine;
        writeln!(
            f,
            "{date}, commit {commit}. Each proxy has two workers, the same origin, the same load generator, and the same \
             work ([below](#observed-features-of-each-proxy)); generator, proxy and origin share one machine. In each \
             scenario the proxies have {pairs} turns of {seconds} s each, interleaved (A B C A B C), after one second of \
             warm-up. {built}\n\n\
             - **Processor time** is user and system time of all processes of a proxy from `/proc/PID/stat` (in ticks of \
             10 ms) during a turn, divided by the requests of that turn.\n\
             - A **figure** is the median of the turns, with the lowest and the highest in brackets.\n\
             - A **ratio** is rproxy's figure divided by the other's, taken turn by turn, then the median. Below 1, rproxy \
             needs less.\n\
             - One unsuccessful response or failed socket makes the figures of that proxy void.\n\
             - **Memory** is PSS, summed over the processes of a proxy, measured once without other proxies.\n"
        )
    }

    fn summary(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "## Summary\n")?;
        let others = &Proxy::CACHES[1..];
        write!(f, "| Scenario | Figure | {} |", Proxy::Rproxy.name())?;
        others.iter().try_for_each(|proxy| write!(f, " {} |", proxy.name()))?;
        others.iter().try_for_each(|proxy| write!(f, " rproxy / {} |", proxy.name()))?;
        writeln!(f, "\n|---|---|{}", "---:|".repeat(1 + 2 * others.len()))?;
        for outcome in &self.outcomes {
            let plan = outcome.scenario.plan();
            let figure = plan.headline;
            write!(f, "| {} | {}, {} |", plan.title, figure.title(), figure.unit())?;
            for proxy in Proxy::CACHES {
                match outcome.spread(*proxy, figure) {
                    Some(spread) => write!(f, " {} |", spread.alone())?,
                    None => write!(f, " {} |", outcome.absence(*proxy))?,
                }
            }
            for proxy in others {
                match outcome.ratio(*proxy, figure) {
                    Some(ratio) => write!(f, " {ratio:.2} |")?,
                    None => write!(f, " |")?,
                }
            }
            writeln!(f)?;
        }
        writeln!(f)
    }

    fn scenario(&self, f: &mut Formatter<'_>, outcome: &Outcome) -> fmt::Result {
        let plan = outcome.scenario.plan();
        writeln!(f, "### {} (`{}`)\n", plan.title, outcome.scenario.name())?;
        let origin = match plan.origin {
            Origin::Files => "nginx with static files, one worker",
            Origin::Program => "a small server of the benchmark",
        };
        match plan.kind {
            Kind::Turns(load) => writeln!(f, "`{}`: {}. Origin: {origin}.\n", plan.path, load.describe())?,
            Kind::Idle => {
                let Options { idle_connections, idle_seconds, .. } = self.options;
                writeln!(
                    f,
                    "{idle_connections} connections with one request each, then {idle_seconds} s idle; after that, each must \
                     still respond. Memory that a proxy allocates for connections at the start (nginx: its table) is not \
                     included in the growth.\n"
                )?;
            }
            Kind::Empty => writeln!(
                f,
                "Two seconds after the start, before the first request. HAProxy allocates the 64 MB of its cache at the start.\n"
            )?,
        }
        let figures = outcome.figures();
        write!(f, "| |")?;
        figures.iter().try_for_each(|figure| write!(f, " {}, {} |", figure.title(), figure.unit()))?;
        writeln!(f, " processes, threads |\n|---|{}---:|", "---:|".repeat(figures.len()))?;
        for (proxy, verdict) in &outcome.results {
            write!(f, "| {} |", proxy.name())?;
            if let Verdict::Samples { processes, threads, .. } = verdict {
                for figure in &figures {
                    match outcome.spread(*proxy, *figure) {
                        Some(spread) => write!(f, " {spread} |")?,
                        None => write!(f, " |")?,
                    }
                }
                writeln!(f, " {processes}, {threads} |")?;
            } else {
                writeln!(f, " {} |{}", outcome.absence(*proxy), " |".repeat(figures.len()))?;
            }
        }
        writeln!(f)?;
        for (proxy, _) in &outcome.results[1..] {
            let ratios = figures.iter().filter_map(|figure| {
                outcome.ratio(*proxy, *figure).map(|ratio| format!("{} {ratio:.2}", figure.title()))
            });
            let ratios: Vec<String> = ratios.collect();
            if !ratios.is_empty() {
                writeln!(f, "- rproxy / {}: {}", proxy.name(), ratios.join("; "))?;
            }
        }
        for (proxy, verdict) in &outcome.results {
            if let Verdict::Void(why) = verdict {
                writeln!(f, "- **{} is void:** {}", proxy.name(), why.replace('\n', " "))?;
            }
        }
        writeln!(f)
    }

    fn work(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "## Observed features of each proxy\n\nFeatures observed in each proxy before the scenarios.\n")?;
        write!(f, "| |")?;
        self.seen.iter().try_for_each(|(proxy, _)| write!(f, " {} |", proxy.name()))?;
        writeln!(f, "\n|---|{}", "---|".repeat(self.seen.len()))?;
        let all = self.seen.iter().find_map(|(_, seen)| seen.as_ref().ok()).into_iter().flatten();
        for (work, _) in all {
            write!(f, "| {work} |")?;
            for (_, seen) in &self.seen {
                let done = seen.as_ref().ok().and_then(|seen| seen.iter().find(|(name, _)| name == work));
                write!(
                    f,
                    " {} |",
                    match done {
                        Some((_, true)) => "yes",
                        Some((_, false)) => "no",
                        None => "",
                    }
                )?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for (proxy, seen) in &self.seen {
            if let Err(why) = seen {
                writeln!(f, "- {} did not respond: {why}", proxy.name())?;
            }
        }
        writeln!(
            f,
            "All proxies except Varnish limit requests per client. Some work of rproxy's default stack has no counterpart: \
             the `RateLimit` fields, brotli and zstd, and the path filter's check of every decoding.\n"
        )
    }

    fn machine(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { processor, cores, memory, system, kernel, load, versions, .. } = &self.machine;
        writeln!(f, "## Machine and versions\n")?;
        writeln!(f, "- {processor}, {cores} cores, {memory} of memory")?;
        writeln!(f, "- {system}, Linux {kernel}, load average at the start {load}")?;
        versions.iter().try_for_each(|(name, version)| writeln!(f, "- {name}: {version}"))?;
        writeln!(f)
    }
}

fn configurations(f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "## Configurations\n\nPlaceholders for addresses, folders and the certificate are in braces.\n")?;
    for (name, text) in CONFIGURATIONS {
        writeln!(f, "### {name}\n\n```\n{}\n```\n", text.trim_end())?;
    }
    Ok(())
}

impl Outcome {
    /// Returns the measured figures in the order of the report's columns.
    fn figures(&self) -> Vec<Figure> {
        let mut figures: Vec<Figure> = self
            .results
            .iter()
            .filter_map(|(proxy, _)| self.samples(*proxy))
            .flatten()
            .flat_map(|sample| sample.figures().collect::<Vec<_>>())
            .collect();
        figures.sort();
        figures.dedup();
        figures
    }

    pub(crate) fn spread(&self, proxy: Proxy, figure: Figure) -> Option<Spread> {
        Spread::of(&self.values(proxy, figure)?)
    }

    /// Returns the ratio of rproxy's result to that of the other proxy.
    pub(crate) fn ratio(&self, other: Proxy, figure: Figure) -> Option<Spread> {
        Spread::of_ratios(&self.values(Proxy::Rproxy, figure)?, &self.values(other, figure)?)
    }

    fn values(&self, proxy: Proxy, figure: Figure) -> Option<Vec<f64>> {
        self.samples(proxy)?.iter().map(|sample| sample.get(figure)).collect()
    }

    fn samples(&self, proxy: Proxy) -> Option<&[super::figure::Sample]> {
        match self.verdict(proxy)? {
            Verdict::Samples { samples, .. } => Some(samples),
            _ => None,
        }
    }

    fn verdict(&self, proxy: Proxy) -> Option<&Verdict> {
        self.results.iter().find(|(of, _)| *of == proxy).map(|(_, verdict)| verdict)
    }

    /// Returns the reason that a proxy has no figures, such as `not installed`.
    fn absence(&self, proxy: Proxy) -> &'static str {
        match self.verdict(proxy) {
            Some(Verdict::Void(_)) => "void",
            Some(Verdict::NotInstalled) => "not installed",
            Some(Verdict::Samples { .. }) | None => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::figure::Sample;
    use super::super::memory::Memory;
    use super::super::scenario::Scenario;
    use super::*;

    fn idle(megabytes: &[u64]) -> Verdict {
        let memory = |megabytes| Memory { proportional: megabytes * 1_000_000, resident: 0 };
        let samples = megabytes.iter().map(|of| Sample::of_memory(memory(*of))).collect();
        Verdict::Samples { samples, processes: 1, threads: 2 }
    }

    #[test]
    fn proxy_with_an_error_has_no_figure_and_no_ratio() {
        let outcome = Outcome {
            scenario: Scenario::Empty,
            results: vec![
                (Proxy::Rproxy, idle(&[8, 9])),
                (Proxy::Nginx, idle(&[16, 9])),
                (Proxy::Haproxy, Verdict::Void("12 of 300 responses have no 2xx status".to_owned())),
            ],
        };
        let figure = Figure::Proportional;
        assert_eq!(outcome.ratio(Proxy::Nginx, figure).unwrap().median, 0.75);
        assert_eq!(outcome.ratio(Proxy::Haproxy, figure), None);
        assert_eq!(outcome.spread(Proxy::Haproxy, figure), None);
        assert_eq!(outcome.absence(Proxy::Haproxy), "void");
    }
}
