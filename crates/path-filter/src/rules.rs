//! The rules: globs that are matched against every decoding of a path. The last match decides.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, OnceLock};

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use rproxy_core::path::Decodings;

use crate::literal_prefilter::LiteralPrefilter;
use crate::sensitive_paths::SENSITIVE_PATHS;

/// Compiled rules that block and allow paths. Clones share them.
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
    compiled: Arc<Compiled>,
}

struct Compiled {
    rules: Vec<Rule>,
    /// The prefilter of the globs that block.
    prefilter: LiteralPrefilter,
    /// The globs of the curated list are compiled when the first path passes the prefilter. This takes some milliseconds
    /// and megabytes, and many proxies never get such a path.
    globs: OnceLock<AllGlobs>,
}

struct AllGlobs {
    /// Globs that match only paths with a segment that begins with a dot. Most paths have none.
    dotted: Globs,
    others: Globs,
}

struct Globs {
    set: GlobSet,
    /// The index of the rule for each glob of the set, in ascending order.
    rules: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Rule {
    glob: Arc<str>,
    is_blocking: bool,
}

impl PathRules {
    /// Returns the curated list of sensitive paths that sites often serve by accident. Version 2026-11.4.
    ///
    /// Its globs are compiled when the first path might match one, which takes some milliseconds.
    pub fn sensitive() -> Self {
        static RULES: LazyLock<PathRules> = LazyLock::new(|| match PathRules::builder().sensitive() {
            Ok(builder) => builder.with_globs(OnceLock::new()),
            // The list is a constant, and a test compiles it.
            Err(error) => unreachable!("the curated list is valid: {error}"),
        });
        RULES.clone()
    }

    /// Returns a builder without rules.
    pub fn builder() -> PathRulesBuilder {
        PathRulesBuilder::default()
    }

    /// Parses a comma-separated list of globs.
    ///
    /// `!` before a glob allows its paths. The entry `default` is the [curated list](Self::sensitive). Commas within braces
    /// do not separate entries.
    ///
    /// # Errors
    ///
    /// Returns an error if an entry is not a valid glob, or if the list is empty.
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
        if list.trim().eq_ignore_ascii_case("default") {
            return Ok(Self::sensitive());
        }
        let mut builder = Self::builder();
        for entry in entries(list) {
            builder = match entry.strip_prefix('!') {
                Some(glob) => builder.allow(glob.trim())?,
                None if entry.eq_ignore_ascii_case("default") => builder.sensitive()?,
                None => builder.block(entry)?,
            };
        }
        builder.build()
    }

    /// Returns the rule that blocks `path`, as it was written, or `None` if the path is allowed.
    pub fn blocking_rule(&self, path: &str) -> Option<Arc<str>> {
        match Decodings::of(path.as_bytes()) {
            Decodings::One(decoding) => self.rule_blocking_decoding(&decoding),
            Decodings::Several(decodings) => {
                decodings.iter().find_map(|decoding| self.rule_blocking_decoding(decoding))
            }
            Decodings::TooMany => Some(Arc::from(TOO_MANY_DECODINGS)),
        }
    }

    /// Returns every decoding of `path`, with the rule that decides about it.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_path_filter::PathRules;
    ///
    /// let explanation = PathRules::sensitive().explain("/a/%2e%2e/.env");
    /// assert!(explanation.is_blocked());
    /// assert!(explanation.to_string().contains("/.env  blocked by **/*.env"));
    /// ```
    pub fn explain(&self, path: &str) -> PathExplanation {
        let decodings = match Decodings::of(path.as_bytes()) {
            Decodings::One(decoding) => vec![decoding.into_owned()],
            Decodings::Several(decodings) => decodings,
            Decodings::TooMany => Vec::new(),
        };
        let with_rule = |decoding: Vec<u8>| {
            let rule = self.last_match(&decoding).map(|index| self.compiled.rules[index].clone());
            (decoding.escape_ascii().to_string(), rule)
        };
        PathExplanation { path: path.to_owned(), decodings: decodings.into_iter().map(with_rule).collect() }
    }

