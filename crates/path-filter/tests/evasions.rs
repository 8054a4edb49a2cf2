//! Spellings that once got around a rule, or that a server is known to read its own way.
#![allow(clippy::unwrap_used)]

use rproxy_path_filter::PathRules;

#[test]
fn a_name_is_found_in_whatever_a_server_drops_cuts_or_decodes() {
    let rules = PathRules::sensitive();
    for path in [
        // More levels of encoding than anyone needs.
        "/%2525252eenv",
        "/%25252525252eenv",
        // A fullwidth percent sign: decoded, folded, decoded again.
        "/%ef%bc%852eenv",
        "/\u{ff05}2eenv",
        // Overlong in five and six bytes, and with continuation bytes that nobody checks.
        "/%f8%80%80%80%aeenv",
        "/%fc%80%80%80%80%aeenv",
        "/%c0%2eenv",
        // A decoded query or fragment, for who parses the path once more.
        "/backup.sql%3fx.css",
        "/backup.sql%253fx.css",
        "/backup.sql%23.css",
        // Control characters, bytes that are not UTF-8, characters without width.
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
        assert!(rules.blocks(path).is_some(), "{}", rules.explain(path));
    }
}

/// `{up}` stands where one folder is left; each spelling of it must be seen through.
#[test]
fn an_exempt_folder_can_be_left_by_no_spelling() {
    let rules = PathRules::builder().block("/private/**").unwrap().allow("/private/ok/**").unwrap().build().unwrap();
    for up in [
        "..",
        "%2e%2e",
        "%2e.",
        "%252e%252e",
        "%25252e%2e",
        "%2525252e%2525252e",
        "%u002e%u002e",
        "..;",
        "..;a=b",
        "..;a%2fb",
        "%2e%2e%3b",
        "..%20",
        "%20..",
        "..%09",
        ".%0a.",
        "..%00",
        ".%00.",
        "..%3fa",
        "..%23",
        "..%ff",
        ".%80.",
        "%c0%ae%c0%ae",
        "%c0%2e.",
        "%e0%80%ae.",
        "%ef%bc%8e%ef%bc%8e",
        "\u{ff0e}\u{ff0e}",
        "%ef%bc%852e.",
        "\u{2025}",
        ".\u{200b}.",
        "..::$INDEX_ALLOCATION",
        "x/../..",
        "x%2f../%2e%2e/%2e%2e",
        "x%5c../%2e%2e/%2e%2e",
        "x%252f../%252e%252e/%252e%252e",
    ] {
        for slash in ["/", "%2f", "%252f", "\\", "%5c", "%c0%af", "%c1%9c", "\u{ff0f}", "\u{2215}", "//", "/./"] {
            let path = format!("/private/ok/{up}{slash}secret");
            assert!(rules.blocks(&path).is_some(), "{}", rules.explain(&path));
        }
    }
}

/// To a server that keeps `%2F` in a segment, `%2e%2e` removes more than to one that decodes it.
#[test]
fn a_rule_on_one_file_is_not_lost_in_a_kept_slash() {
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
        assert!(rules.blocks(path).is_some(), "{}", rules.explain(path));
    }
}

#[test]
fn letters_are_compared_without_case_in_every_script() {
    let rules = PathRules::builder().block("/Приват/**").unwrap().build().unwrap();
    for path in ["/приват/x", "/ПРИВАТ/x", "/%D0%9F%D0%A0%D0%98%D0%92%D0%90%D0%A2"] {
        assert!(rules.blocks(path).is_some(), "{}", rules.explain(path));
    }
}

#[test]
fn an_exemption_covers_the_encoding_that_its_name_needs() {
    let rules = PathRules::builder().block("/private/**").unwrap();
    let rules = rules.allow("/private/my file").unwrap().allow("/private/café").unwrap().build().unwrap();
    for path in ["/private/my%20file", "/private/caf%C3%A9"] {
        assert!(rules.blocks(path).is_none(), "{}", rules.explain(path));
    }
    assert!(rules.blocks("/private/my%20file%2f..%2fa").is_some());
}
