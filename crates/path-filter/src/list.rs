//! The syntax of rule lists, such as `default,/private/**,!/private/ok`.

use crate::error::PathRulesError;

/// An entry of a rule list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    Default,
    Strict,
    Block(&'a str),
    Allow(&'a str),
}

impl<'a> Entry<'a> {
    pub(crate) fn parse(entry: &'a str) -> Result<Self, PathRulesError> {
        let (glob, is_allowed) = match entry.strip_prefix('!') {
            Some(glob) => (glob.trim(), true),
            None => (entry, false),
        };
        match (glob.starts_with(['/', '*']), is_allowed) {
            (true, true) => Ok(Self::Allow(glob)),
            (true, false) => Ok(Self::Block(glob)),
            (false, false) if glob.eq_ignore_ascii_case("default") => Ok(Self::Default),
            (false, false) if glob.eq_ignore_ascii_case("strict") => Ok(Self::Strict),
            (false, _) => Err(PathRulesError::UnknownEntry { entry: entry.to_owned() }),
        }
    }
}

/// Splits a rule list into entries at commas outside braces.
pub(crate) fn entries(list: &str) -> Vec<&str> {
    let (mut entries, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                entries.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    entries.push(&list[start..]);
    entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_list_names_globs_and_exemptions() {
        for (entry, expected) in [
            ("default", Entry::Default),
            ("STRICT", Entry::Strict),
            ("/strict", Entry::Block("/strict")),
            ("**/default", Entry::Block("**/default")),
            ("! /a", Entry::Allow("/a")),
        ] {
            assert_eq!(Entry::parse(entry), Ok(expected), "{entry}");
        }
        for entry in ["", "!", "strickt", "!default", "!strict", "private/**"] {
            assert_eq!(Entry::parse(entry), Err(PathRulesError::UnknownEntry { entry: entry.to_owned() }));
        }
    }

    #[test]
    fn splits_rule_lists_at_commas_outside_braces() {
        assert_eq!(entries("default, /{a,{b,c}},,!/d "), ["default", "/{a,{b,c}}", "!/d"]);
    }
}
