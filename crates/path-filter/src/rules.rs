//! Which paths are blocked: globs over readings, the last match decides.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, OnceLock};

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use rproxy_core::path::Decodings;

use crate::literals::Literals;
use crate::sensitive::SENSITIVE;

/// Rules that are ready to judge. Cheap to clone.
///
/// A glob matches a whole path in lower case: `*` within a segment, `**` over segments, `?`, `[ab]`,
/// `{a,b}`. `/private/**` is `/private` itself, too.
#[derive(Clone)]
pub struct PathRules {
    compiled: Arc<Compiled>,
}

struct Compiled {
    rules: Vec<Rule>,
    /// Of the globs that block.
    literals: Literals,
    /// Of the curated list alone made with the first path that the literals let through: they take megabytes and some
    /// milliseconds, and many a proxy never sees such a path.
    globs: OnceLock<AllGlobs>,
}

struct AllGlobs {
    /// Globs that can match only where a segment begins with a dot: most paths have none.
    dotted: Globs,
    others: Globs,
}

struct Globs {
    set: GlobSet,
    /// For each glob of the set, the index of its rule, ascending.
    rules: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Rule {
    glob: Arc<str>,
    blocks: bool,
}

impl PathRules {
    /// The curated list: what is not meant to be served and often is by accident. Version 2026-11.4. Its globs are compiled
    /// when a path looks as if one could match, which takes some milliseconds once.
    pub fn sensitive() -> Self {
        static RULES: LazyLock<PathRules> = LazyLock::new(|| match PathRules::builder().sensitive() {
            Ok(builder) => builder.with_globs(OnceLock::new()),
            // A test builds it; a filter that blocks nothing would be worse.
            Err(error) => unreachable!("the curated list: {error}"),
        });
        RULES.clone()
    }

    /// Starts with no rule at all.
    pub fn builder() -> PathRulesBuilder {
        PathRulesBuilder::default()
    }

    /// Reads a comma-separated list: globs, `!` before those that are exempt, and the word `default`
    /// for the curated list. A comma within braces does not separate.
    ///
    /// # Errors
    ///
    /// An entry that is no glob, or an empty list.
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

    /// The rule by which `path` is blocked, as it was written; `None` if it is not.
    pub fn blocks(&self, path: &str) -> Option<Arc<str>> {
        match Decodings::of(path.as_bytes()) {
            Decodings::One(reading) => self.blocked_reading(&reading),
            Decodings::Several(readings) => readings.iter().find_map(|reading| self.blocked_reading(reading)),
            Decodings::TooMany => Some(Arc::from(TOO_MANY)),
        }
    }

    /// Shows every reading of `path`, and what becomes of it.
    pub fn explain(&self, path: &str) -> Explanation {
        let readings = match Decodings::of(path.as_bytes()) {
            Decodings::One(reading) => vec![reading.into_owned()],
            Decodings::Several(readings) => readings,
            Decodings::TooMany => Vec::new(),
        };
        let judged = |reading: Vec<u8>| {
            let rule = self.last_match(&reading).map(|index| self.compiled.rules[index].clone());
            (reading.escape_ascii().to_string(), rule)
        };
        Explanation { path: path.to_owned(), readings: readings.into_iter().map(judged).collect() }
    }

    fn blocked_reading(&self, reading: &[u8]) -> Option<Arc<str>> {
        if !self.compiled.literals.may_match(reading) {
            return None;
        }
        let rule = &self.compiled.rules[self.last_match(reading)?];
        rule.blocks.then(|| Arc::clone(&rule.glob))
    }

    /// The last rule that matches.
    fn last_match(&self, reading: &[u8]) -> Option<usize> {
        let globs = self.compiled.globs();
        let candidate = Candidate::from_bytes(reading);
        let others = globs.others.last_match(&candidate);
        // What is searched for is the first byte of a segment, so that a dot elsewhere costs nothing.
        let has_dotted = || memchr::memmem::find(reading, b"/.").is_some();
        if globs.dotted.rules.is_empty() || !has_dotted() {
            return others;
        }
        others.max(globs.dotted.last_match(&candidate))
    }
}

impl Compiled {
    fn globs(&self) -> &AllGlobs {
        self.globs.get_or_init(|| match AllGlobs::of(&self.rules) {
            Ok(globs) => globs,
            // Those of a builder were made by it. The curated list is a constant, and a test has them made.
            Err(error) => unreachable!("the curated list: {error}"),
        })
    }
}

impl AllGlobs {
    fn of(rules: &[Rule]) -> Result<Self, PathRulesError> {
        let (dotted, others): (Vec<_>, Vec<_>) =
            rules.iter().enumerate().partition(|(_, rule)| needs_dotted_segment(&rule.glob));
        Ok(Self { dotted: compile(&dotted)?, others: compile(&others)? })
    }
}

impl Globs {
    fn last_match(&self, candidate: &Candidate<'_>) -> Option<usize> {
        // Asking whether is far cheaper than asking which, and the answer is mostly no.
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

const TOO_MANY: &str = "(more readings than can be judged)";

/// Collects rules; the last that matches decides.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct PathRulesBuilder {
    rules: Vec<Rule>,
}

impl PathRulesBuilder {
    /// Blocks what `glob` matches.
    ///
    /// # Errors
    ///
    /// A glob that is none, or begins with neither `/` nor `*`.
    pub fn block(self, glob: &str) -> Result<Self, PathRulesError> {
        self.rule(glob, true)
    }

    /// Allows what `glob` matches, though an earlier rule blocks it.
    ///
    /// # Errors
    ///
    /// As [`block`](Self::block).
    pub fn allow(self, glob: &str) -> Result<Self, PathRulesError> {
        self.rule(glob, false)
    }

