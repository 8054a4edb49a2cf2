//! Counts the instructions per request and layer with callgrind; unlike times, the counts are reproducible.

mod baseline;
mod callgrind;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::cargo;
use baseline::{Baseline, EMPTY, Layer};

/// Counts the instructions of each layer per request, and compares them with the baseline.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Write the counts to the baseline file.
    #[arg(long)]
    write: bool,
    /// Cargo profile of the build.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Path of the baseline file.
    #[arg(long, default_value = "benches/baseline.toml")]
    baseline: PathBuf,
}

/// Tolerated growth of the instructions that a layer adds.
const TOLERATED_GROWTH: f64 = 0.05;

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = cargo::build(&options.profile, &["-p", "rproxy-benches", "--example", "counted"])?;
    let now = count(&folder.join("examples/counted"), &options.profile)?;
    if options.write {
        print!("{}", table(&now, &now));
        return now.write(&options.baseline);
    }
    let before = Baseline::read(&options.baseline)?;
    ensure!(
        before.profile == now.profile,
        "the baseline is of profile {}, this is {}: their code differs",
        before.profile,
        now.profile
    );
    print!("{}", table(&before, &now));
    if before.rustc != now.rustc {
        println!("\nThe baseline is from {}, this is {}.", before.rustc, now.rustc);
    }
    match now.grown_since(&before, TOLERATED_GROWTH).as_slice() {
        [] => Ok(()),
        grown => bail!("more than {:.0} % more instructions added by: {}", TOLERATED_GROWTH * 100.0, grown.join(", ")),
    }
}

fn count(program: &Path, profile: &str) -> Result<Baseline> {
    let names = Command::new(program).output().with_context(|| program.display().to_string())?;
    let names = String::from_utf8(names.stdout)?;
    let mut layers = Vec::new();
    for name in names.lines() {
        layers.push((name.to_owned(), callgrind::per_request(program, name)?));
    }
    let empty = layers.iter().find(|(name, _)| name == EMPTY).with_context(|| format!("no case `{EMPTY}`"))?.1;
    let layer = |(name, instructions)| (name, Layer { instructions, ratio: ratio(instructions, empty) });
    let rustc = Command::new("rustc").arg("-V").output()?;
    Ok(Baseline {
        profile: profile.to_owned(),
        rustc: String::from_utf8(rustc.stdout)?.trim().to_owned(),
        layers: layers.into_iter().map(layer).collect(),
    })
}

/// Rounds the ratio to two decimal places, so that the baseline changes less often.
fn ratio(instructions: u64, empty: u64) -> f64 {
    (instructions as f64 / empty as f64 * 100.0).round() / 100.0
}

fn table(before: &Baseline, now: &Baseline) -> String {
    let mut text = "| Layer | Instructions per request | Ratio to none | Added | Baseline | Change |\n\
                    |---|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for (name, Layer { instructions, ratio }) in &now.layers {
        let (Some(added), before) = (now.added(name), before.added(name)) else { continue };
        let (baseline, change) = match before {
            Some(before) => {
                let growth = added as f64 / before as f64 - 1.0;
                (before.to_string(), format!("{:+.1} %", growth * 100.0))
            }
            None => ("new".to_owned(), String::new()),
        };
        text += &format!("| {name} | {instructions} | {ratio:.2} | {added} | {baseline} | {change} |\n");
    }
    text
}
