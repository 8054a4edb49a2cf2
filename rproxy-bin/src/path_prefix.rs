//! Removes a prefix from the path of a request target.

use http::Uri;
use http::uri::PathAndQuery;

/// Returns `uri` without `prefix`, or `None` if the path does not start with it; `prefix` must not end with a slash.
///
/// As for routes, the prefix may be percent-encoded in the path and in any case. The rest of the path is unchanged.
pub(crate) fn without_prefix(uri: &Uri, prefix: &str) -> Option<Uri> {
    let target = uri.path_and_query()?.as_str();
    let rest = &target[prefix_length(uri.path().as_bytes(), prefix.as_bytes())?..];
    // Some servers treat a target that starts with two slashes as an authority.
    let rest = format!("/{}", rest.trim_start_matches('/'));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(rest).ok()?);
    Uri::from_parts(parts).ok()
}

/// Returns the length that `prefix` has in the spelling of `path`, if the prefix ends at a segment boundary.
fn prefix_length(path: &[u8], prefix: &[u8]) -> Option<usize> {
    let mut at = 0;
    for &wanted in prefix {
        let (byte, length) = match path.get(at)? {
            b'%' => {
                let digit = |index: usize| char::from(*path.get(index)?).to_digit(16);
                (u8::try_from(digit(at + 1)? << 4 | digit(at + 2)?).ok()?, 3)
            }
            byte => (*byte, 1),
        };
        // An encoded slash is not the same as a slash (RFC 3986 §2.2).
        if !byte.eq_ignore_ascii_case(&wanted) || (byte == b'/' && length == 3) {
            return None;
        }
        at += length;
    }
    matches!(path.get(at), None | Some(b'/')).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_path_prefix_in_any_spelling() {
        for (uri, expected) in [
            ("/api", Some("/")),
            ("/api/", Some("/")),
            ("/api?x=1", Some("/?x=1")),
            ("/api/users/a%2Fb?x=/api", Some("/users/a%2Fb?x=/api")),
            ("/API/users", Some("/users")),
            ("/%61p%69/users", Some("/users")),
            ("/api//evil.example", Some("/evil.example")),
            ("http://a.example/api/x", Some("http://a.example/x")),
            ("/apis", None),
            ("/v1/api", None),
            ("/api%2fusers", None),
            ("%2fapi", None),
            ("/ap", None),
            ("/", None),
        ] {
            let Ok(uri) = uri.parse::<Uri>() else { continue };
            let found = without_prefix(&uri, "/api").map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{uri}");
        }
    }
}