    /// Adds the curated list.
    ///
    /// # Errors
    ///
    /// None; the type is for chaining.
    pub fn sensitive(mut self) -> Result<Self, PathRulesError> {
        for entry in SENSITIVE {
            self = match entry.strip_prefix('!') {
                Some(glob) => self.allow(glob)?,
                None => self.block(entry)?,
            };
        }
        Ok(self)
    }

    /// Compiles the rules.
    ///
    /// # Errors
    ///
    /// No rules, or more than can be compiled.
    pub fn build(self) -> Result<PathRules, PathRulesError> {
        if self.rules.is_empty() {
            return Err(PathRulesError::Empty);
        }
        let globs = AllGlobs::of(&self.rules)?;
        Ok(self.with_globs(globs.into()))
    }

    fn with_globs(self, globs: OnceLock<AllGlobs>) -> PathRules {
        let blocking = self.rules.iter().filter(|rule| rule.blocks).map(|rule| rule.glob.to_lowercase());
        let spelled: Vec<_> = blocking.flat_map(|glob| spellings(&glob).collect::<Vec<_>>()).collect();
        let literals = Literals::of(spelled.iter().map(String::as_str));
        PathRules { compiled: Arc::new(Compiled { rules: self.rules, literals, globs }) }
    }

    fn rule(mut self, glob: &str, blocks: bool) -> Result<Self, PathRulesError> {
        let error = |reason: &str| PathRulesError::Glob { glob: glob.to_owned(), reason: reason.to_owned() };
        if !glob.starts_with(['/', '*']) {
            return Err(error("it must begin with / or *"));
        }
        for glob in spellings(&glob.to_lowercase()) {
            build_glob(&glob).map_err(|cause| error(&cause.kind().to_string()))?;
        }
        self.rules.push(Rule { glob: glob.into(), blocks });
        Ok(self)
    }
}

fn compile(rules: &[(usize, &Rule)]) -> Result<Globs, PathRulesError> {
    let mut set = GlobSetBuilder::new();
    let mut indices = Vec::new();
    let error = |glob: &str, cause: globset::Error| PathRulesError::Glob {
        glob: glob.to_owned(),
        reason: cause.kind().to_string(),
    };
    for (index, rule) in rules {
        for spelling in spellings(&rule.glob.to_lowercase()) {
            set.add(build_glob(&spelling).map_err(|cause| error(&rule.glob, cause))?);
            indices.push(*index);
        }
    }
    Ok(Globs { set: set.build().map_err(|cause| error("(all together)", cause))?, rules: indices })
}

/// `/private/**` in globset matches what is below; here it is `/private` as well.
fn spellings(glob: &str) -> impl Iterator<Item = String> {
    let itself = glob.strip_suffix("/**").filter(|itself| !itself.is_empty() && *itself != "**");
    std::iter::once(glob.to_owned()).chain(itself.map(str::to_owned))
}

// `{,-b}` is two choices, the first of them nothing: globset needs to be told.
// In lower case on both sides rather than case-insensitive: globset then looks up extensions and
// names in hash tables, where it would have to run a regex.
fn build_glob(glob: &str) -> Result<globset::Glob, globset::Error> {
    GlobBuilder::new(glob).literal_separator(true).backslash_escape(false).empty_alternates(true).build()
}

/// Whether nothing without a segment that begins with a dot can match: `/.` stands in the glob
/// itself, outside of braces and brackets.
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

/// The entries of a list; commas within braces do not separate.
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

/// Rules that can't be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathRulesError {
    /// A glob that is none.
    #[error("bad path glob {glob:?}: {reason}")]
    Glob {
        /// As it was written.
        glob: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no rule.
    #[error("a path filter needs at least one rule")]
    Empty,
}

/// Every reading of a path, and the rule that decides on it. Prints as a table.
#[derive(Clone, Debug)]
pub struct Explanation {
    path: String,
    readings: Vec<(String, Option<Rule>)>,
}

impl Explanation {
    /// Whether the path is blocked.
    pub fn is_blocked(&self) -> bool {
        self.readings.is_empty() || self.readings.iter().any(|(_, rule)| rule.as_ref().is_some_and(|rule| rule.blocks))
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.path, if self.is_blocked() { "blocked" } else { "allowed" })?;
        if self.readings.is_empty() {
            writeln!(f, "  {TOO_MANY}")?;
        }
        for (reading, rule) in &self.readings {
            match rule {
                Some(Rule { glob, blocks: true }) => writeln!(f, "  {reading}  blocked by {glob}")?,
                Some(Rule { glob, blocks: false }) => writeln!(f, "  {reading}  allowed by {glob}")?,
                None => writeln!(f, "  {reading}")?,
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
        // What the literals rule out, no rule that blocks matches.
        #[test]
        fn the_literals_rule_nothing_out_that_is_blocked(
            path in "/?((\\.|\\.\\.|env|git|config|sql|php|~|#|wp-config|actuator|vendor|phpunit|id_rsa|core|[a-z0-9_-]{1,3}|/|\\.){1,7})"
        ) {
            static LISTS: LazyLock<Vec<PathRules>> = LazyLock::new(|| {
                let lists = ["default", "/private/**,**/x{a,b[]c]}y,!**/xay", "**/[]a]b{,c},/*/d?"];
                lists.map(|list| PathRules::parse_list(list).unwrap()).into()
            });
            for rules in &*LISTS {
                let path = format!("/{}", path.trim_start_matches('/'));
                let matched = rules.last_match(path.as_bytes()).is_some_and(|index| rules.compiled.rules[index].blocks);
                prop_assert!(!matched || rules.compiled.literals.may_match(path.as_bytes()), "{rules:?} {path}");
            }
        }
    }
}
