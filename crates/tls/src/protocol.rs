use std::{fmt, str::FromStr};

use rustls::{
    CipherSuite, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::aws_lc_rs::{ALL_CIPHER_SUITES, DEFAULT_CIPHER_SUITES},
    version::{TLS12, TLS13},
};

use crate::Error;

/// A supported TLS version.
///
/// Versions before 1.2 are deprecated (RFC 8996) and not supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), restricted to AEAD cipher suites with forward secrecy.
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446), preferred to TLS 1.2.
    Tls13,
}

impl TlsVersion {
    /// Returns this TLS version and the newer ones, newest first.
    pub(crate) fn and_newer(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls12 => &VERSIONS,
            Self::Tls13 => &VERSIONS[..1],
        }
    }
}

static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

impl FromStr for TlsVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => Err(Error::UnknownTlsVersion { version: text.to_owned() }),
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        })
    }
}

/// A list of cipher suites, in order of preference.
///
/// It is parsed from a comma-separated list of names from the IANA registry. The default is every suite that rustls
/// considers safe.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), rproxy_tls::Error> {
/// let suites: rproxy_tls::CipherSuites =
///     "TLS_AES_256_GCM_SHA384,TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384".parse()?;
/// assert_eq!(suites.to_string(), "TLS_AES_256_GCM_SHA384,TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CipherSuites {
    pub(crate) suites: Vec<SupportedCipherSuite>,
    /// Whether the preference order was configured. The default list uses the client's order of preference instead.
    pub(crate) is_ordered: bool,
}

impl CipherSuites {
    /// Returns whether the list has a cipher suite for this TLS version or a newer one.
    pub fn supports(&self, version: TlsVersion) -> bool {
        self.suites.iter().any(|suite| version.and_newer().contains(&suite.version()))
    }

    /// Returns the names of all supported cipher suites, separated by commas.
    pub fn supported_names() -> String {
        names(ALL_CIPHER_SUITES)
    }
}

impl Default for CipherSuites {
    fn default() -> Self {
        Self { suites: DEFAULT_CIPHER_SUITES.to_vec(), is_ordered: false }
    }
}

impl FromStr for CipherSuites {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut suites = Vec::new();
        for wanted in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let found = ALL_CIPHER_SUITES.iter().find(|suite| name(suite.suite()) == wanted);
            let suite = found.ok_or_else(|| Error::UnknownCipherSuite { name: wanted.to_owned() })?;
            if !suites.contains(suite) {
                suites.push(*suite);
            }
        }
        match suites.is_empty() {
            true => Err(Error::UnknownCipherSuite { name: text.to_owned() }),
            false => Ok(Self { suites, is_ordered: true }),
        }
    }
}

impl fmt::Display for CipherSuites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&names(&self.suites))
    }
}

fn names(suites: &[SupportedCipherSuite]) -> String {
    suites.iter().map(|suite| name(suite.suite())).collect::<Vec<_>>().join(",")
}

/// Returns the IANA name of a cipher suite, which differs from the rustls name for TLS 1.3.
fn name(suite: CipherSuite) -> String {
    suite.as_str().unwrap_or_default().replacen("TLS13_", "TLS_", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_versions_round_trip_and_older_versions_are_rejected() {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            assert_eq!(version.to_string().parse::<TlsVersion>().unwrap(), version);
        }
        let error = "1.1".parse::<TlsVersion>().unwrap_err();
        assert_eq!(error.to_string(), "bad TLS version \"1.1\": expected 1.2 or 1.3");
    }

    #[test]
    fn parses_iana_names_of_cipher_suites_and_removes_duplicates() {
        let all: CipherSuites = CipherSuites::supported_names().parse().unwrap();
        assert_eq!(all.suites, ALL_CIPHER_SUITES);
        let twice: CipherSuites = "TLS_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256,".parse().unwrap();
        assert_eq!(twice.to_string(), "TLS_AES_128_GCM_SHA256");
        assert!(twice.supports(TlsVersion::Tls12) && twice.supports(TlsVersion::Tls13));
        let old: CipherSuites = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".parse().unwrap();
        assert!(old.supports(TlsVersion::Tls12) && !old.supports(TlsVersion::Tls13));
        for text in ["", ",", "TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA", "tls_aes_128_gcm_sha256"] {
            let error = text.parse::<CipherSuites>().unwrap_err().to_string();
            assert!(error.contains("TLS_AES_128_GCM_SHA256"), "{error}");
        }
    }
}
