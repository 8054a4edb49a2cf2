//! The curated list, tested with paths of real applications and with combinations of known evasions.
#![allow(clippy::unwrap_used)]

use rproxy_path_filter::PathRules;

fn paths(corpus: &str) -> impl Iterator<Item = &str> {
    corpus.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn allows_all_paths_of_real_applications() {
    let rules = PathRules::sensitive();
    let blocked: Vec<_> =
        paths(include_str!("corpus/allowed.txt")).filter(|path| rules.blocking_rule(path).is_some()).collect();
    assert!(blocked.is_empty(), "{blocked:#?}");
}

#[test]
fn blocks_all_known_sensitive_paths_and_evasions() {
    let rules = PathRules::sensitive();
    let allowed: Vec<_> =
        paths(include_str!("corpus/blocked.txt")).filter(|path| rules.blocking_rule(path).is_none()).collect();
    assert!(allowed.is_empty(), "{allowed:#?}");
}

const SENSITIVE_NAMES: &[&str] = &[
    ".env",
    ".git/config",
    ".htpasswd",
    ".svn/entries",
    ".aws/credentials",
    "wp-config.php",
    "web.config",
    "application.yml",
    "docker-compose.yml",
    "id_rsa",
    "backup.sql",
    "server.key",
    "index.php.bak",
    "actuator/heapdump",
    "WEB-INF/web.xml",
];

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
    let rules = PathRules::sensitive();
    for name in SENSITIVE_NAMES {
        for prefix in PREFIXES {
            for suffix in SUFFIXES {
                let path = format!("{prefix}{name}{suffix}");
                assert!(rules.blocking_rule(&path).is_some(), "{}", rules.explain(&path));
            }
        }
    }
}

#[test]
fn blocks_sensitive_names_with_any_encoding_of_a_character() {
    let rules = PathRules::sensitive();
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
    for name in SENSITIVE_NAMES {
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
