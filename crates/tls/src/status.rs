use std::time::SystemTime;

use crate::KeyType;

/// The source of a certificate: ACME, PEM files or a local CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A certificate authority that issues certificates by ACME.
    Acme,
    /// PEM files with a certificate and its key.
    Files,
    /// A local CA for development.
    Local,
}

impl Source {
    /// Returns the name of the source for logs and metric labels: `acme`, `files` or `local`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Acme => "acme",
            Self::Files => "files",
            Self::Local => "local",
        }
    }
}

/// The state of a certificate, for metrics and readiness checks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateStatus {
    /// The names on the certificate, or the configured names while the certificate is not available yet.
    pub names: Vec<String>,
    /// The source of the certificate.
    pub source: Source,
    /// The type of the certificate's key, or `None` while the certificate is not available yet.
    pub key_type: Option<KeyType>,
    /// The expiry time of the certificate, or `None` while the certificate is not available yet.
    pub not_after: Option<SystemTime>,
    /// The error of the last order, renewal or reload of the certificate, or `None` if it succeeded.
    pub last_error: Option<String>,
}

impl CertificateStatus {
    /// Returns whether the certificate is available and has not expired at `now`.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.not_after.is_some_and(|not_after| now <= not_after)
    }
}
