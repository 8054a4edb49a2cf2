//! The settings of the filter for sensitive paths.

use std::sync::Arc;

use rproxy_path_filter::{PathFilterLayer, PathRules};
use rproxy_target_rules::TargetRulesLayer;

use crate::known_rejection::KnownRejection;
use crate::path_prefix::without_prefix;
use crate::setting::{SWITCH, settings};
use crate::values::filter::BlockedPathResponse;
use crate::values::parsed::Parsed;
use crate::values::paths;
use crate::values::value::boolean;

/// The rejections of the path filter.
pub(crate) const REJECTIONS: &[KnownRejection] = &[KnownRejection::new("blocked_path", "blocked_path")
    .explained(
        "the path filter blocks the path by its rule {(unknown)}; RPROXY_BLOCKED_PATHS and RPROXY_FILTER_STRICT set the \
         rules",
    )
    .logged()];

settings! {
    /// The settings of the filter for sensitive paths.
    PathFilterSettings, "Path filter"

    "filter_enabled" => enabled: bool {
        value: "BOOL",
        default: "true",
        help: "Rejects requests for blocked paths",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.enabled.to_string()),
    }

    "blocked_paths" => blocked_paths: Parsed<PathRules> {
        value: "GLOB,...",
        default: "`default`, known secrets" => paths::blocked(),
        help: "Paths to block; `default,/private/**` adds paths, `!/pattern` exempts a path, and `strict` also blocks other dotfiles, keys, dumps, logs and build files",
        accepted: "comma-separated lists (`default`, `strict`), globs that begin with / or *, `!` before an exemption",
        scope: Route,
        reload: Live,
        parse: paths::rules,
        show: |s| Some(s.blocked_paths.text().to_owned()),
    }

    "filter_status" => status: BlockedPathResponse {
        value: "STATUS|close",
        default: "404",
        help: "Response to blocked paths: a status, or `close` to close the connection (HTTP/2: reset the stream) without a response, except for trusted proxies, which get 404",
        accepted: "a status from 400 to 499, or close",
        scope: Route,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.status.to_string()),
    }

    "filter_strict" => strict: bool {
        value: "BOOL",
        default: "false",
        help: "Rejects ambiguous paths, which servers can decode differently, with 400: paths with %2F, //, /./, ; and similar",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.strict.to_string()),
    }

    "filter_log_only" => log_only: bool {
        value: "BOOL",
        default: "false",
        help: "Shadow mode: forwards requests for blocked paths, and marks them in the access log",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.log_only.to_string()),
    }
}

impl PathFilterSettings {
    /// Returns the path filter of a site or route that strips `prefix` from the path, or changes the path by `rewrites`.
    pub(crate) fn layer(
        &self,
        prefix: Option<&Arc<str>>,
        rewrites: Option<TargetRulesLayer>,
    ) -> Option<PathFilterLayer> {
        if !self.enabled {
            return None;
        }
        let layer = PathFilterLayer::new(self.blocked_paths.value().clone())
            .status(self.status.status())
            .reject_ambiguous(self.strict)
            .shadow(self.log_only);
        Some(match (prefix.map(Arc::clone), rewrites) {
            (Some(prefix), _) => layer.rewrite(move |uri| without_prefix(uri, &prefix)),
            (None, Some(rewrites)) => layer.rewrite(move |uri| rewrites.rewritten(uri)),
            (None, None) => layer,
        })
    }

    pub(crate) fn describe(&self) -> Option<String> {
        let log_only = if self.log_only { ", shadow mode" } else { "" };
        self.enabled.then(|| format!("PathFilter       {}{log_only}", self.blocked_paths.text()))
    }
}
