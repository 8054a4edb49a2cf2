//! Settings of TLS: certificates, protocol versions and client certificates.

mod certificates;

use std::path::PathBuf;

use http::{HeaderName, Uri};
use rproxy_client_cert::ClientCertificateLayer;
use rproxy_tls::{CipherSuites, TlsVersion};

use crate::setting::{READABLE_FILE, SWITCH, joined_paths, settings};
use crate::values::choice::{ClientAuthentication, Secret, acme_directory, email, hmac_key, kid};
use crate::values::readable_file::unreadable;
use crate::values::tls;
use crate::values::tls_name::{TlsHost, TlsName};
use crate::values::value::{boolean, joined, list, optional, path};

settings! {
    /// The settings of TLS: certificates, protocol versions and client certificates.
    TlsSettings, "TLS"

    "tls_domains" => domains: Vec<TlsName> {
        value: "NAME,...",
        default: "none" => Vec::new(),
        help: "DNS names for which to order ACME certificates; enables TLS. A reload orders certificates for new names",
        accepted: "comma-separated DNS names",
        scope: Process,
        reload: Live,
        parse: |t| list(t, str::parse),
        show: |s| joined(&s.domains),
    }

    "tls_email" => email: Option<String> {
        value: "ADDRESS",
        default: "none" => None,
        help: "Contact address for the certificate authority",
        accepted: "an e-mail address",
        scope: Process,
        reload: Restart,
        parse: |t| optional(t, email),
        show: |s| s.email.clone(),
    }

    "tls_cache_dir" => cache_dir: PathBuf {
        value: "DIRECTORY",
        default: "/var/lib/rproxy/certs",
        help: "Directory for the ACME account, certificates and keys; files have mode 0600 and are written atomically",
        accepted: "a path",
        scope: Process,
        reload: Restart,
        parse: path,
        show: |s| Some(s.cache_dir.display().to_string()),
    }

    "acme_directory" => acme_directory: Uri {
        value: "URL",
        default: "Let's Encrypt production" => Uri::from_static("https://acme-v02.api.letsencrypt.org/directory"),
        help: "Directory URL of the ACME certificate authority",
        accepted: "an https:// URL, or staging for Let's Encrypt's staging directory",
        scope: Process,
        reload: Restart,
        parse: acme_directory,
        show: |s| Some(s.acme_directory.to_string()),
    }

    "acme_ca" => acme_ca: Option<PathBuf> {
        value: "FILE",
        default: "web PKI roots" => None,
        help: "PEM file with the root certificates that verify the ACME server itself, for private certificate authorities",
        accepted: READABLE_FILE,
        scope: Process,
        reload: Restart,
        parse: |t| optional(t, path),
        show: |s| s.acme_ca.as_ref().map(|path| path.display().to_string()),
    }

    "acme_eab_kid" => acme_eab_kid: Option<String> {
        value: "ID",
        default: "none" => None,
        help: "Key identifier of the ACME external account binding",
        accepted: "the identifier issued by the certificate authority",
        scope: Process,
        reload: Restart,
        parse: |t| optional(t, kid),
        show: |s| s.acme_eab_kid.clone(),
    }

    "acme_eab_hmac_key" => acme_eab_hmac_key: Option<Secret> {
        value: "KEY",
        default: "none" => None,
        help: "HMAC key of the ACME external account binding; prefer the environment to the command line",
        accepted: "base64url, as issued by the certificate authority",
        secret: true,
        scope: Process,
        reload: Restart,
        parse: |t| optional(t, hmac_key),
        show: |s| s.acme_eab_hmac_key.as_ref().map(|key| key.expose().to_owned()),
    }

    "acme_one_certificate" => acme_one_certificate: bool {
        value: "BOOL",
        default: "false",
        help: "Orders one ACME certificate for all names; by default, each name has a separate certificate, so that a failed order affects only one name",
        accepted: SWITCH,
        scope: Process,
        reload: Restart,
        parse: boolean,
        show: |s| Some(s.acme_one_certificate.to_string()),
    }

    "acme_redis" => acme_redis: Option<Secret> {
        value: "URL",
        default: "none" => None,
        help: "Redis or Valkey server in which machines behind one address share the ACME account, orders, challenges, certificates and private keys",
        accepted: "a redis://, rediss:// or unix:// URL, with user, password and database if needed",
        secret: true,
        scope: Process,
        reload: Restart,
        parse: |t| optional(t, tls::redis),
        show: |s| s.acme_redis.as_ref().map(|url| url.expose().to_owned()),
    }

    "acme_self_signed_fallback" => acme_self_signed_fallback: bool {
        value: "BOOL",
        default: "false",
        help: "Serves a self-signed certificate for a name until the ACME certificate is issued; otherwise the handshake fails",
        accepted: SWITCH,
        scope: Process,
        reload: Restart,
        parse: boolean,
        show: |s| Some(s.acme_self_signed_fallback.to_string()),
    }

    "tls_cert" => cert: Vec<PathBuf> {
        value: "FILE,...",
        default: "none" => Vec::new(),
        help: "PEM certificate chains, instead of or in addition to ACME, selected by server name and signature algorithm; the first is the default; reloaded when they change; enables TLS",
        accepted: "comma-separated paths of readable files",
        scope: Process,
        reload: Restart,
        parse: |t| list(t, path),
        show: |s| joined_paths(&s.cert),
    }

    "tls_key" => key: Vec<PathBuf> {
        value: "FILE,...",
        default: "none" => Vec::new(),
        help: "PEM private keys of the chains in tls_cert, in the same order",
        accepted: "comma-separated paths of readable files",
        scope: Process,
        reload: Restart,
        parse: |t| list(t, path),
        show: |s| joined_paths(&s.key),
    }

    "tls_ocsp" => ocsp: Vec<Option<PathBuf>> {
        value: "FILE,...",
        default: "none" => Vec::new(),
        help: "OCSP responses (DER) to staple to the chains in tls_cert, in the same order, while they report a good status; reloaded when they change",
        accepted: "comma-separated paths, with - for a chain without an OCSP response",
        scope: Process,
        reload: Restart,
        parse: |t| list(t, tls::response),
        show: |s| {
            let path = |ocsp: &Option<PathBuf>| {
                ocsp.as_ref().map_or_else(|| "-".to_owned(), |path| path.display().to_string())
            };
            joined(&s.ocsp.iter().map(path).collect::<Vec<_>>())
        },
    }

    "tls_min_version" => min_version: TlsVersion {
        value: "VERSION",
        default: "1.2",
        help: "Minimum TLS version",
        accepted: "1.2 or 1.3",
        scope: Process,
        reload: Restart,
        parse: tls::version,
        show: |s| Some(format!("{}", s.min_version)),
    }

    "tls_ciphers" => ciphers: Option<CipherSuites> {
        value: "SUITE,...",
        default: "all secure suites, in the client's order" => None,
        help: "Cipher suites to offer, in order of preference",
        accepted: "comma-separated names from the IANA registry",
        scope: Process,
        reload: Restart,
        parse: |t| optional(t, tls::ciphers),
        show: |s| s.ciphers.as_ref().map(ToString::to_string),
    }

    "tls_client_auth" => client_auth: ClientAuthentication {
        value: "MODE",
        default: "off",
        help: "Requests client certificates (mutual TLS), and forwards them as Client-Cert (RFC 9440)",
        accepted: "off, optional or required",
        scope: Process,
        reload: Restart,
        parse: str::parse,
        show: |s| Some(s.client_auth.to_string()),
    }

    "tls_client_ca" => client_ca: Option<PathBuf> {
        value: "FILE",
        default: "none" => None,
        help: "PEM file with the certificate authorities for client certificates",
        accepted: READABLE_FILE,
        scope: Process,
        reload: Restart,
        parse: |t| optional(t, path),
        show: |s| s.client_ca.as_ref().map(|path| path.display().to_string()),
    }

    "tls_client_subject" => client_subject: Option<HeaderName> {
        value: "FIELD",
        default: "none" => None,
        help: "Request header field in which the backend receives the subject of the client certificate (RFC 4514: `CN=alice,O=Example`)",
        accepted: "a header field name",
        scope: Process,
        reload: Live,
        parse: |t| optional(t, tls::field),
        show: |s| s.client_subject.as_ref().map(ToString::to_string),
    }

    "tls_client_fingerprint" => client_fingerprint: Option<HeaderName> {
        value: "FIELD",
        default: "none" => None,
        help: "Request header field in which the backend receives the SHA-256 fingerprint of the client certificate, in hexadecimal",
        accepted: "a header field name",
        scope: Process,
        reload: Live,
        parse: |t| optional(t, tls::field),
        show: |s| s.client_fingerprint.as_ref().map(ToString::to_string),
    }

    "tls_key_log" => key_log: Option<PathBuf> {
        value: "FILE",
        default: "none" => None,
        help: "Appends the secrets of all TLS sessions to this file, to decrypt captures in Wireshark; for debugging only",
        accepted: "a path",
        scope: Process,
        reload: Restart,
        parse: |t| optional(t, path),
        show: |s| s.key_log.as_ref().map(|path| path.display().to_string()),
    }

    "tls_local" => local: bool {
        value: "BOOL",
        default: "false",
        help: "Issues certificates for localhost and tls_domains from a local certificate authority, for development; enables TLS",
        accepted: SWITCH,
        scope: Process,
        reload: Restart,
        parse: boolean,
        show: |s| Some(s.local.to_string()),
    }

    "tls_hosts" => hosts: Vec<TlsHost> {
        value: "NAME,...",
        default: "none" => Vec::new(),
        help: "Additional hosts to serve over TLS that no certificate covers; requests for other hosts get 421; * for any host",
        accepted: "comma-separated DNS names, which may start with *., or *",
        scope: Process,
        reload: Live,
        parse: |t| list(t, str::parse),
        show: |s| joined(&s.hosts),
    }


    rules {
        ["tls_cert", "tls_key"] => |s, c| match (s.cert.len(), s.key.len()) {
            (certificates, keys) if certificates == keys => None,
            (_, 0) => Some(format!("requires {}, the private key of the certificate", c.name("tls_key"))),
            (0, _) => Some(format!("requires {}, the certificate of the private key", c.name("tls_cert"))),
            (certificates, keys) => Some(format!(
                "each certificate requires a private key, in the same order, but {} has {certificates} entries and {} has {keys}",
                c.name("tls_cert"),
                c.name("tls_key"),
            )),
        },
        ["tls_cert"] => |s, _| s.cert.iter().find_map(unreadable),
        ["tls_key"] => |s, _| s.key.iter().find_map(unreadable),
        ["tls_ocsp", "tls_cert"] => |s, c| {
            let (responses, certificates) = (s.ocsp.len(), s.cert.len());
            let is_uneven = responses != 0 && responses != certificates;
            is_uneven.then(|| {
                format!(
                    "each certificate requires an OCSP response or -, in the same order, but {} has {certificates} entries and {} has {responses}",
                    c.name("tls_cert"),
                    c.name("tls_ocsp"),
                )
            })
        },
        ["tls_client_ca"] => |s, _| s.client_ca.as_ref().and_then(unreadable),
        ["tls_client_auth", "tls_client_ca"] => |s, c| match (s.client_auth, &s.client_ca) {
            (ClientAuthentication::Off, Some(_)) => {
                Some(format!("requires {} to be optional or required", c.name("tls_client_auth")))
            }
            (ClientAuthentication::Optional | ClientAuthentication::Required, None) => Some(format!(
                "requires {}, the certificate authorities for client certificates",
                c.name("tls_client_ca")
            )),
            _ => None,
        },
        ["tls_client_auth", "tls_cert", "tls_domains", "tls_local"] => |s, _| {
            let plain = s.client_auth != ClientAuthentication::Off && !s.is_enabled();
            plain.then(|| "client certificates require TLS, which is off".to_owned())
        },
        ["tls_client_subject", "tls_client_fingerprint", "tls_client_auth"] => |s, c| {
            let is_told = s.client_subject.is_some() || s.client_fingerprint.is_some();
            let nobody = is_told && s.client_auth == ClientAuthentication::Off;
            nobody.then(|| format!("requires {} to be optional or required", c.name("tls_client_auth")))
        },
        ["acme_redis"] => |s, _| {
            let can_not = s.acme_redis.is_some() && !cfg!(feature = "redis");
            can_not.then(|| "this rproxy was built without the feature redis".to_owned())
        },
        ["tls_ciphers", "tls_min_version"] => |s, _| {
            let suites = s.ciphers.as_ref()?;
            let none = !suites.supports(s.min_version);
            none.then(|| format!("none of the cipher suites {suites} is valid for TLS {} or newer", s.min_version))
        },
        ["acme_ca"] => |s, _| s.acme_ca.as_ref().and_then(unreadable),
        ["acme_eab_kid", "acme_eab_hmac_key"] => |s, c| match (&s.acme_eab_kid, &s.acme_eab_hmac_key) {
            (Some(_), None) => Some(format!("requires {}", c.name("acme_eab_hmac_key"))),
            (None, Some(_)) => Some(format!("requires {}", c.name("acme_eab_kid"))),
            _ => None,
        },
        ["tls_domains", "tls_local"] => |s, c| {
            let wildcard = s.acme_domains().iter().find(|domain| domain.is_wildcard())?;
            Some(format!(
                "cannot order a certificate for {wildcard}: the TLS-ALPN-01 challenge validates single hosts, and \
                 wildcards need DNS-01; list each host, or provide the certificate with {} and {}",
                c.name("tls_cert"),
                c.name("tls_key"),
            ))
        },
    }

    idle {
        [
            "tls_email",
            "acme_directory",
            "acme_ca",
            "acme_eab_kid",
            "acme_eab_hmac_key",
            "acme_one_certificate",
            "acme_redis",
            "acme_self_signed_fallback",
        ] => |s, _| s.acme_domains().is_empty().then(|| match s.local {
            true => "certificates are issued by the local authority".to_owned(),
            false => "no ACME certificate is ordered".to_owned(),
        }),
        ["tls_min_version", "tls_ciphers", "tls_key_log"] => |s, _| (!s.is_enabled()).then(|| "TLS is off".to_owned()),
    }
}

impl TlsSettings {
    /// Returns whether the main listeners use TLS.
    pub fn is_enabled(&self) -> bool {
        self.local || !self.domains.is_empty() || !self.cert.is_empty()
    }

    /// Returns the names to order ACME certificates for; empty with the local certificate authority.
    pub fn acme_domains(&self) -> &[TlsName] {
        match self.local {
            true => &[],
            false => &self.domains,
        }
    }

    /// Returns the layer that forwards the client's TLS certificate to backends.
    pub(crate) fn client_certificate_layer(&self) -> ClientCertificateLayer {
        if self.client_auth == ClientAuthentication::Off {
            return ClientCertificateLayer::disabled();
        }
        let mut layer = ClientCertificateLayer::new();
        if let Some(field) = &self.client_subject {
            layer = layer.subject(field.clone());
        }
        if let Some(field) = &self.client_fingerprint {
            layer = layer.fingerprint(field.clone());
        }
        layer
    }

    pub(crate) fn describe(&self) -> Option<String> {
        (self.client_auth != ClientAuthentication::Off)
            .then(|| format!("ClientCert       Client-Cert, Client-Cert-Chain: {}", self.client_auth))
    }
}
