use std::time::SystemTime;

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// Ordered from a certificate authority by ACME.
    Acme,
    /// Read from PEM files.
    Files,
    /// Made by the local development authority.
    Local,
}

impl Source {
    /// The word for logs and metric labels: `acme`, `files` or `local`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Acme => "acme",
            Self::Files => "files",
            Self::Local => "local",
        }
    }
}

/// How one certificate is doing, for metrics and readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateStatus {
    /// The names on the certificate, or, while there is none, the names that it is wanted for.
    pub names: Vec<String>,
    /// Where it comes from.
    pub source: Source,
    /// When it expires; `None` while there is none to serve.
    pub not_after: Option<SystemTime>,
    /// Why the last attempt to get, renew or reload it failed; `None` after one that succeeded.
    pub last_error: Option<String>,
}

impl CertificateStatus {
    /// Whether there is a certificate to serve and it has not expired.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.not_after.is_some_and(|not_after| now <= not_after)
    }
}
