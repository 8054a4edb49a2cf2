//! Every setting, once: file keys, environment variables, flags, `--help`, `--check` and the README's table all
//! come from [`settings()`], so that they can't disagree.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::Config;
use super::source::ValueSource;
use super::value::joined;

mod cache;
mod clients;
mod forwarding;
mod limits;
mod listening;
mod path_filter;
mod rate_limit;
mod responses;
mod running;
mod tls;
mod upstream;
mod websocket;

pub(super) const PREFIX: &str = "RPROXY_";

/// One setting.
#[derive(Debug)]
#[non_exhaustive]
pub struct Setting {
    /// The key in the file. The environment variable is `RPROXY_` and this in capitals, the flag this with hyphens.
    pub key: &'static str,
    /// What it belongs to.
    pub heading: &'static str,
    /// What stands for the value in `--help`.
    pub placeholder: &'static str,
    /// What it is when nobody sets it.
    pub default: DefaultValue,
    /// What it does, in a few words.
    pub help: &'static str,
    /// What values it takes.
    pub accepted: &'static str,
    /// Whether the value is shown to nobody.
    pub secret: bool,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    pub(crate) show: fn(&Config) -> Option<String>,
}

/// What a setting is when nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DefaultValue {
    /// This value.
    Literal(&'static str),
    /// Something that is better said in words.
    Description(&'static str),
}

impl Setting {
    /// The environment variable.
    pub fn variable(&self) -> String {
        variable(self.key)
    }

    /// The flag, without its hyphens in front.
    pub fn flag(&self) -> String {
        flag(self.key)
    }

    /// Whether the setting is a switch, whose flag needs no value.
    pub fn is_switch(&self) -> bool {
        self.accepted == SWITCH
    }

    /// Whether the setting takes several values, so that its flag may be repeated.
    pub fn is_list(&self) -> bool {
        self.placeholder.ends_with(",...")
    }
}

/// The setting of this key.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.key == key)
}

pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

pub(super) fn flag(key: &str) -> String {
    key.replace('_', "-")
}

/// What to say about a name that no setting has.
pub(super) fn hint(name: &str, source: &ValueSource) -> String {
    // Whatever was meant, it is looked for in one spelling.
    let plain = name.to_ascii_lowercase().replace('-', "_");
    let plain = plain.strip_prefix("rproxy_").unwrap_or(&plain);
    let nearest = settings()
        .map(|setting| (setting.key, strsim::damerau_levenshtein(plain, setting.key)))
        .min_by_key(|(_, distance)| *distance);
    match nearest {
        Some((key, distance)) if distance <= (plain.len() / 3).max(1) => {
            format!("did you mean {}?", source.name(key))
        }
        _ => "rproxy --help lists them all".to_owned(),
    }
}

const SWITCH: &str = "true or false (1/0, yes/no, on/off)";
const DURATION: &str = "seconds, or a number with a unit: 500ms, 2m, 1h";
const PATHS: &str = "comma-separated globs: /static/**, **/*.{css,js}";

fn put<T>(slot: &mut T, value: Result<T, impl ToString>) -> Result<(), String> {
    *slot = value.map_err(|error| error.to_string())?;
    Ok(())
}

fn connections(most: u32) -> Option<NonZeroUsize> {
    NonZeroUsize::new(most as usize)
}

fn paths_of(paths: &[PathBuf]) -> Option<String> {
    joined(&paths.iter().map(|path| path.display()).collect::<Vec<_>>())
}

/// Every setting, in the order of the documentation.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().copied().flatten()
}

static GROUPS: &[&[Setting]] = &[
    listening::SETTINGS,
    upstream::SETTINGS,
    tls::SETTINGS,
    rate_limit::SETTINGS,
    cache::SETTINGS,
    responses::SETTINGS,
    path_filter::SETTINGS,
    websocket::SETTINGS,
    clients::SETTINGS,
    forwarding::SETTINGS,
    limits::SETTINGS,
    running::SETTINGS,
];
