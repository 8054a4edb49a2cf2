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

    /// The names of those that need more than that much more. A layer that is new has nothing to grow from.
    pub(super) fn grown_since(&self, before: &Self, tolerated: f64) -> Vec<&str> {
        let has_grown = |name: &String, now: &Layer| {
            let before = before.layers.get(name);
            before.is_some_and(|before| now.instructions as f64 > before.instructions as f64 * (1.0 + tolerated))
        };
        let grown = self.layers.iter().filter(|(name, layer)| has_grown(name, layer));
        grown.map(|(name, _)| name.as_str()).collect()
    }
}

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
        let before = baseline(&[("a", 1000), ("b", 1000), ("c", 1000), ("gone", 1)]);
        let now = baseline(&[("a", 1050), ("b", 1051), ("c", 10), ("new", 9000)]);
        assert_eq!(now.grown_since(&before, 0.05), ["b"]);
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