    fn rule_blocking_decoding(&self, decoding: &[u8]) -> Option<Arc<str>> {
        if !self.compiled.prefilter.may_match(decoding) {
            return None;
        }
        let rule = &self.compiled.rules[self.last_match(decoding)?];
        rule.is_blocking.then(|| Arc::clone(&rule.glob))
    }

    /// Returns the index of the last rule that matches.
    fn last_match(&self, decoding: &[u8]) -> Option<usize> {
        let globs = self.compiled.globs();
        let candidate = Candidate::from_bytes(decoding);
        let others = globs.others.last_match(&candidate);
        let has_dotted_segment = || memchr::memmem::find(decoding, b"/.").is_some();
        if globs.dotted.rules.is_empty() || !has_dotted_segment() {
            return others;
        }
        others.max(globs.dotted.last_match(&candidate))
    }
}

impl Compiled {
    fn globs(&self) -> &AllGlobs {
        self.globs.get_or_init(|| match AllGlobs::compile(&self.rules) {
            Ok(globs) => globs,
            // A builder compiles its globs at once. The curated list is a constant, and a test compiles it.
            Err(error) => unreachable!("the curated list is valid: {error}"),
        })
    }
}

impl AllGlobs {
    fn compile(rules: &[Rule]) -> Result<Self, PathRulesError> {
        let (dotted, others): (Vec<_>, Vec<_>) =
            rules.iter().enumerate().partition(|(_, rule)| needs_dotted_segment(&rule.glob));
        Ok(Self { dotted: compile(&dotted)?, others: compile(&others)? })
    }
}

impl Globs {
    fn last_match(&self, candidate: &Candidate<'_>) -> Option<usize> {
        // Usually no glob matches, which `is_match_candidate` determines faster.
        if !self.set.is_match_candidate(candidate) {
            return None;
        }
        self.set.matches_candidate(candidate).into_iter().max().map(|glob| self.rules[glob])
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
        f.debug_list().entries(&self.compiled.rules).finish()
    }
}

const TOO_MANY_DECODINGS: &str = "(too many decodings)";

/// A builder for [`PathRules`].
///
/// The last rule that matches a path decides.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct PathRulesBuilder {
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

    /// Adds the rules of the [curated list](PathRules::sensitive).
    ///
    /// # Errors
    ///
    /// Never returns an error. It returns a `Result` for uniform chaining.
    pub fn sensitive(mut self) -> Result<Self, PathRulesError> {
        for entry in SENSITIVE_PATHS {
            self = match entry.strip_prefix('!') {
                Some(glob) => self.allow(glob)?,
                None => self.block(entry)?,
            };
        }
        Ok(self)
    }

    /// Compiles the rules, so that paths can be checked.
    ///
    /// # Errors
    ///
    /// Returns an error if there are no rules, or more than can be compiled.
    pub fn build(self) -> Result<PathRules, PathRulesError> {
        if self.rules.is_empty() {
            return Err(PathRulesError::NoRules);
        }
        let globs = AllGlobs::compile(&self.rules)?;
        Ok(self.with_globs(globs.into()))
    }

    fn with_globs(self, globs: OnceLock<AllGlobs>) -> PathRules {
        let blocking = self.rules.iter().filter(|rule| rule.is_blocking).map(|rule| rule.glob.to_lowercase());
        let expanded: Vec<_> = blocking.flat_map(|glob| with_folder(&glob).collect::<Vec<_>>()).collect();
        let prefilter = LiteralPrefilter::new(expanded.iter().map(String::as_str));
        PathRules { compiled: Arc::new(Compiled { rules: self.rules, prefilter, globs }) }
    }

    fn rule(mut self, glob: &str, is_blocking: bool) -> Result<Self, PathRulesError> {
        let error = |reason: &str| PathRulesError::InvalidGlob { glob: glob.to_owned(), reason: reason.to_owned() };
        if !glob.starts_with(['/', '*']) {
            return Err(error("it must begin with / or *"));
        }
        for glob in with_folder(&glob.to_lowercase()) {
            build_glob(&glob).map_err(|cause| error(&cause.kind().to_string()))?;
        }
        self.rules.push(Rule { glob: glob.into(), is_blocking });
        Ok(self)
    }
}

