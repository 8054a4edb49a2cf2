//! The comparison report in Markdown: first the figures, then the test conditions.

use std::fmt::{self, Display, Formatter};

use super::Options;
use super::machine::Machine;
use super::outcome::{Outcome, Verdict};
use super::programs::Programs;
use super::proxies::CONFIGURATIONS;
use super::scenario::{Kind, Origin};
use super::seen::Seen;
use super::summary;

/// The measurements of all scenarios. [`Display`] writes the report.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) options: &'a Options,
    pub(crate) machine: Machine,
    pub(crate) programs: Programs,
    /// The observed features of each present program.
    pub(crate) seen: Vec<Result<Seen, String>>,
    pub(crate) outcomes: Vec<Outcome>,
    /// The names of the plot files in the directory of the report.
    pub(crate) plots: Vec<String>,
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "# rproxy compared with other proxies\n")?;
        self.method(f)?;
        summary::write(f, &self.programs.present, &self.outcomes)?;
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
        let Options { pairs, seconds, .. } = self.options;
        let Machine { date, commit, .. } = &self.machine;
        writeln!(
            f,
            "{date}, commit {commit}. Each proxy has two workers or threads for requests, the same origin, the same load generator, and the same \
             work ([below](#observed-features-of-each-proxy)); generator, proxy and origin share one machine. In each \
             scenario the proxies have {pairs} turns of {seconds} s each, interleaved (A B C A B C), after one second of \
             warm-up.\n\n\
             - **Processor time** is user and system time of all processes of a proxy from `/proc/PID/stat` (in ticks of \
             10 ms) during a turn, divided by the requests of that turn.\n\
             - A **figure** is the median of the turns, with the lowest and the highest in brackets.\n\
             - A **ratio** is one figure divided by another, taken turn by turn, then the median. Below 1, the first needs \
             less.\n\
             - One unsuccessful response or failed socket makes the figures of that proxy void.\n\
             - **Memory** is PSS, summed over the processes of a proxy, measured once without other proxies.\n\
             - An **empty** cell means that the proxy does not have the feature of the scenario.\n"
        )?;
        let missing = &self.programs.missing;
        missing.iter().try_for_each(|reason| writeln!(f, "Left out: {}\n", reason.replace('\n', " ")))
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
        for (program, verdict) in &outcome.results {
            write!(f, "| {} |", program.name)?;
            if let Verdict::Samples { processes, threads, .. } = verdict {
                for figure in &figures {
                    match outcome.spread(program, *figure) {
                        Some(spread) => write!(f, " {spread} |")?,
                        None => write!(f, " |")?,
                    }
                }
                writeln!(f, " {processes}, {threads} |")?;
            } else {
                writeln!(f, " {} |{}", outcome.absence(program), " |".repeat(figures.len()))?;
            }
        }
        writeln!(f)?;
        for (program, verdict) in &outcome.results {
            if let Verdict::Void(why) = verdict {
                writeln!(f, "- **{} is void:** {}", program.name, why.replace('\n', " "))?;
            }
        }
        writeln!(f)
    }

    fn work(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "## Observed features of each proxy\n\nFeatures observed in each proxy before the scenarios.\n")?;
        write!(f, "| |")?;
        self.programs.present.iter().try_for_each(|program| write!(f, " {} |", program.name))?;
        writeln!(f, "\n|---|{}", "---|".repeat(self.seen.len()))?;
        let all = self.seen.iter().find_map(|seen| seen.as_ref().ok()).into_iter().flatten();
        for (work, _) in all {
            write!(f, "| {work} |")?;
            for seen in &self.seen {
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
        for (program, seen) in self.programs.present.iter().zip(&self.seen) {
            if let Err(why) = seen {
                writeln!(f, "- {} did not respond: {why}", program.name)?;
            }
        }
        writeln!(
            f,
            "All proxies except Varnish and Caddy limit requests, Envoy those of all clients together and the others per \
             client. Some work of rproxy's default stack has no counterpart: the `RateLimit` fields, brotli and zstd, and the \
             path filter's check of every decoding. Traefik responds to blocked paths with 418 instead of 404.\n"
        )
    }

    fn machine(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { processor, cores, memory, system, kernel, load, generators, .. } = &self.machine;
        writeln!(f, "## Machine and versions\n")?;
        writeln!(f, "- {processor}, {cores} cores, {memory} of memory")?;
        writeln!(f, "- {system}, Linux {kernel}, load average at the start {load}")?;
        let programs = self.programs.present.iter().map(|program| (program.name.as_str(), &program.version));
        let generators = generators.iter().map(|(name, version)| (*name, version));
        for (name, version) in programs.chain(generators) {
            writeln!(f, "- {name}: {version}")?;
        }
        writeln!(f)
    }
}

fn configurations(f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "## Configurations\n\nPlaceholders for addresses, folders and the certificate are in braces. Lines with a marker such as `@tls` are \
         only in the configurations of these scenarios; `@each-site` repeats lines for each site.\n"
    )?;
    for (name, text) in CONFIGURATIONS {
        writeln!(f, "### {name}\n\n```\n{}\n```\n", text.trim_end())?;
    }
    Ok(())
}
