//! The configuration of forward auth.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::uri::Scheme;
use http::{Uri, uri};

use crate::identity_fields::{IdentityFields, is_connection_or_content_field};

/// The configuration of a [`ForwardAuthLayer`](crate::ForwardAuthLayer).
///
/// Clones share memory.
#[derive(Clone, Debug)]
#[must_use]
pub struct ForwardAuthConfig {
    pub(crate) shared: Arc<Config>,
}

/// The configuration that a layer shares with its services.
#[derive(Debug)]
pub(crate) struct Config {
    /// The URL of the authentication service.
    pub(crate) uri: Uri,
    /// The value of `Host` for the authentication service.
    pub(crate) host: HeaderValue,
    pub(crate) copied_fields: IdentityFields,
    pub(crate) timeout: Duration,
    pub(crate) trusts_forwarding_fields: bool,
}

impl ForwardAuthConfig {
    /// Returns a builder for the authentication service with this URL, such as `http://127.0.0.1:9091/api/authz/forward-auth`.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::HeaderName;
    /// use rproxy_access::ForwardAuthConfig;
    ///
    /// let config = ForwardAuthConfig::builder("http://127.0.0.1:9091/api/authz/forward-auth".parse()?)
    ///     .copy_field(HeaderName::from_static("remote-user"))
    ///     .copy_field(HeaderName::from_static("remote-groups"))
    ///     .build()?;
    /// # let _ = config;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(uri: Uri) -> ForwardAuthConfigBuilder {
        ForwardAuthConfigBuilder {
            uri,
            copied_fields: Vec::new(),
            timeout: Duration::from_secs(5),
            trusts_forwarding_fields: false,
        }
    }

    /// Returns the URL of the authentication service.
    pub fn uri(&self) -> &Uri {
        &self.shared.uri
    }
}

/// A builder for a [`ForwardAuthConfig`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ForwardAuthConfigBuilder {
    uri: Uri,
    copied_fields: Vec<HeaderName>,
    timeout: Duration,
    trusts_forwarding_fields: bool,
}

impl ForwardAuthConfigBuilder {
    /// Copies this field from a 2xx response of the authentication service to the request.
    ///
    /// Values that the client sent are removed in every spelling, even if the response has no such field.
    pub fn copy_field(mut self, name: HeaderName) -> Self {
        self.copied_fields.push(name);
        self
    }

    /// Sets the maximum time until the response of the authentication service; default 5 s. Then the client gets 503.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets whether `X-Forwarded-For`, `-Proto`, `-Host`, `-Port`, `X-Real-IP` and `Forwarded` of the request are forwarded to
    /// the authentication service; default `false`.
    ///
    /// Set it only inside a layer that overwrites these fields in every request, such as `ForwardHeadersLayer` of
    /// `rproxy-forward-headers`. Otherwise, the layer sets them from the extensions
    /// [`ClientIp`](rproxy_client_ip::ClientIp) and `http::uri::Scheme`, and from `Host`.
    pub fn trust_forwarding_fields(mut self, trust: bool) -> Self {
        self.trusts_forwarding_fields = trust;
        self
    }

    /// Builds the configuration.
    ///
    /// # Errors
    ///
    /// If the URL is not absolute, or a field cannot be copied.
    pub fn build(self) -> Result<ForwardAuthConfig, ForwardAuthConfigError> {
        let (scheme, authority) = (self.uri.scheme(), self.uri.authority());
        let (Some(scheme), Some(authority)) = (scheme, authority) else {
            return Err(ForwardAuthConfigError::Url(self.uri, "it has no scheme and no host"));
        };
        if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
            return Err(ForwardAuthConfigError::Url(self.uri, "its scheme is neither http nor https"));
        }
        if authority.as_str().contains('@') {
            return Err(ForwardAuthConfigError::Url(self.uri, "it contains a user name"));
        }
        if let Some(name) = self.copied_fields.iter().find(|name| is_connection_or_content_field(name)) {
            return Err(ForwardAuthConfigError::Field(name.clone()));
        }
        let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        let host = match authority.port_u16() {
            Some(port) if port != default_port => authority.as_str(),
            _ => authority.host(),
        };
        let host =
            HeaderValue::from_str(host).map_err(|_| ForwardAuthConfigError::Url(self.uri.clone(), "bad host"))?;
        let mut parts = uri::Parts::default();
        (parts.scheme, parts.authority) = (Some(scheme.clone()), Some(authority.clone()));
        parts.path_and_query = self.uri.path_and_query().cloned().or(Some(uri::PathAndQuery::from_static("/")));
        let uri = Uri::from_parts(parts).map_err(|_| ForwardAuthConfigError::Url(self.uri.clone(), "bad path"))?;
        let shared = Config {
            uri,
            host,
            copied_fields: self.copied_fields.into_iter().collect(),
            timeout: self.timeout,
            trusts_forwarding_fields: self.trusts_forwarding_fields,
        };
        Ok(ForwardAuthConfig { shared: Arc::new(shared) })
    }
}

/// The error for a configuration that forward auth cannot use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardAuthConfigError {
    /// The URL of the authentication service cannot be used.
    #[error("bad URL {0} of the authentication service: {1}")]
    Url(Uri, &'static str),
    /// The field belongs to the connection or to the content of a message.
    #[error("the field {0} cannot be copied: it belongs to the connection or the content of a message")]
    Field(HeaderName),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_has_no_default_port_and_the_path_is_not_empty() {
        for (url, host, path) in [
            ("http://auth.example/", "auth.example", "/"),
            ("http://auth.example:80/a?b", "auth.example", "/a?b"),
            ("https://auth.example:443", "auth.example", "/"),
            ("https://auth.example:80/", "auth.example:80", "/"),
            ("http://[::1]:9091/x", "[::1]:9091", "/x"),
        ] {
            let config = ForwardAuthConfig::builder(url.parse().unwrap()).build().unwrap();
            assert_eq!(config.shared.host, host, "{url}");
            assert_eq!(config.uri().path_and_query().unwrap(), path, "{url}");
        }
    }

    #[test]
    fn rejects_relative_urls_and_fields_of_the_connection() {
        for url in ["/verify", "auth.example:80", "ftp://auth.example/", "http://a@auth.example/"] {
            assert!(ForwardAuthConfig::builder(url.parse().unwrap()).build().is_err(), "{url}");
        }
        for name in ["connection", "host", "content-length", "set-cookie", "keep-alive", "remote-user"] {
            let builder = ForwardAuthConfig::builder("http://auth.example/".parse().unwrap());
            let built = builder.copy_field(HeaderName::from_static(name)).build();
            assert_eq!(built.is_ok(), name == "remote-user", "{name}");
        }
    }
}
