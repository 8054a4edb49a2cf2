//! Lists of rules, whose entries can contain commas.

/// Splits a list of rules: one per line or, in a single line, separated by commas.
///
/// In a single line, a comma separates only if `begins_rule` returns `true` for the text after it. A text with a line end has
/// one rule per line, without exceptions.
pub(crate) fn rules(text: &str, begins_rule: impl Fn(&str) -> bool) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    if text.contains('\n') {
        rules.extend(text.lines().map(|line| line.trim().to_owned()));
    } else {
        for part in text.split(',') {
            match rules.last_mut() {
                Some(rule) if !begins_rule(part.trim_start()) => {
                    rule.push(',');
                    rule.push_str(part);
                }
                _ => rules.push(part.to_owned()),
            }
        }
    }
    rules.iter().map(|rule| rule.trim().to_owned()).filter(|rule| !rule.is_empty()).collect()
}

/// Joins entries to a text that has one entry per line.
pub(crate) fn lines(entries: &[String]) -> String {
    match entries {
        // A line end marks that commas belong to the entry.
        [entry] if entry.contains(',') => format!("{entry}\n"),
        entries => entries.join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins(text: &str) -> bool {
        text.starts_with('-') || text.split_once(':').is_some_and(|(name, _)| !name.contains(' '))
    }

    #[test]
    fn splits_at_line_ends_or_at_commas_before_a_rule() {
        for (text, expected) in [
            ("", &[][..]),
            (" , \n", &[","]),
            ("a: b", &["a: b"]),
            ("a: b, c, -d,e: f,", &["a: b, c", "-d", "e: f,"]),
            ("a: b, c: d\n", &["a: b, c: d"]),
            ("\n a: b, -c\n-d \n", &["a: b, -c", "-d"]),
            ("a: b\r\nc: d\r\n", &["a: b", "c: d"]),
        ] {
            let rules = rules(text, begins);
            assert_eq!(rules, expected, "{text:?}");
            assert_eq!(super::rules(&lines(&rules), begins), rules, "{text:?}");
        }
    }
}