fn compile(rules: &[(usize, &Rule)]) -> Result<Globs, PathRulesError> {
    let mut set = GlobSetBuilder::new();
    let mut indices = Vec::new();
    let error = |glob: &str, cause: globset::Error| PathRulesError::InvalidGlob {
        glob: glob.to_owned(),
        reason: cause.kind().to_string(),
    };
    for (index, rule) in rules {
        for glob in with_folder(&rule.glob.to_lowercase()) {
            set.add(build_glob(&glob).map_err(|cause| error(&rule.glob, cause))?);
            indices.push(*index);
        }
    }
    Ok(Globs { set: set.build().map_err(|cause| error("(all globs together)", cause))?, rules: indices })
}

/// Returns the glob, and the folder itself for `/folder/**`, which globset matches only for paths below it.
fn with_folder(glob: &str) -> impl Iterator<Item = String> {
    let folder = glob.strip_suffix("/**").filter(|folder| !folder.is_empty() && *folder != "**");
    std::iter::once(glob.to_owned()).chain(folder.map(str::to_owned))
}

/// Parses a glob, which is matched in lower case. `empty_alternates` allows an empty choice, as in `{,-b}`.
///
/// Globs and paths are in lower case, so that globset can look up extensions and names in hash tables. Case-insensitive
/// globs would need a regex.
fn build_glob(glob: &str) -> Result<globset::Glob, globset::Error> {
    GlobBuilder::new(glob).literal_separator(true).backslash_escape(false).empty_alternates(true).build()
}

/// Returns whether the glob matches only paths with a segment that begins with a dot.
///
/// This is the case if `/.` is in the glob, outside of braces and brackets.
fn needs_dotted_segment(glob: &str) -> bool {
    let mut depth = 0;
    let mut before = ' ';
    for c in glob.chars() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            '.' if before == '/' && depth == 0 => return true,
            _ => {}
        }
        before = c;
    }
    false
}

/// Splits a list into entries at commas outside of braces.
fn entries(list: &str) -> Vec<&str> {
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

/// The error for invalid [`PathRules`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathRulesError {
    /// A glob of the rules is invalid.
    #[error("bad path glob {glob:?}: {reason}")]
    InvalidGlob {
        /// The glob, as it was written.
        glob: String,
        /// The reason why the glob is invalid.
        reason: String,
    },
    /// There are no rules, so the filter would block nothing.
    #[error("a path filter needs at least one rule")]
    NoRules,
}

/// The decodings of a path, and the rules that decide about them.
///
/// [`Display`](fmt::Display) formats them as a table.
#[derive(Clone, Debug)]
pub struct PathExplanation {
    path: String,
    decodings: Vec<(String, Option<Rule>)>,
}

impl PathExplanation {
    /// Returns whether the path is blocked.
    pub fn is_blocked(&self) -> bool {
        self.decodings.is_empty()
            || self.decodings.iter().any(|(_, rule)| rule.as_ref().is_some_and(|rule| rule.is_blocking))
    }
}

impl fmt::Display for PathExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.path, if self.is_blocked() { "blocked" } else { "allowed" })?;
        if self.decodings.is_empty() {
            writeln!(f, "  {TOO_MANY_DECODINGS}")?;
        }
        for (decoding, rule) in &self.decodings {
            match rule {
                Some(Rule { glob, is_blocking: true }) => writeln!(f, "  {decoding}  blocked by {glob}")?,
                Some(Rule { glob, is_blocking: false }) => writeln!(f, "  {decoding}  allowed by {glob}")?,
                None => writeln!(f, "  {decoding}")?,
            }
        }
        Ok(())
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
                let lists = ["default", "/private/**,**/x{a,b[]c]}y,!**/xay", "**/[]a]b{,c},/*/d?"];
                lists.map(|list| PathRules::parse_list(list).unwrap()).into()
            });
            for rules in &*LISTS {
                let path = format!("/{}", path.trim_start_matches('/'));
                let matched = rules.last_match(path.as_bytes()).is_some_and(|index| rules.compiled.rules[index].is_blocking);
                prop_assert!(!matched || rules.compiled.prefilter.may_match(path.as_bytes()), "{rules:?} {path}");
            }
        }
    }
}
