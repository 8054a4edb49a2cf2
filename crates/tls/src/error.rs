use std::{io, path::PathBuf};

use crate::{KeyType, Source, TlsVersion};

/// The error of [`CertificatesBuilder::build`](crate::CertificatesBuilder::build).
///
/// Invalid settings and unusable files are reported before the first connection is accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The builder has no ACME names, no files and no local CA.
    #[error("no certificate configured: set ACME domains, PEM files or a local CA")]
    NoCertificates,
    /// Names were changed for a source that the builder did not get.
    #[error("no certificates of the source {} are configured", kind.as_str())]
    NotConfigured {
        /// The source.
        kind: Source,
    },
    /// A name can't be put on a certificate from this source.
    #[error("bad certificate name {name:?}: {reason}")]
    InvalidName {
        /// The name from the settings.
        name: String,
        /// The reason.
        reason: &'static str,
    },
    /// A name is on two ACME certificates.
    #[error("certificate name {name:?} is listed twice")]
    DuplicateName {
        /// The name, normalised.
        name: String,
    },
    /// A pair of PEM files can't be served.
    #[error("certificate {} with key {} can't be served", certificate.display(), key.display())]
    Files {
        /// The file with the certificate chain.
        certificate: PathBuf,
        /// The file with the private key.
        key: PathBuf,
        /// The reason.
        source: PemError,
    },
    /// A pair of PEM files would never be served, because earlier ones have its names and its key type.
    #[error(
        "certificate {} would never be served: {} has the same key type ({key_type}) for {}; remove one of them",
        certificate.display(),
        earlier.display(),
        names.join(", ")
    )]
    DuplicateFiles {
        /// The file with the certificate chain.
        certificate: PathBuf,
        /// The file with the chain that is served instead.
        earlier: PathBuf,
        /// The key type of both.
        key_type: KeyType,
        /// The names of the certificate.
        names: Vec<String>,
    },
    /// The PEM file with the CAs for the connection to the ACME directory can't be used.
    #[error("bad ACME CA file {}: {reason}", path.display())]
    DirectoryCa {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The ACME directory is not an `https://` URL.
    #[error("bad ACME directory {url:?}: {reason}")]
    InvalidDirectory {
        /// The URL from the settings.
        url: String,
        /// The reason.
        reason: &'static str,
    },
    /// The ACME contact is not an email address.
    #[error("bad ACME contact {contact:?}: not an email address")]
    InvalidContact {
        /// The contact from the settings.
        contact: String,
    },
    /// The external account key is not base64url. The message does not contain the key, which is secret.
    #[error("bad ACME external account key for {kid:?}: {reason}")]
    InvalidExternalAccountKey {
        /// The identifier of the key.
        kid: String,
        /// The reason.
        reason: &'static str,
    },
    /// The Redis URL is invalid. The message does not contain the URL, which may include a password.
    #[cfg(feature = "redis")]
    #[error("bad Redis URL: {reason}")]
    InvalidRedisUrl {
        /// The reason.
        reason: String,
    },
    /// A folder or file for accounts, keys and certificates can't be read or written.
    #[error("can't use certificate folder {}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The local CA can't be created, or its files can't be read.
    #[error("local certificate authority in {}: {reason}", path.display())]
    LocalCa {
        /// The folder of the CA.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The self-signed fallback certificate can't be created.
    #[error("self-signed certificate: {reason}")]
    SelfSigned {
        /// The reason.
        reason: String,
    },
    /// The text is not a supported TLS version.
    #[error("bad TLS version {version:?}: expected 1.2 or 1.3")]
    UnknownTlsVersion {
        /// The unknown version.
        version: String,
    },
    /// The cipher suite does not exist, or is not supported because it is weak.
    #[error("bad cipher suite {name:?}: expected one of {}", crate::CipherSuites::supported_names())]
    UnknownCipherSuite {
        /// The name from the settings.
        name: String,
    },
    /// None of the cipher suites works with an accepted TLS version.
    #[error("none of the cipher suites {suites} works with TLS {version} or newer")]
    NoUsableCipherSuite {
        /// The configured cipher suites.
        suites: String,
        /// The oldest accepted version.
        version: TlsVersion,
    },
    /// The PEM file with the CAs for client certificates can't be used.
    #[error("bad client CA file {}: {reason}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The key log file can't be opened.
    #[error("can't open key log {}", path.display())]
    KeyLog {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// rustls rejected the configuration.
    #[error("bad TLS configuration")]
    Tls(#[from] rustls::Error),
}

impl Error {
    /// Returns the message, followed by that of the source.
    pub(crate) fn with_source(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// The reason why a certificate chain and its private key can't be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// A file can't be read.
    #[error("can't read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        error: io::Error,
    },
    /// The text is not well-formed PEM.
    #[error("malformed PEM: {0}")]
    Syntax(String),
    /// The text has no certificate.
    #[error("no certificate found, expected a BEGIN CERTIFICATE section")]
    NoCertificate,
    /// The text has no private key.
    #[error("no private key found, expected a BEGIN PRIVATE KEY section")]
    NoKey,
    /// The private key is encrypted.
    #[error("the private key is encrypted, decrypt it first, for example with `openssl pkey`")]
    EncryptedKey,
    /// A certificate is not valid X.509.
    #[error("certificate {position} of the chain is not valid X.509: {reason}")]
    Certificate {
        /// The position in the file, starting at 1.
        position: usize,
        /// The reason.
        reason: String,
    },
    /// The type of the private key is not supported.
    #[error("unusable private key: {0}")]
    Key(rustls::Error),
    /// The private key matches none of the certificates.
    #[error("the private key does not match the certificate")]
    KeyMismatch,
    /// The file has further certificates, but not the issuer of the first one.
    #[error("broken chain: {subject:?} was issued by {issuer:?}, which is missing in the file")]
    Chain {
        /// The subject of the certificate whose issuer is missing.
        subject: String,
        /// The name of the missing issuer.
        issuer: String,
    },
}
