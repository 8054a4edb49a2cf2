//! Path filter rules: globs that are matched against every decoding of a path. The last match decides.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use rproxy_core::path::Decodings;

use crate::compiled_list::CompiledList;
use crate::error::PathRulesError;
use crate::explanation::{PathExplanation, TOO_MANY_DECODINGS};
use crate::list::{Entry, entries};
use crate::rule::Rule;

/// Compiled rules that block or allow paths. Clones share them.
///
/// A glob matches a whole path, without regard to case: `*` matches within a segment, `**` across segments; `?`, `[ab]` and
/// `{a,b}` are supported. `/private/**` matches `/private` as well. The last rule that matches decides.
///
/// A path is blocked if a rule blocks any of its [decodings](PathRules::explain).
///
/// # Examples
///
/// ```
/// use rproxy_path_filter::{PathRules, PathRulesError};
///
/// let rules = PathRules::builder().block("/private/**")?.allow("/private/ok")?.build()?;
/// assert_eq!(rules.blocking_rule("/private/key").as_deref(), Some("/private/**"));
/// assert_eq!(rules.blocking_rule("/private/ok"), None);
/// assert!(rules.blocking_rule("/private/ok/%2e%2e/key").is_some());
/// # Ok::<(), PathRulesError>(())
/// ```
#[derive(Clone)]
pub struct PathRules {
    /// The lists of rules, in the order of the rules. All rules share the curated lists.
    lists: Arc<[Arc<CompiledList>]>,
}

impl PathRules {
    /// Returns the default list of rules: known secrets such as `.env`, `.git`, private keys and dumps. Version
    /// 2026-12.1.
    ///
    /// It blocks no paths of applications and no files of users, which have other names or are in other folders. Its globs are
    /// compiled when the first path might match one, which takes some milliseconds.
    pub fn sensitive() -> Self {
        static RULES: LazyLock<PathRules> =
            LazyLock::new(|| PathRules { lists: [CompiledList::default_paths()].into() });
        RULES.clone()
    }

    /// Returns the strict list of rules: the [default list](Self::sensitive), and files that some applications publish.
    ///
    /// It blocks all dotfiles except those below `.well-known`, keys, dumps, backups and configuration files of any name,
    /// build files, logs and status pages. Its globs are compiled when the first path might match one.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_path_filter::PathRules;
    ///
    /// let (default, strict) = (PathRules::sensitive(), PathRules::strict());
    /// assert!(default.blocking_rule("/.env").is_some() && strict.blocking_rule("/.env").is_some());
    /// assert!(default.blocking_rule("/hls/stream.key").is_none() && strict.blocking_rule("/hls/stream.key").is_some());
    /// ```
    pub fn strict() -> Self {
        static RULES: LazyLock<PathRules> =
            LazyLock::new(|| PathRules { lists: [CompiledList::strict_paths()].into() });
        RULES.clone()
    }

    /// Returns a builder without any rules.
    pub fn builder() -> PathRulesBuilder {
        PathRulesBuilder::default()
    }

    /// Parses a comma-separated list of globs and list names.
    ///
    /// `!` before a glob allows its paths. The entry `default` is the [default list](Self::sensitive), and `strict` is the
    /// [strict list](Self::strict), which includes it. Commas within braces do not separate entries.
    ///
    /// # Errors
    ///
    /// Returns an error if an entry is neither a list nor a valid glob, or if there are no entries.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_path_filter::{PathRules, PathRulesError};
    ///
    /// let rules = PathRules::parse_list("default, /private/**, !/.env.example")?;
    /// assert!(rules.blocking_rule("/.env").is_some());
    /// assert!(rules.blocking_rule("/.env.example").is_none());
    /// # Ok::<(), PathRulesError>(())
    /// ```
    pub fn parse_list(list: &str) -> Result<Self, PathRulesError> {
        let entries: Vec<_> = entries(list).into_iter().map(Entry::parse).collect::<Result<_, _>>()?;
        match entries[..] {
            [Entry::Default] => return Ok(Self::sensitive()),
            [Entry::Strict] => return Ok(Self::strict()),
            _ => {}
        }
        let mut builder = Self::builder();
        for entry in entries {
            builder = match entry {
                Entry::Default => builder.sensitive()?,
                Entry::Strict => builder.strict()?,
                Entry::Block(glob) => builder.block(glob)?,
                Entry::Allow(glob) => builder.allow(glob)?,
            };
        }
        builder.build()
    }

