//! Functions for the fuzz targets: each checks invariants for arbitrary input bytes.

use std::sync::LazyLock;

use crate::PathRules;

static LISTS: LazyLock<[PathRules; 2]> = LazyLock::new(|| [PathRules::sensitive(), PathRules::strict()]);

/// Checks that a blocked path stays blocked if one of its characters is percent-encoded.
///
/// The first byte selects the character.
pub fn path(bytes: &[u8]) {
    let Some((at, bytes)) = bytes.split_first() else { return };
    let Some(path) = str::from_utf8(bytes).ok().filter(|path| path.starts_with('/')) else { return };
    for rules in &*LISTS {
        check_encoding(rules, *at, path);
    }
}

fn check_encoding(rules: &PathRules, at: u8, path: &str) {
    let blocked = rules.blocking_rule(path);
    assert_eq!(blocked.is_some(), rules.explain(path).is_blocked());
    if blocked.is_none() {
        return;
    }
    let bytes = path.as_bytes();
    let at = usize::from(at) % path.len();
    // Some characters cannot be encoded without changing the path: an encoded slash need not separate segments, and a
    // character after `%` belongs to an escape. `.%2ea` differs from `..a`: before an escape, a dot starts a dotfile.
    let is_before_encoded = bytes.get(at + 1) == Some(&b'%');
    if !is_before_encoded
        && matches!(bytes[at], b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_')
        && !bytes[..at].iter().rev().take(4).any(|byte| matches!(byte, b'%' | b'\\'))
    {
        let encoded = format!("{}%{:02x}{}", &path[..at], bytes[at], &path[at + 1..]);
        assert!(rules.blocking_rule(&encoded).is_some(), "{path} is blocked, but {encoded} is allowed");
    }
}

/// Checks that `blocking_rule` and `explain` agree for every valid list of rules.
pub fn rules(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (list, path) = text.split_once('\n').filter(|(_, path)| path.starts_with('/')).unwrap_or((text, "/a"));
    if let Ok(rules) = PathRules::parse_list(list) {
        assert_eq!(rules.blocking_rule(path).is_some(), rules.explain(path).is_blocked());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn blocked_paths_stay_blocked_when_encoded_for_mutated_seeds() {
        run(CRATE, "path", path);
    }

    #[test]
    fn explain_agrees_with_blocking_rule_for_mutated_seeds() {
        run(CRATE, "rules", rules);
    }
}
