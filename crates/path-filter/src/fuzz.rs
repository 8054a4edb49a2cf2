//! What the fuzzers call: any bytes, and what must hold of them.

use std::sync::LazyLock;

use crate::PathRules;

static RULES: LazyLock<PathRules> = LazyLock::new(PathRules::sensitive);

/// A path that is blocked stays so, whichever of its characters is percent-encoded.
pub fn path(bytes: &[u8]) {
    let Some((at, bytes)) = bytes.split_first() else { return };
    // The path of a request begins so.
    let Some(path) = str::from_utf8(bytes).ok().filter(|path| path.starts_with('/')) else { return };
    let blocked = RULES.blocks(path);
    assert_eq!(blocked.is_some(), RULES.explain(path).is_blocked());
    if blocked.is_none() {
        return;
    }
    let at = usize::from(*at) % path.len();
    // A slash that is encoded may be one or not, a percent sign has what follows it to itself; and what is not ASCII is
    // sent encoded in any case. Before what is encoded a dot makes a dotfile, which two dots do not: `.%2ea`.
    let is_before_encoded = bytes.get(at + 1) == Some(&b'%');
    if !is_before_encoded
        && matches!(bytes[at], b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_')
        && !bytes[..at].iter().rev().take(4).any(|byte| matches!(byte, b'%' | b'\\'))
    {
        let encoded = format!("{}%{:02x}{}", &path[..at], bytes[at], &path[at + 1..]);
        assert!(RULES.blocks(&encoded).is_some(), "{path} is blocked, {encoded} is not");
    }
}

/// A list of rules is refused, or can be asked.
pub fn rules(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (list, path) = text.split_once('\n').filter(|(_, path)| path.starts_with('/')).unwrap_or((text, "/a"));
    if let Ok(rules) = PathRules::parse_list(list) {
        assert_eq!(rules.blocks(path).is_some(), rules.explain(path).is_blocked());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn path_holds_near_its_seeds() {
        run(CRATE, "path", path);
    }

    #[test]
    fn rules_hold_near_their_seeds() {
        run(CRATE, "rules", rules);
    }
}
