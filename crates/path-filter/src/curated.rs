//! The format of the curated lists of rules.

/// A titled group of rules in a curated list.
pub(crate) struct Section {
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the title of a rule group is used only in the test of the reference page")
    )]
    pub(crate) title: &'static str,
    /// Globs that block paths, and globs with a leading `!` that allow paths. The last rule that matches decides. Globs
    /// and paths are compared in lower case.
    pub(crate) paths: &'static [&'static str],
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;
    use std::{env, fs};

    use super::Section;
    use crate::default_paths::DEFAULT_PATHS;
    use crate::strict_paths::STRICT_PATHS;

    const PAGE: &str = "../../docs/reference/blocked-paths.md";

    #[test]
    fn reference_page_lists_the_rules_of_the_curated_lists() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
        // The package of this crate does not contain the page.
        let Ok(text) = fs::read_to_string(&page) else { return };
        let wanted = with_rules(&with_rules(&text, "default", DEFAULT_PATHS), "strict", STRICT_PATHS);
        if env::var_os("UPDATE").is_some() {
            fs::write(&page, wanted).unwrap();
            return;
        }
        assert!(text == wanted, "{PAGE} is out of date; UPDATE=1 cargo test -p rproxy-path-filter updates it");
    }

    /// Returns the reference page with `sections` inserted between the markers of the list.
    fn with_rules(page: &str, list: &str, sections: &[Section]) -> String {
        let (start, end) = (format!("<!-- {list} -->\n"), format!("<!-- /{list} -->"));
        let (before, rest) = page.split_once(&start).unwrap();
        let (_, after) = rest.split_once(&end).unwrap();
        let mut rules = String::new();
        for Section { title, paths } in sections {
            write!(rules, "### {title}\n\n```text\n{}\n```\n\n", paths.join("\n")).unwrap();
        }
        format!("{before}{start}{rules}{end}{after}")
    }
}
