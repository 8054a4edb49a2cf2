//! The paths that all clients and servers resolve alike.

use rproxy_core::path::is_ambiguous;

/// Returns whether rules apply to the path: no client or server resolves it to another path or to another host.
///
/// A path with `//`, a backslash, dot segments, a control character or an encoded form of them is therefore never part of a
/// redirect or a rewrite.
pub(crate) fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    // A trailing `//` alone does not make a path ambiguous, but `//` at its start is the start of a host.
    bytes.first() == Some(&b'/') && !path.contains("//") && !is_ambiguous(bytes)
}

/// Returns whether the generated path is [plain](is_plain), and consists of characters of a path (RFC 3986 §3.3) only.
pub(crate) fn is_valid_target(path: &str) -> bool {
    let is_path_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte);
    path.bytes().all(is_path_byte) && is_plain(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_can_lead_to_another_host_are_not_plain() {
        for path in [
            "",
            "*",
            "a",
            "//",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/%2fevil.example",
            "/%2Fevil.example",
            "/%5cevil.example",
            "/%5C%5Cevil.example",
            "/%252fevil.example",
            "/a//b",
            "/a//",
            "/./a",
            "/../a",
            "/%2e%2e/a",
            "/.//evil.example",
            "/a/..//evil.example",
            "/%09/evil.example",
            "/\t/evil.example",
            "/%0d%0aset-cookie:a=b",
            "/%00",
            "/a;/../b",
            "/%c0%af/evil.example",
            "/%u002f/evil.example",
        ] {
            assert!(!is_plain(path), "{path}");
            assert!(!is_valid_target(path), "{path}");
        }
        for path in
            ["/", "/a", "/a/", "/a/b.html", "/caf%C3%A9", "/a-b_c~d", "/@user", "/a+b", "/A/B", "/.well-known/x"]
        {
            assert!(is_plain(path) && is_valid_target(path), "{path}");
        }
    }
}
