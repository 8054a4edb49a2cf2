//! Spellings of a field name that backends treat as the same field, such as `X_Real_IP` for `X-Real-IP`. CGI, WSGI and
//! others map `-` and `_` to the same variable.

/// Returns whether `name` equals `canonical`, except that any symbol may replace a hyphen. Both are in lower case.
///
/// # Examples
///
/// ```
/// use rproxy_core::spelling::is_spelling_of;
///
/// assert!(is_spelling_of("remote_user", "remote-user"));
/// assert!(!is_spelling_of("remoteuser", "remote-user"));
/// ```
#[must_use]
pub fn is_spelling_of(name: &str, canonical: &str) -> bool {
    name.len() == canonical.len() && has_prefix(name, canonical)
}

/// Returns whether `name` begins with `prefix`, except that any symbol may replace a hyphen.
#[must_use]
pub fn has_prefix(name: &str, prefix: &str) -> bool {
    let same = |(byte, other): (u8, u8)| byte == other || other == b'-' && !byte.is_ascii_alphanumeric();
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(same)
}

/// Returns whether `name` consists only of letters, digits and hyphens.
#[must_use]
pub fn is_canonical(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_with_any_symbol_in_place_of_a_hyphen_are_spellings_of_each_other() {
        for name in ["x-real-ip", "x_real_ip", "x.real-ip", "x~real!ip"] {
            assert!(is_spelling_of(name, "x-real-ip") && has_prefix(name, "x-real-"), "{name}");
            assert_eq!(is_canonical(name), name == "x-real-ip", "{name}");
        }
        for name in ["x-real-ips", "xrealip", "x0real0ip", "x-real"] {
            assert!(!is_spelling_of(name, "x-real-ip"), "{name}");
        }
    }
}
