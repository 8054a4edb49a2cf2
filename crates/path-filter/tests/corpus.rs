//! Tests of the curated lists with paths of real applications and with combinations of known evasions.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use rproxy_path_filter::PathRules;

const ALLOWED: &str = include_str!("corpus/allowed.txt");
const APPLICATIONS: &str = include_str!("corpus/applications.txt");
const BLOCKED: &str = include_str!("corpus/blocked.txt");
const BLOCKED_STRICT: &str = include_str!("corpus/blocked_strict.txt");

fn paths(corpus: &str) -> impl Iterator<Item = &str> {
    corpus.lines().filter(|line| line.starts_with('/'))
}

/// Returns the paths in `corpus` for which the decision of the rules differs from `is_blocked`.
fn mistakes<'a>(rules: &PathRules, corpus: &'a str, is_blocked: bool) -> Vec<&'a str> {
    paths(corpus).filter(|path| rules.blocking_rule(path).is_some() != is_blocked).collect()
}

#[test]
fn default_list_allows_all_application_paths() {
    for corpus in [APPLICATIONS, ALLOWED] {
        assert_eq!(mistakes(&PathRules::sensitive(), corpus, false), [""; 0]);
    }
}

#[test]
fn strict_list_allows_application_paths_without_sensitive_names() {
    assert_eq!(mistakes(&PathRules::strict(), ALLOWED, false), [""; 0]);
}

#[test]
fn default_list_blocks_known_secrets_and_evasions() {
    assert_eq!(mistakes(&PathRules::sensitive(), BLOCKED, true), [""; 0]);
}

#[test]
fn strict_list_blocks_all_sensitive_paths_and_evasions() {
    for corpus in [BLOCKED, BLOCKED_STRICT] {
        assert_eq!(mistakes(&PathRules::strict(), corpus, true), [""; 0]);
    }
}

#[test]
fn default_list_allows_paths_that_are_only_in_the_strict_list() {
    assert_eq!(mistakes(&PathRules::sensitive(), BLOCKED_STRICT, false), [""; 0]);
}

/// The corpus lists each application under a heading `## name <source>`.
#[test]
fn corpus_contains_at_least_60_applications_with_sources() {
    let applications: Vec<_> = APPLICATIONS.split("\n## ").skip(1).collect();
    for application in &applications {
        let (heading, paths_of) = application.split_once('\n').unwrap();
        let source = heading.split_once(" <https://").and_then(|(_, source)| source.strip_suffix('>'));
        assert!(source.is_some_and(|source| source.contains('/')), "{heading}");
        assert!(paths(paths_of).count() >= 3, "{heading}");
    }
    let names: HashSet<_> = applications.iter().map(|application| application.split(" <").next()).collect();
    assert!(names.len() == applications.len() && names.len() >= 60, "{}", names.len());
}

/// File names that both curated lists block.
const SECRETS: &[&str] = &[
    ".env",
    ".env.production",
    ".git/config",
    ".htpasswd",
    ".svn/entries",
    ".aws/credentials",
    ".ssh/id_ed25519",
    "wp-config.php",
    "web.config",
    "config/database.yml",
    "id_rsa",
    "backup.sql",
    "backups/dump.sql.gz",
    "server.key",
    "index.php.bak",
    "actuator/heapdump",
    "WEB-INF/web.xml",
];

/// File names that only the strict list blocks.
const STRICT_NAMES: &[&str] = &["application.yml", "docker-compose.yml", ".DS_Store", "hls/stream.key"];

fn lists() -> [(PathRules, &'static [&'static str]); 3] {
    [(PathRules::sensitive(), SECRETS), (PathRules::strict(), SECRETS), (PathRules::strict(), STRICT_NAMES)]
}

const PREFIXES: &[&str] = &[
    "/",
    "//",
    "/./",
    "/.//",
    "/%2e/",
    "/;/",
    "/;a=b/",
    "/.;/",
    "/%2f",
    "/%252f",
    "/%5c",
    "/\\",
    "/%00/",
    "/x/../",
    "/x/%2e%2e/",
    "/x/.%2e/",
    "/x/%252e%252e/",
    "/x/..;/",
    "/x/..%2f",
    "/x%2f..%2f",
    "/x/..%5c",
    "/x/..%c0%af",
    "/x/..%ef%bc%8f",
    "/x/%c0%ae%c0%ae/",
    "/x/y/../../",
    "/.well-known/../",
    "/_matrix/..%2f",
    "/remote.php/dav/../../",
    "/node_modules/.vite/../../",
    "/group/project/-/raw/../../../../",
];

const SUFFIXES: &[&str] = &[
    "",
    "/",
    "//",
    "/.",
    "%2f",
    ".",
    "...",
    "%2e",
    "%20",
    "%20.",
    "%2520",
    "%09",
    "%0a",
    "%0d%0a",
    "%00",
    "%00.png",
    "%2500.png",
    ";",
    ";x=y",
    ";.css",
    "%3b.css",
    "%3fx",
    "%253fx",
    "%23x",
    "::$DATA",
    ":$data",
    "%3a%3a%24DATA",
    "%ff",
    "%c0%80",
    "%c2%a0",
    "%e2%80%8b",
    "\\",
    "%5c",
];

#[test]
fn blocks_sensitive_names_with_any_prefix_and_suffix() {
    for (rules, names) in lists() {
        for name in names {
            for prefix in PREFIXES {
                for suffix in SUFFIXES {
                    let path = format!("{prefix}{name}{suffix}");
                    assert!(rules.blocking_rule(&path).is_some(), "{}", rules.explain(&path));
                }
            }
        }
    }
}

#[test]
fn blocks_sensitive_names_if_any_character_is_encoded() {
    let encodings: [fn(char) -> String; 9] = [
        |c| format!("%{:02x}", c as u32),
        |c| format!("%{:02X}", c as u32),
        |c| format!("%25{:02x}", c as u32),
        |c| format!("%2525{:02x}", c as u32),
        |c| format!("%u00{:02x}", c as u32),
        |c| format!("%{:02x}%{:02x}", 0xc0 | (c as u32 >> 6), 0x80 | (c as u32 & 0x3f)),
        |c| format!("%e0%{:02x}%{:02x}", 0x80 | (c as u32 >> 6), 0x80 | (c as u32 & 0x3f)),
        |c| char::from_u32(c as u32 - 0x21 + 0xff01).unwrap().to_string(),
        |c| c.to_ascii_uppercase().to_string(),
    ];
    for (rules, names) in lists() {
        for name in names {
            for encode in encodings {
                for (at, c) in name.char_indices() {
                    let path = format!("/{}{}{}", &name[..at], encode(c), &name[at + 1..]);
                    assert!(rules.blocking_rule(&path).is_some(), "{}", rules.explain(&path));
                }
                let path = format!("/{}", name.chars().map(encode).collect::<String>());
                assert!(rules.blocking_rule(&path).is_some(), "{}", rules.explain(&path));
            }
        }
    }
}
