//! The list of all settings.
//!
//! File keys, environment variables, flags, `--help`, `--check` and the tables of the documentation are all derived
//! from [`settings()`], so that they agree.

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

/// A setting: its names, its documentation and its accepted values.
#[derive(Debug)]
#[non_exhaustive]
pub struct Setting {
    /// The key in the file. The environment variable is `RPROXY_` and the key in capitals; the flag is the key with
    /// hyphens.
    pub key: &'static str,
    /// The heading under which the documentation lists the setting.
    pub heading: &'static str,
    /// The placeholder for the value in `--help`.
    pub placeholder: &'static str,
    /// The value if the setting is not set.
    pub default: DefaultValue,
    /// The effect of the setting, in a few words.
    pub help: &'static str,
    /// The accepted values, in words.
    pub accepted: &'static str,
    /// Whether the value is a secret, which is never printed.
    pub secret: bool,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    pub(crate) show: fn(&Config) -> Option<String>,
}

/// The default of a setting, as documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DefaultValue {
    /// A value that the setting accepts.
    Literal(&'static str),
    /// A default that depends on something else, in words.
    Description(&'static str),
}

impl Setting {
    /// Returns the name of the environment variable.
    pub fn variable(&self) -> String {
        variable(self.key)
    }

    /// Returns the name of the flag, without the leading hyphens.
    pub fn flag(&self) -> String {
        flag(self.key)
    }

    /// Returns whether the setting is a switch, whose flag needs no value.
    pub fn is_switch(&self) -> bool {
        self.accepted == SWITCH
    }

    /// Returns whether the setting is a list, whose flag may be repeated.
    pub fn is_list(&self) -> bool {
        self.placeholder.ends_with(",...")
    }
}

/// Former keys of settings and their current keys. A former key still works, with a warning.
pub(crate) const RENAMED: [(&str, &str); 2] =
    [("acme_stand_in", "acme_self_signed_fallback"), ("takeover", "handover_socket")];

/// Returns the setting with this key or former key.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    let key = RENAMED.iter().find(|(former, _)| *former == key).map_or(key, |(_, current)| current);
    settings().find(|setting| setting.key == key)
}

pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

pub(super) fn flag(key: &str) -> String {
    key.replace('_', "-")
}

/// Returns a suggestion for an unknown name.
pub(super) fn hint(name: &str, source: &ValueSource) -> String {
    // The name may be in the spelling of any source.
    let plain = name.to_ascii_lowercase().replace('-', "_");
    let plain = plain.strip_prefix("rproxy_").unwrap_or(&plain);
    let nearest = settings()
        .map(|setting| (setting.key, strsim::damerau_levenshtein(plain, setting.key)))
        .min_by_key(|(_, distance)| *distance);
    match nearest {
        Some((key, distance)) if distance <= (plain.len() / 3).max(1) => {
            format!("did you mean {:?}?", source.name(key))
        }
        _ => "rproxy --help lists all settings".to_owned(),
    }
}

const SWITCH: &str = "true or false (1/0, yes/no, on/off)";
const DURATION: &str = "a duration such as 500ms, 2m or 1h; a bare number is seconds";
const PATHS: &str = "comma-separated globs such as /static/**, **/*.{css,js}";

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

/// Returns all settings, in the order of the documentation.
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