    /// Returns the text of the rule that blocks `path`, or `None` if the path is allowed.
    pub fn blocking_rule(&self, path: &str) -> Option<Arc<str>> {
        match Decodings::of(path.as_bytes()) {
            Decodings::One(decoding) => self.rule_blocking_decoding(&decoding),
            Decodings::Several(decodings) => {
                decodings.iter().find_map(|decoding| self.rule_blocking_decoding(decoding))
            }
            Decodings::TooMany => Some(Arc::from(TOO_MANY_DECODINGS)),
        }
    }

    /// Returns each decoding of `path`, and the rule that blocks or allows the decoding.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_path_filter::PathRules;
    ///
    /// let explanation = PathRules::sensitive().explain("/a/%2e%2e/.env");
    /// assert!(explanation.is_blocked());
    /// assert!(explanation.to_string().contains("/.env  blocked by **/.env"));
    /// ```
    pub fn explain(&self, path: &str) -> PathExplanation {
        let decodings = match Decodings::of(path.as_bytes()) {
            Decodings::One(decoding) => vec![decoding.into_owned()],
            Decodings::Several(decodings) => decodings,
            Decodings::TooMany => Vec::new(),
        };
        let with_rule = |decoding: Vec<u8>| {
            let rule = self.last_match(&decoding).cloned();
            (decoding.escape_ascii().to_string(), rule)
        };
        PathExplanation { path: path.to_owned(), decodings: decodings.into_iter().map(with_rule).collect() }
    }

    fn rule_blocking_decoding(&self, decoding: &[u8]) -> Option<Arc<str>> {
        if !self.lists.iter().any(|list| list.may_block(decoding)) {
            return None;
        }
        let rule = self.last_match(decoding)?;
        rule.is_blocking.then(|| Arc::clone(&rule.glob))
    }

    /// Returns the last rule that matches a decoding.
    fn last_match(&self, decoding: &[u8]) -> Option<&Rule> {
        self.lists.iter().rev().find_map(|list| list.last_match(decoding))
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.lists.iter().flat_map(|list| list.rules())
    }
}

impl FromStr for PathRules {
    type Err = PathRulesError;

    fn from_str(list: &str) -> Result<Self, PathRulesError> {
        Self::parse_list(list)
    }
}

impl fmt::Debug for PathRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rules()).finish()
    }
}

/// A builder for [`PathRules`].
///
/// The last rule that matches a path decides.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct PathRulesBuilder {
    /// The compiled rules, up to and including the last curated list.
    lists: Vec<Arc<CompiledList>>,
    /// The rules that were added after the last curated list.
    rules: Vec<Rule>,
}

impl PathRulesBuilder {
    /// Blocks the paths that `glob` matches.
    ///
    /// # Errors
    ///
    /// Returns an error if the glob is invalid, or begins with neither `/` nor `*`.
    pub fn block(self, glob: &str) -> Result<Self, PathRulesError> {
        self.rule(glob, true)
    }

    /// Allows the paths that `glob` matches, even if an earlier rule blocks them.
    ///
    /// # Errors
    ///
    /// Returns an error if the glob is invalid, or begins with neither `/` nor `*`.
    pub fn allow(self, glob: &str) -> Result<Self, PathRulesError> {
        self.rule(glob, false)
    }

    /// Adds the rules of the [default list](PathRules::sensitive).
    ///
    /// # Errors
    ///
    /// Never returns an error. It returns a `Result` for uniform chaining.
    pub fn sensitive(self) -> Result<Self, PathRulesError> {
        self.list(CompiledList::default_paths())
    }

    /// Adds the rules of the [strict list](PathRules::strict), which include the [default list](PathRules::sensitive).
    ///
    /// # Errors
    ///
    /// Never returns an error. It returns a `Result` for uniform chaining.
    pub fn strict(self) -> Result<Self, PathRulesError> {
        self.list(CompiledList::strict_paths())
    }

