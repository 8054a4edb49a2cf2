//! Settings of the cache.

use super::{Fallback, PATHS, SWITCH, Setting, put};
use crate::config::paths;
use crate::config::value::{MEBIBYTE, boolean, size, written_size};

const HEADING: &str = "Cache";

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        key: "cache_enabled",
        heading: HEADING,
        placeholder: "BOOL",
        default: Fallback::Value("true"),
        help: "Whether responses are cached",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.cache_enabled, boolean(t)),
        show: |c| Some(c.cache_enabled.to_string()),
    },
    Setting {
        key: "cache_size",
        heading: HEADING,
        placeholder: "SIZE",
        default: Fallback::Value("64MiB"),
        help: "Memory for bodies and heads together",
        accepted: "a size such as 64MiB or 1GiB; a bare number is MiB",
        secret: false,
        set: |c, t| put(&mut c.cache_size, size(t, MEBIBYTE)),
        show: |c| Some(written_size(c.cache_size)),
    },
    Setting {
        key: "cache_paths",
        heading: HEADING,
        placeholder: "GLOB,...",
        default: Fallback::Value(paths::CACHED),
        help: "Paths that the cache serves; /** for all",
        accepted: PATHS,
        secret: false,
        set: |c, t| put(&mut c.cache_paths, paths::globs(t)),
        show: |c| Some(c.cache_paths.text().to_owned()),
    },
    Setting {
        key: "cache_max_object",
        heading: HEADING,
        placeholder: "SIZE",
        default: Fallback::Value("8MiB"),
        help: "Larger bodies pass through unstored",
        accepted: "a size such as 8MiB; a bare number is bytes",
        secret: false,
        set: |c, t| put(&mut c.cache_max_object, size(t, 1)),
        show: |c| Some(written_size(c.cache_max_object)),
    },
];
