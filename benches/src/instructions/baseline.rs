//! The figures that are checked in.

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

/// Per request, the service within included.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layer {
    pub(super) instructions: u64,
    /// To those of the service alone.
    pub(super) ratio: f64,
}

const HEADING: &str = "\
# Instructions per request, counted by callgrind, and their ratio to those of a service without a layer.
# Renew: cargo run --release -p rproxy-benches -- instructions --write

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

    /// What a layer costs beside the service within; for the service alone, what that costs.
    pub(super) fn added(&self, name: &str) -> Option<u64> {
        let (layer, empty) = (self.layers.get(name)?, self.layers.get(EMPTY)?);
        Some(match name {
            EMPTY => empty.instructions,
            _ => layer.instructions.saturating_sub(empty.instructions),
        })
    }

    /// The names of those that cost that much more. A layer that is new has nothing to grow from.
    pub(super) fn grown_since(&self, before: &Self, tolerated: f64) -> Vec<&str> {
        let has_grown = |name: &&str| match (self.added(name), before.added(name)) {
            (Some(now), Some(before)) => now > before + NOT_WORTH_A_WORD.max((before as f64 * tolerated) as u64),
            _ => false,
        };
        self.layers.keys().map(String::as_str).filter(has_grown).collect()
    }
}

/// The case without a layer.
pub(super) const EMPTY: &str = "none";

/// Instructions that may come and go with a compiler's mood.
const NOT_WORTH_A_WORD: u64 = 50;

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
    fn only_growth_beyond_what_is_tolerated_is_named() {
        let before = baseline(&[("none", 2000), ("a", 4000), ("b", 4000), ("c", 4000), ("d", 2100), ("gone", 2001)]);
        let now = baseline(&[("none", 2000), ("a", 4100), ("b", 4101), ("c", 10), ("d", 2150), ("new", 9000)]);
        assert_eq!(now.grown_since(&before, 0.05), ["b"]);
        let now = baseline(&[("none", 2101), ("a", 4000)]);
        assert_eq!(now.grown_since(&before, 0.05), ["none"]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("baseline.toml");
        let baseline = baseline(&[("cache, not applying", 1000), ("none", 800)]);
        baseline.write(&path).unwrap();
        assert_eq!(Baseline::read(&path).unwrap(), baseline);
    }

    #[test]
    fn a_layer_without_its_count_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("baseline.toml");
        fs::write(&path, "profile = 'release'\nrustc = ''\n[layers.none]\nratio = 1.0\n").unwrap();
        assert!(Baseline::read(&path).is_err());
    }
}
