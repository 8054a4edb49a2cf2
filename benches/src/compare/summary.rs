//! The summary tables of the report: ratios to nginx, and ratios of each build of rproxy to the peers.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use super::outcome::Outcome;
use super::programs::Program;
use super::proxies::Proxy;

pub(crate) fn write(f: &mut Formatter<'_>, programs: &[Arc<Program>], outcomes: &[Outcome]) -> fmt::Result {
    writeln!(f, "## Summary\n")?;
    ratios_to_nginx(f, programs, outcomes)?;
    let is_rproxy = |program: &&Arc<Program>| program.proxy == Proxy::Rproxy;
    let peers: Vec<&Program> = programs.iter().filter(|program| !is_rproxy(program)).map(|peer| &**peer).collect();
    for build in programs.iter().filter(is_rproxy) {
        ratios_of_build(f, build, &peers, outcomes)?;
    }
    Ok(())
}

fn ratios_to_nginx(f: &mut Formatter<'_>, programs: &[Arc<Program>], outcomes: &[Outcome]) -> fmt::Result {
    writeln!(f, "### Ratio to nginx\n")?;
    let Some(nginx) = programs.iter().find(|program| program.proxy == Proxy::Nginx) else {
        return writeln!(f, "nginx is not installed.\n");
    };
    let others: Vec<&Arc<Program>> = programs.iter().filter(|program| program.name != nginx.name).collect();
    write!(f, "| Scenario | Figure | {} |", nginx.name)?;
    others.iter().try_for_each(|program| write!(f, " {} |", program.name))?;
    writeln!(f, "\n|---|---|{}", "--:|".repeat(1 + others.len()))?;
    for outcome in outcomes {
        let plan = outcome.scenario.plan();
        let figure = plan.headline;
        write!(f, "| {} | {}, {} |", plan.title, figure.title(), figure.unit())?;
        match outcome.spread(nginx, figure) {
            Some(spread) => write!(f, " {} |", spread.alone())?,
            None => write!(f, " {} |", outcome.absence(nginx))?,
        }
        for program in &others {
            match outcome.ratio_to_nginx(program, figure) {
                Some(ratio) => write!(f, " {:.2} |", ratio.median)?,
                None => write!(f, " {} |", outcome.absence(program))?,
            }
        }
        writeln!(f)?;
    }
    writeln!(f)
}

fn ratios_of_build(f: &mut Formatter<'_>, build: &Program, peers: &[&Program], outcomes: &[Outcome]) -> fmt::Result {
    writeln!(f, "### {} divided by each peer\n", build.name)?;
    write!(f, "| Scenario | {} |", build.name)?;
    peers.iter().try_for_each(|peer| write!(f, " {} |", peer.name))?;
    writeln!(f, "\n|---|{}", "--:|".repeat(1 + peers.len()))?;
    for outcome in outcomes {
        let plan = outcome.scenario.plan();
        let figure = plan.headline;
        write!(f, "| {} |", plan.title)?;
        match outcome.spread(build, figure) {
            Some(spread) => write!(f, " {} {} |", spread.alone(), figure.unit())?,
            None => write!(f, " {} |", outcome.absence(build))?,
        }
        for peer in peers {
            match outcome.ratio(build, peer, figure) {
                Some(ratio) => write!(f, " {ratio:.2} |")?,
                None => write!(f, " {} |", outcome.absence(peer))?,
            }
        }
        writeln!(f)?;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use std::fmt::Display;

    use super::super::outcome::tests::outcome;
    use super::*;

    struct Summary(Outcome);

    impl Display for Summary {
        fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
            let programs: Vec<_> = self.0.results.iter().map(|(program, _)| program.clone()).collect();
            write(f, &programs, std::slice::from_ref(&self.0))
        }
    }

    #[test]
    fn summary_has_a_column_per_program_and_marks_void_figures() {
        let text = Summary(outcome()).to_string();
        for line in [
            "| Scenario | Figure | nginx 1.22 | rproxy plain | rproxy release | HAProxy 2.8 |",
            "| memory without connections | memory, MB | 12.5 | 0.75 | 0.62 | void |",
            "### rproxy release divided by each peer",
            "| memory without connections | 6.50 MB | 0.62 [0.25-1.00] | void |",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
