//! Tests of TLS versions, cipher suites, client certificates and the key log.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/client.rs"]
mod client;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use client::{client, handshake, modern, roots};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rproxy_tls::{Certificates, CertificatesBuilder, ClientAuth, Error, LocalCa, TlsVersion};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Returns a server configuration with a local CA, and the roots for a client that trusts it.
fn local(
    folder: &Path,
    with: impl FnOnce(CertificatesBuilder) -> CertificatesBuilder,
) -> (Certificates, RootCertStore) {
    let builder = Certificates::builder().local(LocalCa::new(folder));
    let certificates = with(builder).build().unwrap();
    let ca = fs::read_to_string(certificates.local_ca_pem_path().unwrap()).unwrap();
    (certificates, roots(&[&ca]))
}

#[tokio::test]
async fn minimum_tls_version_rejects_older_clients() {
    let folder = tempfile::tempdir().unwrap();
    let (certificates, roots) = local(folder.path(), |builder| builder.min_version(TlsVersion::Tls13));
    let old = client(roots.clone(), &[&version::TLS12], &[b"h2"]);
    assert!(handshake(&old, certificates.server_config(), "localhost").await.is_err());
    let result = handshake(&modern(roots), certificates.server_config(), "localhost").await.unwrap();
    assert_eq!(result.version, ProtocolVersion::TLSv1_3);
}

#[tokio::test]
async fn cipher_suites_are_negotiated_in_the_configured_order() {
    let folder = tempfile::tempdir().unwrap();
    let listed = "TLS_CHACHA20_POLY1305_SHA256,TLS_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let (certificates, roots) = local(folder.path(), |builder| builder.cipher_suites(listed.parse().unwrap()));
    for (version, suite) in [
        (&version::TLS13, "TLS13_CHACHA20_POLY1305_SHA256"),
        (&version::TLS12, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ] {
        let result =
            handshake(&client(roots.clone(), &[version], &[]), certificates.server_config(), "localhost").await;
        assert_eq!(result.unwrap().suite, suite);
    }

    let only_new = local(folder.path(), |builder| builder.cipher_suites("TLS_AES_128_GCM_SHA256".parse().unwrap()));
    let old = client(roots, &[&version::TLS12], &[]);
    assert!(handshake(&old, only_new.0.server_config(), "localhost").await.is_err());
    let none = Certificates::builder()
        .local(LocalCa::new(folder.path()))
        .min_version(TlsVersion::Tls13)
        .cipher_suites("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".parse().unwrap())
        .build();
    assert!(matches!(none, Err(Error::NoUsableCipherSuite { .. })));
}

/// A CA that issues client certificates.
struct ClientCa {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl ClientCa {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let file = folder.join(format!("{name}.pem"));
        fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// Returns the configuration of a client with a certificate that this CA issued.
    fn client(&self, roots: &RootCertStore, version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["client".to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let chain = vec![CertificateDer::from(leaf)];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        Arc::new(builder.with_root_certificates(roots.clone()).with_client_auth_cert(chain, key).unwrap())
    }
}

#[tokio::test]
async fn client_certificates_are_verified_whether_required_or_optional() {
    let folder = tempfile::tempdir().unwrap();
    let (trusted, other) = (ClientCa::new(folder.path(), "trusted"), ClientCa::new(folder.path(), "other"));
    for version in [&version::TLS13, &version::TLS12] {
        for (auth, [known, unknown, without]) in [
            (ClientAuth::optional(&trusted.file), [true, false, true]),
            (ClientAuth::required(&trusted.file), [true, false, false]),
        ] {
            let (certificates, roots) = local(folder.path(), |builder| builder.client_auth(auth.clone()));
            for (client, served) in [
                (trusted.client(&roots, version), known),
                (other.client(&roots, version), unknown),
                (client(roots.clone(), &[version], &[]), without),
            ] {
                let result = handshake(&client, certificates.server_config(), "localhost").await;
                assert_eq!(result.is_ok(), served, "{version:?} {auth:?}: {result:?}");
            }
        }
    }
}

#[test]
fn client_auth_rejects_a_missing_or_empty_ca_file() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    for (file, expected) in [(empty, "no CA certificate found"), (folder.path().join("none.pem"), "No such file")] {
        let builder = Certificates::builder().local(LocalCa::new(folder.path()));
        let error = builder.client_auth(ClientAuth::required(&file)).build().unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(file.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn key_log_receives_session_secrets_and_is_accessible_only_to_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.log");
    let (certificates, roots) = local(folder.path(), |builder| builder.key_log(&file));
    handshake(&modern(roots), certificates.server_config(), "localhost").await.unwrap();
    let log = fs::read_to_string(&file).unwrap();
    for label in ["CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0"] {
        let line = log.lines().find(|line| line.starts_with(label)).unwrap();
        let [_, random, secret] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert_eq!(random.len(), 64);
        assert!([64, 96].contains(&secret.len()), "{line}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let nowhere = Certificates::builder().local(LocalCa::new(folder.path())).key_log(folder.path());
    assert!(matches!(nowhere.build(), Err(Error::KeyLog { .. })));
}
