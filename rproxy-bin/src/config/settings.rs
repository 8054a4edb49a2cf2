//! The list of all settings, and functions to find one.

use super::Config;
use super::source::ValueSource;
use crate::setting::Setting;

/// Returns every setting, in the order of the documentation.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    Config::all_settings()
}

/// The former keys of renamed settings, each with the current key. A former key still works, with a warning.
pub(crate) const RENAMED: [(&str, &str); 2] =
    [("acme_stand_in", "acme_self_signed_fallback"), ("takeover", "handover_socket")];

/// Returns the setting with this key or former key.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    let key = RENAMED.iter().find(|(former, _)| *former == key).map_or(key, |(_, current)| current);
    settings().find(|setting| setting.key == key)
}

/// Returns a suggestion for an unknown setting name.
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
        _ => "rproxy help --all lists all settings".to_owned(),
    }
}
