//! The results as JSON, with the values of every run.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::Options;
use super::figure::Figure;
use super::machine::Machine;
use super::outcome::{Outcome, Verdict};
use super::programs::{Program, Programs};

#[derive(Serialize)]
struct Results<'a> {
    machine: &'a Machine,
    pairs: u16,
    seconds: u64,
    /// The version of each program.
    programs: BTreeMap<&'a str, &'a str>,
    missing: &'a [String],
    scenarios: Vec<ScenarioResults<'a>>,
}

#[derive(Serialize)]
struct ScenarioResults<'a> {
    name: String,
    title: &'static str,
    /// The main figure of the scenario.
    figure: &'static str,
    programs: BTreeMap<&'a str, ProgramResults<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum ProgramResults<'a> {
    Figures(BTreeMap<&'static str, FigureResults>),
    /// The reason that the benchmark has no results for the program.
    Void(&'a str),
}

#[derive(Serialize)]
struct FigureResults {
    unit: &'static str,
    runs: Vec<f64>,
    median: Option<f64>,
    ratio_to_nginx: Option<f64>,
}

pub(crate) fn json(options: &Options, machine: &Machine, programs: &Programs, outcomes: &[Outcome]) -> Result<String> {
    let versions = programs.present.iter().map(|program| (program.name.as_str(), program.version.as_str()));
    let results = Results {
        machine,
        pairs: options.pairs,
        seconds: options.seconds,
        programs: versions.collect(),
        missing: &programs.missing,
        scenarios: outcomes.iter().map(ScenarioResults::of).collect(),
    };
    Ok(serde_json::to_string(&results)? + "\n")
}

impl<'a> ScenarioResults<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        let plan = outcome.scenario.plan();
        let programs = outcome.results.iter().map(|(program, verdict)| {
            let results = match verdict {
                Verdict::Void(why) => ProgramResults::Void(why),
                Verdict::Samples { .. } => ProgramResults::Figures(figures(outcome, program)),
            };
            (program.name.as_str(), results)
        });
        Self {
            name: outcome.scenario.name(),
            title: plan.title,
            figure: plan.headline.title(),
            programs: programs.collect(),
        }
    }
}

fn figures(outcome: &Outcome, program: &Program) -> BTreeMap<&'static str, FigureResults> {
    let results = |figure: Figure| {
        let results = FigureResults {
            unit: figure.unit(),
            runs: outcome.values(program, figure)?,
            median: outcome.spread(program, figure).map(|spread| spread.median),
            ratio_to_nginx: outcome.ratio_to_nginx(program, figure).map(|ratio| ratio.median),
        };
        Some((figure.title(), results))
    };
    outcome.figures().into_iter().filter_map(results).collect()
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::outcome;
    use super::*;

    #[test]
    fn json_has_every_run_and_the_reason_of_void_results() {
        let outcome = outcome();
        let json = serde_json::to_value(ScenarioResults::of(&outcome)).unwrap();
        assert_eq!(json["name"], "empty");
        let memory = &json["programs"]["rproxy release"]["figures"]["memory"];
        assert_eq!(memory["runs"], serde_json::json!([4.0, 9.0]));
        assert_eq!(memory["ratio_to_nginx"], 0.625);
        assert_eq!(json["programs"]["HAProxy 2.8"]["void"], "12 of 300 responses have no 2xx status");
    }
}
