//! Names that an application can't tell from each other: CGI, WSGI and many more turn `-` and `_` into the same variable.

/// Whether `name` is `claim`, also where something else stands for a hyphen. Both are in lower case.
pub(crate) fn is(name: &str, claim: &str) -> bool {
    name.len() == claim.len() && begins(name, claim)
}

/// Whether `name` begins as `claim` does, also where something else stands for a hyphen.
pub(crate) fn begins(name: &str, claim: &str) -> bool {
    let same = |(byte, other): (u8, u8)| byte == other || other == b'-' && !byte.is_ascii_alphanumeric();
    name.len() >= claim.len() && name.bytes().zip(claim.bytes()).all(same)
}

/// Whether nothing but a hyphen stands for a hyphen.
pub(crate) fn is_spelled_well(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_may_stand_for_a_hyphen() {
        for name in ["x-real-ip", "x_real_ip", "x.real-ip", "x~real!ip"] {
            assert!(is(name, "x-real-ip") && begins(name, "x-real-"), "{name}");
            assert_eq!(is_spelled_well(name), name == "x-real-ip", "{name}");
        }
        for name in ["x-real-ips", "xrealip", "x0real0ip", "x-real"] {
            assert!(!is(name, "x-real-ip"), "{name}");
        }
    }
}
