//! Tests of known evasions, and of path forms that some servers decode differently.
#![allow(clippy::unwrap_used)]

use rproxy_path_filter::PathRules;

#[test]
fn blocks_paths_that_a_server_decodes_or_truncates_to_a_blocked_name() {
    let rules = PathRules::sensitive();
    for path in [
        // Several levels of encoding.
        "/%2525252eenv",
        "/%25252525252eenv",
        // A fullwidth percent sign, which is decoded, normalised and decoded again.
        "/%ef%bc%852eenv",
        "/\u{ff05}2eenv",
        // Overlong UTF-8 of five and six bytes, and with invalid continuation bytes.
        "/%f8%80%80%80%aeenv",
        "/%fc%80%80%80%80%aeenv",
        "/%c0%2eenv",
        // An encoded query or fragment, for servers that parse the path twice.
        "/backup.sql%3fx.css",
        "/backup.sql%253fx.css",
        "/backup.sql%23.css",
        // Control characters, invalid UTF-8, and characters without width.
        "/backup.s%09ql",
        "/backup.sql%0a",
        "/backup.s%80ql",
        "/backup.sql%ff",
        "/backup.sql%85",
        "/backup.sql%a0",
        "/backup.sql%c2%a0",
        "/backup.s%e2%80%8cql",
        "/backup.\u{17f}ql",
        // NTFS streams.
        "/backup.sql::$DATA",
        "/backup.sql:$DATA",
        "/.git:$i30:$INDEX_ALLOCATION/config",
        "/backup.sql;/x",
    ] {
        assert!(rules.blocking_rule(path).is_some(), "{}", rules.explain(path));
    }
}

/// Path traversal is blocked for every form of `..` and `/` in `corpus/parents.txt` and `corpus/slashes.txt`.
#[test]
fn blocks_traversal_out_of_an_allowed_directory_in_any_encoding() {
    let rules = PathRules::builder().block("/private/**").unwrap().allow("/private/ok/**").unwrap().build().unwrap();
    for parent in include_str!("corpus/parents.txt").lines() {
        for slash in include_str!("corpus/slashes.txt").lines() {
            let path = format!("/private/ok/{parent}{slash}secret");
            assert!(rules.blocking_rule(&path).is_some(), "{}", rules.explain(&path));
        }
    }
}

/// Servers resolve `%2e%2e` after `%2F` to different directories, depending on whether they decode `%2F`.
#[test]
fn blocks_a_file_if_the_path_contains_encoded_slashes_and_dot_segments() {
    let rules = PathRules::builder().block("/pub/secret.txt").unwrap().build().unwrap();
    for path in [
        "/pub/x%2f../%2e%2e/secret.txt",
        "/pub/x%5c../%2e%2e/secret.txt",
        "/pub/x%252f../%2e%2e/secret.txt",
        "/pub/x%2f..%3b/../secret.txt",
        "/pub/secret.txt%3fa",
        "/pub/secret.txt;a/b",
        "/pub/secret%2etxt",
        "/pub/secret.txt/",
    ] {
        assert!(rules.blocking_rule(path).is_some(), "{}", rules.explain(path));
    }
}

#[test]
fn matches_non_ascii_paths_case_insensitively() {
    let rules = PathRules::builder().block("/Приват/**").unwrap().build().unwrap();
    for path in ["/приват/x", "/ПРИВАТ/x", "/%D0%9F%D0%A0%D0%98%D0%92%D0%90%D0%A2"] {
        assert!(rules.blocking_rule(path).is_some(), "{}", rules.explain(path));
    }
}

#[test]
fn blocks_decomposed_and_latin1_forms_of_a_name() {
    for rule in ["/caf\u{e9}/**", "/CAFE\u{301}/**"] {
        let rules = PathRules::builder().block(rule).unwrap().build().unwrap();
        for path in ["/caf\u{e9}/x", "/cafe\u{301}/x", "/cafe%CC%81/x", "/CAF%C3%89/x", "/caf%E9/x", "/CAF%25C9/x"] {
            assert!(rules.blocking_rule(path).is_some(), "{}", rules.explain(path));
        }
    }
}

#[test]
fn allows_the_percent_encoded_form_of_an_allowed_name() {
    let rules = PathRules::builder().block("/private/**").unwrap();
    let rules = rules.allow("/private/my file").unwrap().allow("/private/café").unwrap().build().unwrap();
    for path in ["/private/my%20file", "/private/caf%C3%A9"] {
        assert!(rules.blocking_rule(path).is_none(), "{}", rules.explain(path));
    }
    assert!(rules.blocking_rule("/private/my%20file%2f..%2fa").is_some());
}
