//! A list of rules, with a prefilter and the compiled globs.

use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use rproxy_core::path::normalized;

use crate::curated::Section;
use crate::default_paths::DEFAULT_PATHS;
use crate::error::PathRulesError;
use crate::globs::{AllGlobs, with_folder};
use crate::literal_prefilter::LiteralPrefilter;
use crate::rule::Rule;
use crate::strict_paths::STRICT_PATHS;

/// A compiled list of rules.
pub(crate) struct CompiledList {
    rules: Vec<Rule>,
    /// The prefilter for the globs that block paths.
    prefilter: LiteralPrefilter,
    /// The globs of the rules, compiled when a path first passes the prefilter. For a curated list, this takes some
    /// milliseconds and megabytes, and many proxies never get such a path.
    globs: OnceLock<AllGlobs>,
}

impl CompiledList {
    /// Creates a list of `rules`, or returns an error if a glob is invalid.
    pub(crate) fn new(rules: Vec<Rule>) -> Result<Self, PathRulesError> {
        // Finds errors now. The result is dropped, because few lists ever need it.
        compile(&rules)?;
        Ok(Self::from_valid(rules))
    }

    /// Returns the compiled default list.
    pub(crate) fn default_paths() -> Arc<Self> {
        static LIST: LazyLock<Arc<CompiledList>> = LazyLock::new(|| CompiledList::curated(&[DEFAULT_PATHS]));
        Arc::clone(&LIST)
    }

    /// Returns the compiled strict list, which includes the default list.
    pub(crate) fn strict_paths() -> Arc<Self> {
        // The default list comes last: its secrets are blocked and its files of users allowed in the strict list, too.
        static LIST: LazyLock<Arc<CompiledList>> =
            LazyLock::new(|| CompiledList::curated(&[STRICT_PATHS, DEFAULT_PATHS]));
        Arc::clone(&LIST)
    }

    fn curated(lists: &[&[Section]]) -> Arc<Self> {
        let paths = lists.iter().copied().flatten().flat_map(|section| section.paths);
        let rules = paths.map(|entry| match entry.strip_prefix('!') {
            Some(glob) => Rule::new(glob, false),
            None => Rule::new(entry, true),
        });
        match rules.collect::<Result<_, _>>() {
            Ok(rules) => Arc::new(Self::from_valid(rules)),
            // The lists are constants, and tests compile them.
            Err(error) => unreachable!("a curated list contains an invalid rule: {error}"),
        }
    }

    fn from_valid(rules: Vec<Rule>) -> Self {
        let blocking = rules.iter().filter(|rule| rule.is_blocking).map(|rule| normalized(&rule.glob));
        let expanded: Vec<_> = blocking.flat_map(|glob| with_folder(&glob).collect::<Vec<_>>()).collect();
        let prefilter = LiteralPrefilter::new(expanded.iter().map(String::as_str));
        Self { rules, prefilter, globs: OnceLock::new() }
    }

    /// Returns `false` if no rule of the list can block the path.
    pub(crate) fn may_block(&self, decoding: &[u8]) -> bool {
        self.prefilter.may_match(decoding)
    }

    /// Returns the last rule of the list that matches a decoding.
    pub(crate) fn last_match(&self, decoding: &[u8]) -> Option<&Rule> {
        self.globs().last_match(decoding).map(|index| &self.rules[index])
    }

    /// Returns the rules in the order of the list.
    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    fn globs(&self) -> &AllGlobs {
        self.globs.get_or_init(|| match compile(&self.rules) {
            Ok(globs) => globs,
            // `new` has compiled them before. The curated lists are constants, and tests compile them.
            Err(error) => unreachable!("a built-in list contains an invalid rule: {error}"),
        })
    }
}

fn compile(rules: &[Rule]) -> Result<AllGlobs, PathRulesError> {
    AllGlobs::compile(rules.iter().map(|rule| &*rule.glob))
}

impl fmt::Debug for CompiledList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rules).finish()
    }
}
