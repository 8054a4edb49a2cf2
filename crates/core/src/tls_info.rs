//! The TLS session of a connection, as a request extension.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

/// Request extension: the TLS session of the connection. Absent without TLS.
///
/// `rproxy-server` inserts it. Another server can create one by `TlsInfo::default()`, and set the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The server name that the client sent (SNI, RFC 6066 §3), in lower case.
    pub server_name: Option<Arc<str>>,
    /// The parameters that the handshake negotiated.
    pub parameters: Option<TlsParameters>,
    /// The verified certificate of the client, if the server requests one.
    pub client_certificate: Option<ClientCertificate>,
}

/// The negotiated parameters of a TLS session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsParameters {
    /// The protocol version as OpenSSL and nginx write it, such as `TLSv1.3`.
    pub version: Option<&'static str>,
    /// The cipher suite, such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher_suite: Option<&'static str>,
    /// The group of the key exchange, such as `X25519MLKEM768`.
    ///
    /// It is `None` for a resumed TLS 1.2 session, which has no key exchange.
    pub key_exchange: Option<&'static str>,
}

/// A client's certificate chain, verified in the TLS handshake.
///
/// The values of header fields are created once, and shared by all requests of the connection.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    inner: Arc<Inner>,
}

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    chain: Box<[Box<[u8]>]>,
    leaf_field: HeaderValue,
    chain_field: Option<HeaderValue>,
    subject: Option<HeaderValue>,
    fingerprint: Option<HeaderValue>,
}

impl ClientCertificate {
    /// Creates a client certificate from a chain in DER that begins with the end-entity certificate.
    ///
    /// Returns `None` for an empty chain.
    #[must_use]
    pub fn new<C: AsRef<[u8]>>(chain: &[C]) -> Option<Self> {
        let (leaf, issuers) = chain.split_first()?;
        // RFC 9440 §2.1: a byte sequence (RFC 8941); §2.2: a list of byte sequences.
        let item = |certificate: &C| format!(":{}:", STANDARD.encode(certificate));
        let list = issuers.iter().map(item).collect::<Vec<_>>().join(", ");
        let inner = Inner {
            chain: chain.iter().map(|certificate| certificate.as_ref().into()).collect(),
            leaf_field: HeaderValue::try_from(item(leaf)).ok()?,
            chain_field: if issuers.is_empty() { None } else { HeaderValue::try_from(list).ok() },
            subject: None,
            fingerprint: None,
        };
        Some(Self { inner: Arc::new(inner) })
    }

    /// Sets the subject and the fingerprint, if they are valid header field values.
    ///
    /// The subject has the format of RFC 4514, and the fingerprint is SHA-256 in lower-case hexadecimal.
    #[must_use]
    pub fn with_identity(mut self, subject: &str, fingerprint: &str) -> Self {
        let inner = Arc::make_mut(&mut self.inner);
        inner.subject = HeaderValue::try_from(subject).ok();
        inner.fingerprint = HeaderValue::try_from(fingerprint).ok();
        self
    }

    /// Returns the certificates that the client sent in DER, beginning with the end-entity certificate.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.inner.chain.iter().map(|certificate| &**certificate)
    }

    /// Returns the value of `Client-Cert` (RFC 9440 §2.1).
    #[must_use]
    pub fn leaf_field(&self) -> &HeaderValue {
        &self.inner.leaf_field
    }

    /// Returns the value of `Client-Cert-Chain` (RFC 9440 §2.2), if the chain has additional certificates.
    #[must_use]
    pub fn chain_field(&self) -> Option<&HeaderValue> {
        self.inner.chain_field.as_ref()
    }

    /// Returns the subject in the format of RFC 4514, such as `CN=alice,OU=staff,O=Example`.
    ///
    /// It is `None` if the certificate cannot be parsed, which is unlikely after verification.
    #[must_use]
    pub fn subject(&self) -> Option<&HeaderValue> {
        self.inner.subject.as_ref()
    }

    /// Returns the SHA-256 digest of the client's end-entity certificate in lower-case hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&HeaderValue> {
        self.inner.fingerprint.as_ref()
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("certificates", &self.inner.chain.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_the_certificate_chain_for_header_fields() {
        assert_eq!(ClientCertificate::new::<&[u8]>(&[]), None);
        let alone = ClientCertificate::new(&[b"leaf"]).unwrap();
        assert_eq!((alone.leaf_field().to_str().unwrap(), alone.chain_field()), (":bGVhZg==:", None));
        let chain = ClientCertificate::new(&[&b"leaf"[..], b"a", b"b"]).unwrap();
        assert_eq!(chain.chain_field().unwrap(), ":YQ==:, :Yg==:");
        assert_eq!(chain.chain().collect::<Vec<_>>(), [&b"leaf"[..], b"a", b"b"]);
    }

    #[test]
    fn omits_a_certificate_subject_that_is_not_a_valid_field_value() {
        let certificate = ClientCertificate::new(&[b"leaf"]).unwrap();
        assert_eq!((certificate.subject(), certificate.fingerprint()), (None, None));
        let named = certificate.clone().with_identity("CN=alice", "00ff");
        assert_eq!(
            (named.subject().unwrap(), named.fingerprint().unwrap()),
            (&"CN=alice".parse().unwrap(), &"00ff".parse().unwrap())
        );
        assert_eq!(certificate.with_identity("CN=a\nb", "00ff").subject(), None);
    }
}