    fn list(mut self, list: Arc<CompiledList>) -> Result<Self, PathRulesError> {
        self.compile_rules()?;
        self.lists.push(list);
        Ok(self)
    }

    fn compile_rules(&mut self) -> Result<(), PathRulesError> {
        if !self.rules.is_empty() {
            self.lists.push(Arc::new(CompiledList::new(std::mem::take(&mut self.rules))?));
        }
        Ok(())
    }

    /// Compiles the rules into [`PathRules`].
    ///
    /// # Errors
    ///
    /// Returns an error if there are no rules, or more than can be compiled.
    pub fn build(mut self) -> Result<PathRules, PathRulesError> {
        self.compile_rules()?;
        if self.lists.is_empty() {
            return Err(PathRulesError::NoRules);
        }
        Ok(PathRules { lists: self.lists.into() })
    }

    fn rule(mut self, glob: &str, is_blocking: bool) -> Result<Self, PathRulesError> {
        self.rules.push(Rule::new(glob, is_blocking)?);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn prefilter_never_skips_a_blocked_path(
            path in "/?((\\.|\\.\\.|env|git|config|sql|php|~|#|wp-config|actuator|vendor|phpunit|id_rsa|core|[a-z0-9_-]{1,3}|/|\\.){1,7})"
        ) {
            static LISTS: LazyLock<Vec<PathRules>> = LazyLock::new(|| {
                let lists = ["default", "strict", "/private/**,**/x{a,b[]c]}y,!**/xay", "**/[]a]b{,c},/*/d?"];
                lists.map(|list| PathRules::parse_list(list).unwrap()).into()
            });
            for rules in &*LISTS {
                let path = format!("/{}", path.trim_start_matches('/'));
                let matched = rules.last_match(path.as_bytes()).is_some_and(|rule| rule.is_blocking);
                let may_block = rules.lists.iter().any(|list| list.may_block(path.as_bytes()));
                prop_assert!(!matched || may_block, "{rules:?} {path}");
            }
        }
    }

    #[test]
    fn path_rules_share_the_compiled_curated_lists() {
        let (one, other) = ["default,/a", "/b,default"].map(|list| PathRules::parse_list(list).unwrap()).into();
        assert!(Arc::ptr_eq(&one.lists[0], &other.lists[1]));
        assert!(Arc::ptr_eq(&one.lists[0], &PathRules::sensitive().lists[0]));
        let strict = PathRules::parse_list("strict,/a").unwrap();
        assert!(Arc::ptr_eq(&strict.lists[0], &PathRules::strict().lists[0]));
    }

    #[test]
    fn last_matching_rule_decides_across_curated_lists() {
        for (list, path, is_blocked) in [
            ("default,!/.env", "/.env", false),
            ("!/.env,default", "/.env", true),
            ("/x,!/x,default", "/x", false),
            ("!/.env,default,/y,!/y/**", "/y/z", false),
            ("/.env.d/ok,default,!/.env", "/.env", false),
            ("!/x,strict,/x", "/x", true),
        ] {
            let rules = PathRules::parse_list(list).unwrap();
            assert_eq!(rules.blocking_rule(path).is_some(), is_blocked, "{list} {path}");
            assert_eq!(rules.explain(path).is_blocked(), is_blocked, "{list} {path}");
        }
    }

    /// A path that passes the prefilter is matched against all globs, which is slow.
    #[test]
    fn curated_lists_prefilter_skips_ordinary_paths() {
        for path in [
            "/",
            "/index.html",
            "/api/v1/users/1",
            "/static/js/app.0a1b2c.js",
            "/config",
            "/admin/config/",
            "/backup/",
            "/data/users/12.json",
            "/wiki/main_page",
            "/wp-content/uploads/2026/11/photo.jpg",
            "/user/repo/src/branch/main/readme.md",
            "/_next/static/chunks/app/page-1a2b.js",
            "/media/server/x.png",
        ] {
            for rules in [PathRules::sensitive(), PathRules::strict()] {
                assert!(!rules.lists.iter().any(|list| list.may_block(path.as_bytes())), "{path}");
            }
        }
    }
}
