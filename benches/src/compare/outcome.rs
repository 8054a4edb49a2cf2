//! The results of a scenario: samples of each program, their medians, and ratios between programs.

use std::sync::Arc;

use super::figure::{Figure, Sample};
use super::programs::Program;
use super::proxies::Proxy;
use super::scenario::Scenario;
use super::statistics::Spread;

/// The results of a scenario for each program that can run it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) scenario: Scenario,
    pub(crate) results: Vec<(Arc<Program>, Verdict)>,
}

#[derive(Debug)]
pub(crate) enum Verdict {
    /// The figures of a proxy, with one sample per run.
    Samples { samples: Vec<Sample>, processes: usize, threads: u32 },
    /// The error or wrong response that invalidates all figures of this proxy.
    Void(String),
}

impl Outcome {
    /// Returns the measured figures in the order of the report's columns.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let samples = self.results.iter().filter_map(|(_, verdict)| verdict.samples()).flatten();
        let mut figures: Vec<Figure> = samples.flat_map(Sample::figures).collect();
        figures.sort();
        figures.dedup();
        figures
    }

    pub(crate) fn spread(&self, program: &Program, figure: Figure) -> Option<Spread> {
        Spread::of(&self.values(program, figure)?)
    }

    /// Returns the ratio of a program's result to that of another program.
    pub(crate) fn ratio(&self, program: &Program, other: &Program, figure: Figure) -> Option<Spread> {
        Spread::of_ratios(&self.values(program, figure)?, &self.values(other, figure)?)
    }

    /// Returns the ratio of a program's result to that of nginx.
    pub(crate) fn ratio_to_nginx(&self, program: &Program, figure: Figure) -> Option<Spread> {
        let (nginx, _) = self.results.iter().find(|(program, _)| program.proxy == Proxy::Nginx)?;
        self.ratio(program, nginx, figure)
    }

    /// Returns the values of all runs of a program.
    pub(crate) fn values(&self, program: &Program, figure: Figure) -> Option<Vec<f64>> {
        self.verdict(program)?.samples()?.iter().map(|sample| sample.get(figure)).collect()
    }

    /// Returns the text in place of a missing figure.
    pub(crate) fn absence(&self, program: &Program) -> &'static str {
        match self.verdict(program) {
            Some(Verdict::Void(_)) => "void",
            Some(Verdict::Samples { .. }) | None => "",
        }
    }

    fn verdict(&self, program: &Program) -> Option<&Verdict> {
        self.results.iter().find(|(of, _)| of.name == program.name).map(|(_, verdict)| verdict)
    }
}

impl Verdict {
    fn samples(&self) -> Option<&[Sample]> {
        match self {
            Self::Samples { samples, .. } => Some(samples),
            Self::Void(_) => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::memory::Memory;
    use super::*;

    pub(crate) fn program(name: &str, proxy: Proxy) -> Arc<Program> {
        Arc::new(Program { name: name.to_owned(), proxy, path: name.into(), version: "1.0".to_owned() })
    }

    pub(crate) fn idle(megabytes: &[u64]) -> Verdict {
        let memory = |megabytes| Memory { proportional: megabytes * 1_000_000, resident: 0 };
        let samples = megabytes.iter().map(|of| Sample::of_memory(memory(*of))).collect();
        Verdict::Samples { samples, processes: 1, threads: 2 }
    }

    /// Two builds of rproxy, nginx, and a HAProxy whose responses had errors.
    pub(crate) fn outcome() -> Outcome {
        Outcome {
            scenario: Scenario::Empty,
            results: vec![
                (program("rproxy plain", Proxy::Rproxy), idle(&[8, 9])),
                (program("rproxy release", Proxy::Rproxy), idle(&[4, 9])),
                (program("nginx 1.22", Proxy::Nginx), idle(&[16, 9])),
                (
                    program("HAProxy 2.8", Proxy::Haproxy),
                    Verdict::Void("12 of 300 responses have no 2xx status".to_owned()),
                ),
            ],
        }
    }

    #[test]
    fn program_with_an_error_has_no_figure_and_no_ratio() {
        let (outcome, figure) = (outcome(), Figure::Proportional);
        let program = |number: usize| &outcome.results[number].0;
        assert_eq!(outcome.ratio(program(0), program(2), figure).unwrap().median, 0.75);
        assert_eq!(outcome.ratio_to_nginx(program(1), figure).unwrap().median, 0.625);
        assert_eq!(outcome.ratio(program(0), program(3), figure), None);
        assert_eq!(outcome.spread(program(3), figure), None);
        assert_eq!(outcome.absence(program(3)), "void");
    }
}
