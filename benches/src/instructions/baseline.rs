//! The committed baseline of instruction counts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Baseline {
    pub(super) profile: String,
    pub(super) rustc: String,
    pub(super) layers: BTreeMap<String, Layer>,
}

/// The instruction count of one request with a layer, including the inner service.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layer {
    pub(super) instructions: u64,
    /// The ratio of the instruction count to that of the inner service alone.
    pub(super) ratio: f64,
}

const HEADING: &str = "\
# Instructions per request, counted by callgrind, and their ratio to the inner service without a layer.
# Update: cargo run --release -p rproxy-benches -- instructions --write

";

impl Baseline {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = HEADING.to_owned() + &toml::to_string(self)?;
        fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Returns the instructions that a layer adds, or those of the inner service for the case `none`.
    pub(super) fn added(&self, name: &str) -> Option<u64> {
        let (layer, empty) = (self.layers.get(name)?, self.layers.get(EMPTY)?);
        Some(match name {
            EMPTY => empty.instructions,
            _ => layer.instructions.saturating_sub(empty.instructions),
        })
    }

    /// Returns the layers whose cost has grown by more than the fraction `tolerated`. New layers are ignored.
    pub(super) fn grown_since(&self, before: &Self, tolerated: f64) -> Vec<&str> {
        let has_grown = |name: &&str| match (self.added(name), before.added(name)) {
            (Some(now), Some(before)) => now > before + IGNORED_GROWTH.max((before as f64 * tolerated) as u64),
            _ => false,
        };
        self.layers.keys().map(String::as_str).filter(has_grown).collect()
    }
}

/// The name of the benchmark case without a layer.
pub(super) const EMPTY: &str = "none";

/// The number of instructions by which the counts can vary between builds.
const IGNORED_GROWTH: u64 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(layers: &[(&str, u64)]) -> Baseline {
        let layer = |instructions| Layer { instructions, ratio: 1.25 };
        Baseline {
            profile: "release".to_owned(),
            rustc: "rustc 1.95.0".to_owned(),
            layers: layers.iter().map(|(name, count)| ((*name).to_owned(), layer(*count))).collect(),
        }
    }

    #[test]
    fn reports_only_instruction_growth_above_the_tolerance() {
        let before = baseline(&[("none", 2000), ("a", 4000), ("b", 4000), ("c", 4000), ("d", 2100), ("gone", 2001)]);
        let now = baseline(&[("none", 2000), ("a", 4100), ("b", 4101), ("c", 10), ("d", 2150), ("new", 9000)]);
        assert_eq!(now.grown_since(&before, 0.05), ["b"]);
        let now = baseline(&[("none", 2101), ("a", 4000)]);
        assert_eq!(now.grown_since(&before, 0.05), ["none"]);
    }

    #[test]
    fn instruction_baseline_round_trips_through_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("baseline.toml");
        let baseline = baseline(&[("cache, not applying", 1000), ("none", 800)]);
        baseline.write(&path).unwrap();
        assert_eq!(Baseline::read(&path).unwrap(), baseline);
    }

    #[test]
    fn rejects_a_baseline_layer_without_a_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("baseline.toml");
        fs::write(&path, "profile = 'release'\nrustc = ''\n[layers.none]\nratio = 1.0\n").unwrap();
        assert!(Baseline::read(&path).is_err());
    }
}
