//! The globs of the rules, compiled into glob sets.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use rproxy_core::path::normalized;

use crate::error::PathRulesError;

/// The compiled globs of all rules.
pub(crate) struct AllGlobs {
    /// Globs that match only paths with a dotfile segment. Most paths have none.
    dotted: Globs,
    others: Globs,
}

struct Globs {
    set: GlobSet,
    /// The rule index of each glob in the set, in ascending order.
    rules: Vec<usize>,
}

impl AllGlobs {
    /// Compiles the glob of each rule.
    pub(crate) fn compile<'g>(globs: impl Iterator<Item = &'g str>) -> Result<Self, PathRulesError> {
        let (dotted, others): (Vec<_>, Vec<_>) = globs.enumerate().partition(|(_, glob)| needs_dotted_segment(glob));
        Ok(Self { dotted: compile(&dotted)?, others: compile(&others)? })
    }

    /// Returns the index of the last rule that matches a decoded path.
    pub(crate) fn last_match(&self, decoding: &[u8]) -> Option<usize> {
        let candidate = Candidate::from_bytes(decoding);
        let others = self.others.last_match(&candidate);
        let has_dotted_segment = || memchr::memmem::find(decoding, b"/.").is_some();
        if self.dotted.rules.is_empty() || !has_dotted_segment() {
            return others;
        }
        others.max(self.dotted.last_match(&candidate))
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

fn compile(globs: &[(usize, &str)]) -> Result<Globs, PathRulesError> {
    let mut set = GlobSetBuilder::new();
    let mut indices = Vec::new();
    let error = |glob: &str, cause: globset::Error| PathRulesError::InvalidGlob {
        glob: glob.to_owned(),
        reason: cause.kind().to_string(),
    };
    for (index, written) in globs {
        for glob in with_folder(&normalized(written)) {
            set.add(build_glob(&glob).map_err(|cause| error(written, cause))?);
            indices.push(*index);
        }
    }
    Ok(Globs { set: set.build().map_err(|cause| error("(all globs combined)", cause))?, rules: indices })
}

/// Returns the glob, and for `/directory/**` also `/directory`, which globset does not match.
pub(crate) fn with_folder(glob: &str) -> impl Iterator<Item = String> {
    let folder = glob.strip_suffix("/**").filter(|folder| !folder.is_empty() && *folder != "**");
    std::iter::once(glob.to_owned()).chain(folder.map(str::to_owned))
}

/// Parses a glob, which must be in lower case. `empty_alternates` allows an empty choice, as in `{,-b}`.
///
/// Globs and paths are in lower case, so that globset can look up extensions and names in hash tables. Case-insensitive
/// globs would need a regex.
pub(crate) fn build_glob(glob: &str) -> Result<globset::Glob, globset::Error> {
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
