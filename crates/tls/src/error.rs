use std::{io, path::PathBuf};

use crate::{KeyType, Source, TlsVersion};

/// The error of [`CertificatesBuilder::build`](crate::CertificatesBuilder::build).
///
/// Invalid settings and unusable files are reported before the first connection is accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No ACME names, no PEM files and no local CA are configured.
    #[error("no certificate configured: set ACME domains, PEM files or a local CA")]
    NoCertificates,
    /// Certificate names were changed for a source that is not configured.
    #[error("cannot change certificate names: no certificates from the source {} are configured", kind.as_str())]
    NotConfigured {
        /// The certificate source that is not configured.
        kind: Source,
    },
    /// The certificate source cannot issue a certificate for a name.
    #[error("bad certificate name {name:?}: {reason}")]
    InvalidName {
        /// The invalid name, as configured.
        name: String,
        /// The reason that the name is invalid.
        reason: &'static str,
    },
    /// A name is listed on two ACME certificates.
    #[error("certificate name {name:?} is listed twice")]
    DuplicateName {
        /// The normalised name that is listed twice.
        name: String,
    },
    /// A certificate chain and its private key in PEM files cannot be served.
    #[error("certificate {} with key {} cannot be served", certificate.display(), key.display())]
    Files {
        /// The path of the PEM file with the certificate chain.
        certificate: PathBuf,
        /// The path of the PEM file with the private key.
        key: PathBuf,
        /// The reason that the PEM files cannot be served.
        source: PemError,
    },
    /// A certificate from PEM files would never be served: earlier files have its names and its key type.
    #[error(
        "certificate {} would never be served: {} has the same key type ({key_type}) for {}; remove one of them",
        certificate.display(),
        earlier.display(),
        names.join(", ")
    )]
    DuplicateFiles {
        /// The path of the certificate chain that would never be served.
        certificate: PathBuf,
        /// The path of the certificate chain that is served instead.
        earlier: PathBuf,
        /// The key type that both certificates have.
        key_type: KeyType,
        /// The names on the certificate that would never be served.
        names: Vec<String>,
    },
    /// The PEM file with the CAs trusted for the ACME directory cannot be used.
    #[error("bad CA file {} for the ACME directory: {reason}", path.display())]
    DirectoryCa {
        /// The path of the PEM file with the CAs.
        path: PathBuf,
        /// The reason that the CA file cannot be used.
        reason: String,
    },
    /// The configured ACME directory is not an `https://` URL.
    #[error("bad URL {url:?} of the ACME directory: {reason}")]
    InvalidDirectory {
        /// The configured URL of the ACME directory.
        url: String,
        /// The reason that the URL is invalid.
        reason: &'static str,
    },
    /// The configured ACME contact is not an email address.
    #[error("bad ACME contact {contact:?}: not an email address")]
    InvalidContact {
        /// The configured ACME contact.
        contact: String,
    },
    /// The key of the ACME external account is not base64url. The message does not contain the key, which is secret.
    #[error("bad key of the ACME external account {kid:?}: {reason}")]
    InvalidExternalAccountKey {
        /// The key identifier of the ACME external account.
        kid: String,
        /// The reason that the external account key is invalid.
        reason: &'static str,
    },
    /// The Redis URL for shared ACME state is invalid. The message does not contain the URL, which may include a
    /// password.
    #[cfg(feature = "redis")]
    #[error("bad Redis URL for shared ACME state: {reason}")]
    InvalidRedisUrl {
        /// The reason that the Redis URL is invalid.
        reason: String,
    },
    /// A folder or file for ACME account keys, private keys and certificates cannot be read or written.
    #[error("cannot use certificate folder {}", path.display())]
    Folder {
        /// The path of the folder or file.
        path: PathBuf,
        /// The I/O error of the folder or file.
        source: io::Error,
    },
    /// The local CA cannot be created, or its files are unusable.
    #[error("cannot load or create the local certificate authority in {}: {reason}", path.display())]
    LocalCa {
        /// The path of the local CA's folder.
        path: PathBuf,
        /// The reason that the local CA cannot be used.
        reason: String,
    },
    /// The self-signed fallback certificate cannot be created.
    #[error("cannot create the self-signed fallback certificate: {reason}")]
    SelfSigned {
        /// The reason that the certificate cannot be created.
        reason: String,
    },
    /// The configured text is not a supported TLS version.
    #[error("bad TLS version {version:?}: expected 1.2 or 1.3")]
    UnknownTlsVersion {
        /// The text that is not a TLS version.
        version: String,
    },
    /// The cipher suite does not exist, or is not supported because it is weak.
    #[error("bad cipher suite {name:?}: expected one of {}", crate::CipherSuites::supported_names())]
    UnknownCipherSuite {
        /// The configured name of the cipher suite.
        name: String,
    },
    /// None of the configured cipher suites can be used with an accepted TLS version.
    #[error("none of the cipher suites {suites} can be used with TLS {version} or newer")]
    NoUsableCipherSuite {
        /// The configured cipher suites.
        suites: String,
        /// The minimum TLS version.
        version: TlsVersion,
    },
    /// The PEM file with the CAs for client certificates cannot be used.
    #[error("bad client CA file {}: {reason}", path.display())]
    ClientCa {
        /// The path of the PEM file with the client CAs.
        path: PathBuf,
        /// The reason that the client CA file cannot be used.
        reason: String,
    },
    /// The key log file cannot be opened.
    #[error("cannot open key log {}", path.display())]
    KeyLog {
        /// The path of the key log file.
        path: PathBuf,
        /// The I/O error of opening the key log file.
        source: io::Error,
    },
    /// rustls rejected the TLS configuration.
    #[error("bad TLS configuration")]
    Tls(#[from] rustls::Error),
}

impl Error {
    /// Returns the message of an error, followed by the message of its source.
    pub(crate) fn with_source(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// The reason that a certificate chain and its private key cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// A PEM file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The path of the PEM file.
        path: PathBuf,
        /// The I/O error of reading the PEM file.
        error: io::Error,
    },
    /// The file content is not well-formed PEM.
    #[error("malformed PEM: {0}")]
    Syntax(String),
    /// The PEM file contains no certificate.
    #[error("no certificate found, expected a BEGIN CERTIFICATE section")]
    NoCertificate,
    /// The PEM file contains no private key.
    #[error("no private key found, expected a BEGIN PRIVATE KEY section")]
    NoKey,
    /// The private key is encrypted.
    #[error("the private key is encrypted, decrypt it first, for example with `openssl pkey`")]
    EncryptedKey,
    /// A certificate of the chain is not valid X.509.
    #[error("certificate {position} of the chain is not valid X.509: {reason}")]
    Certificate {
        /// The position of the invalid certificate in the file, starting at 1.
        position: usize,
        /// The reason that the certificate is not valid X.509.
        reason: String,
    },
    /// The type of the private key is not supported.
    #[error("unusable private key: {0}")]
    Key(rustls::Error),
    /// The private key matches none of the certificates.
    #[error("the private key does not match the certificate")]
    KeyMismatch,
    /// The file has several certificates, but lacks the issuer of the leaf.
    #[error("incomplete chain: {subject:?} was issued by {issuer:?}, whose certificate is missing in the file")]
    Chain {
        /// The subject of the certificate whose issuer is missing.
        subject: String,
        /// The subject of the missing issuer certificate.
        issuer: String,
    },
}
