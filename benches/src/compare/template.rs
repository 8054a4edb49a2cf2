//! Configuration templates: lines with conditions, blocks for each site, and placeholders for values.

use anyhow::{Context, Result, ensure};

use super::certificate::HOST;

/// The conditions that select lines of a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// Whether clients connect over TLS.
    pub(crate) tls: bool,
    /// Whether the backend serves HTTP/2 without TLS, and no HTTP/1.1.
    pub(crate) h2c: bool,
    /// The number of sites with separate hosts, or 0 for one site that serves every host.
    pub(crate) sites: usize,
}

/// The first and last line of a block that is repeated for each site.
const EACH_SITE: &str = "@each-site";
const END: &str = "@end";

impl Conditions {
    /// Returns a configuration from its template. `values` are the placeholders' names and values.
    ///
    /// - A line that starts with a marker such as `@tls` is only in configurations that fulfil the condition.
    /// - The lines between `@each-site` and `@end` are repeated for each site, with `{{site}}` and `{{number}}`.
    pub(crate) fn fill(self, template: &str, values: &[(&str, String)]) -> Result<String> {
        let mut text = String::new();
        let mut block: Option<String> = None;
        for line in template.lines() {
            match line.trim() {
                EACH_SITE => block = Some(String::new()),
                END => {
                    let block = block.take().context("`@end` without `@each-site`")?;
                    for (number, site) in self.hosts().iter().enumerate() {
                        text += &block.replace("{{site}}", site).replace("{{number}}", &number.to_string());
                    }
                }
                _ => {
                    if let Some(line) = self.select(line) {
                        let text = block.as_mut().unwrap_or(&mut text);
                        *text += &line;
                        text.push('\n');
                    }
                }
            }
        }
        ensure!(block.is_none(), "`@each-site` without `@end`");
        let text = values.iter().fold(text, |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value));
        ensure!(!text.contains("{{"), "an unknown placeholder in a template");
        Ok(text)
    }

    /// Returns the host names of the sites.
    pub(crate) fn hosts(self) -> Vec<String> {
        match self.sites {
            0 => vec![HOST.to_owned()],
            sites => (0..sites).map(|number| format!("site{number}.example")).collect(),
        }
    }

    /// Returns a line without its markers, or `None` if a condition is not fulfilled.
    fn select(self, line: &str) -> Option<String> {
        let mut rest = line.trim_start();
        let indentation = &line[..line.len() - rest.len()];
        while let Some((marker, after)) = rest.split_once(' ') {
            let is_fulfilled = match marker {
                "@tls" => self.tls,
                "@plain" => !self.tls,
                "@h2c" => self.h2c,
                "@http1" => !self.h2c,
                "@sites" => self.sites > 0,
                "@single" => self.sites == 0,
                _ => break,
            };
            if !is_fulfilled {
                return None;
            }
            rest = after;
        }
        Some(indentation.to_owned() + rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_only_lines_whose_conditions_are_all_fulfilled() {
        let template = "a\n  @tls b {{x}}\n@plain c\n@single @http1 d\n@sensitive e\n";
        let fill = |tls, h2c| Conditions { tls, h2c, sites: 0 }.fill(template, &[("x", "1".to_owned())]).unwrap();
        assert_eq!(fill(true, true), "a\n  b 1\n@sensitive e\n");
        assert_eq!(fill(false, false), "a\nc\nd\n@sensitive e\n");
    }

    #[test]
    fn repeats_a_block_for_each_site() {
        let template = "@each-site\n@sites {{number}}={{site}}\n@end\n@each-site\n@single {{site}}\n@end\n";
        let fill = |sites| Conditions { sites, ..Conditions::default() }.fill(template, &[]).unwrap();
        assert_eq!(fill(2), "0=site0.example\n1=site1.example\n");
        assert_eq!(fill(0), format!("{HOST}\n"));
    }

    #[test]
    fn rejects_templates_with_unknown_placeholders_or_unbalanced_blocks() {
        for template in ["{{unknown}}", "@each-site\n", "@end\n"] {
            assert!(Conditions::default().fill(template, &[]).is_err(), "{template}");
        }
    }
}
