use std::{io, path::PathBuf};

use crate::TlsVersion;

/// Why certificates could not be set up.
///
/// All of it is found while [`CertificatesBuilder::build`](crate::CertificatesBuilder::build) runs:
/// what the settings and the files on disk say is refused before the first connection, never during one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The builder was given neither ACME names, nor files, nor a local authority.
    #[error("no certificate is configured: name ACME domains, PEM files, or a local authority")]
    Nothing,
    /// A name can't stand on a certificate from this source.
    #[error("bad certificate name {name:?}: {reason}")]
    Name {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// One name was asked for on two ACME certificates.
    #[error("certificate name {name:?} is asked for twice")]
    NameTwice {
        /// The name that stands twice.
        name: String,
    },
    /// The PEM files can't be served.
    #[error("certificate {} with key {}: {source}", certificate.display(), key.display())]
    Files {
        /// The file with the certificate chain.
        certificate: PathBuf,
        /// The file with the private key.
        key: PathBuf,
        /// What is wrong with the two.
        source: PemError,
    },
    /// The file that vouches for the ACME directory's own TLS can't be used.
    #[error("bad ACME CA file {}: {reason}", path.display())]
    DirectoryCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The ACME directory is not an `https://` URL.
    #[error("bad ACME directory {url:?}: {reason}")]
    Directory {
        /// The URL as it was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The contact is not a mail address.
    #[error("bad ACME contact {contact:?}: not a mail address")]
    Contact {
        /// The contact as it was given.
        contact: String,
    },
    /// The external account's key is not base64url. It is a secret, so it is not repeated here.
    #[error("bad ACME external account key for {kid:?}: {reason}")]
    ExternalAccountKey {
        /// The key's identifier.
        kid: String,
        /// What is wrong with the key.
        reason: &'static str,
    },
    /// The address of the Redis to share with. It may have a password in it, so it is not repeated here.
    #[cfg(feature = "redis")]
    #[error("bad Redis URL: {reason}")]
    Redis {
        /// What is wrong with it.
        reason: String,
    },
    /// The folder where accounts, keys and certificates are kept can't be used.
    #[error("certificate folder {}: {source}", path.display())]
    Store {
        /// The folder or file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The local authority could not be made or read back.
    #[error("local certificate authority in {}: {reason}", path.display())]
    Local {
        /// The folder of the authority.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No certificate could be made to stand in for the one on order.
    #[error("self-signed certificate: {reason}")]
    StandIn {
        /// What is wrong.
        reason: String,
    },
    /// A version of TLS that is not spoken.
    #[error("bad TLS version {text:?}: expected 1.2 or 1.3")]
    Version {
        /// The version as it was given.
        text: String,
    },
    /// A cipher suite that there is not, or no more.
    #[error("bad cipher suite {name:?}: expected some of {}", crate::CipherSuites::all())]
    Suite {
        /// The name as it was given.
        name: String,
    },
    /// None of the cipher suites is for a version that is allowed.
    #[error("no cipher suite of {suites} is for TLS {version} or newer")]
    NoSuite {
        /// The suites.
        suites: String,
        /// The oldest version that is allowed.
        version: TlsVersion,
    },
    /// The file with the authorities that vouch for clients can't be used.
    #[error("bad client CA file {}: {reason}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file for session secrets can't be opened.
    #[error("key log {}: {source}", path.display())]
    KeyLog {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// rustls refused the set-up.
    #[error("TLS set-up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why a certificate chain and its key can't be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// A file could not be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The text is not well-formed PEM.
    #[error("malformed PEM: {0}")]
    Syntax(String),
    /// There is no `BEGIN CERTIFICATE` section.
    #[error("no certificate found, a BEGIN CERTIFICATE section is needed")]
    NoCertificate,
    /// There is no private key section.
    #[error("no private key found, a BEGIN PRIVATE KEY section is needed")]
    NoKey,
    /// The private key is encrypted.
    #[error("the private key is encrypted; decrypt it, for instance with `openssl pkey`")]
    EncryptedKey,
    /// A certificate is not valid X.509.
    #[error("certificate {position} of the chain is not valid X.509: {reason}")]
    Certificate {
        /// Which of them, the first is 1.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The private key is of a kind that can't sign handshakes.
    #[error("unusable private key: {0}")]
    Key(rustls::Error),
    /// The private key belongs to none of the certificates.
    #[error("the private key does not fit the certificate")]
    KeyMismatch,
    /// There are further certificates, but none that issued the first.
    #[error("broken chain: {subject:?} was issued by {issuer:?}, and no certificate in the file is that issuer's")]
    Chain {
        /// The certificate whose issuer is missing.
        subject: String,
        /// The issuer that it names.
        issuer: String,
    },
}
