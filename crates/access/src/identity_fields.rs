//! Request header fields that identify the user to the backend.

use http::{HeaderMap, HeaderName, header};
use rproxy_core::spelling::is_spelling_of;

/// The names of fields that only a layer may set.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdentityFields {
    /// The name of each field, and the name with hyphens in place of other symbols.
    names: Box<[(HeaderName, Box<str>)]>,
}

impl IdentityFields {
    pub(crate) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.names.iter().map(|(name, _)| name)
    }

    /// Removes the fields in every spelling, such as `remote_user` for `Remote-User`. CGI, WSGI, PHP and others map these to
    /// the same variable.
    pub(crate) fn remove(&self, headers: &mut HeaderMap) {
        let is_identity = |name: &str| self.names.iter().any(|(_, canonical)| is_spelling_of(name, canonical));
        if !headers.keys().any(|name| is_identity(name.as_str())) {
            return;
        }
        let spoofed: Vec<HeaderName> = headers.keys().filter(|name| is_identity(name.as_str())).cloned().collect();
        for name in spoofed {
            headers.remove(name);
        }
    }
}

impl FromIterator<HeaderName> for IdentityFields {
    fn from_iter<I: IntoIterator<Item = HeaderName>>(names: I) -> Self {
        let hyphenated = |symbol: char| if symbol.is_ascii_alphanumeric() { symbol } else { '-' };
        let names = names.into_iter().map(|name| {
            let canonical: String = name.as_str().chars().map(hyphenated).collect();
            (name, canonical.into())
        });
        Self { names: names.collect() }
    }
}

/// Returns whether a field belongs to one connection or describes the content, so that it can be copied to no other message.
pub(crate) fn is_connection_or_content_field(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::CONTENT_DISPOSITION
            | header::CONTENT_ENCODING
            | header::CONTENT_LANGUAGE
            | header::CONTENT_LENGTH
            | header::CONTENT_LOCATION
            | header::CONTENT_RANGE
            | header::CONTENT_TYPE
            | header::EXPECT
            | header::HOST
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION
            | header::SET_COOKIE
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn removes_every_spelling_of_the_fields_and_no_others() {
        let fields: IdentityFields = ["remote-user", "x_auth_id"].map(HeaderName::from_static).into_iter().collect();
        let kept = ["remote-users", "remoteuser", "x-auth", "cookie"];
        let removed =
            ["remote-user", "remote_user", "remote.user", "remote~user", "x-auth-id", "x_auth-id", "x_auth_id"];
        let names = kept.iter().chain(&removed);
        let mut headers: HeaderMap =
            names.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("admin"))).collect();
        headers.append("remote-user", HeaderValue::from_static("root"));
        fields.remove(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<std::collections::BTreeSet<_>>(), kept.into());
    }
}
