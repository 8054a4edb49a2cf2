//! Versions, suites, certificates of clients, the key log.
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
use rproxy_tls::{Certificates, CertificatesBuilder, ClientAuth, Error, Local, TlsVersion};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A server with a local authority, and what a client has to trust for it.
fn local(
    folder: &Path,
    with: impl FnOnce(CertificatesBuilder) -> CertificatesBuilder,
) -> (Certificates, RootCertStore) {
    let builder = Certificates::builder().local(Local::new(folder));
    let certificates = with(builder).build().unwrap();
    let ca = fs::read_to_string(certificates.local_ca_pem_path().unwrap()).unwrap();
    (certificates, roots(&[&ca]))
}

#[tokio::test]
async fn an_older_version_than_allowed_gets_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (certificates, roots) = local(folder.path(), |builder| builder.min_version(TlsVersion::Tls13));
    let old = client(roots.clone(), &[&version::TLS12], &[b"h2"]);
    assert!(handshake(&old, certificates.server_config(), "localhost").await.is_err());
    let seen = handshake(&modern(roots), certificates.server_config(), "localhost").await.unwrap();
    assert_eq!(seen.version, ProtocolVersion::TLSv1_3);
}

#[tokio::test]
async fn the_listed_suites_are_spoken_in_the_listed_order() {
    let folder = tempfile::tempdir().unwrap();
    let listed = "TLS_CHACHA20_POLY1305_SHA256,TLS_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let (certificates, roots) = local(folder.path(), |builder| builder.cipher_suites(listed.parse().unwrap()));
    for (version, suite) in [
        (&version::TLS13, "TLS13_CHACHA20_POLY1305_SHA256"),
        (&version::TLS12, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ] {
        let seen = handshake(&client(roots.clone(), &[version], &[]), certificates.server_config(), "localhost").await;
        assert_eq!(seen.unwrap().suite, suite);
    }

    let only_new = local(folder.path(), |builder| builder.cipher_suites("TLS_AES_128_GCM_SHA256".parse().unwrap()));
    let old = client(roots, &[&version::TLS12], &[]);
    assert!(handshake(&old, only_new.0.server_config(), "localhost").await.is_err());
    let none = Certificates::builder()
        .local(Local::new(folder.path()))
        .min_version(TlsVersion::Tls13)
        .cipher_suites("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".parse().unwrap())
        .build();
    assert!(matches!(none, Err(Error::NoSuite { .. })));
}

/// An authority for clients.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let file = folder.join(format!("{name}.pem"));
        fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// A client with a certificate of this authority.
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
async fn clients_show_certificates_where_they_may_or_must() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "other"));
    for version in [&version::TLS13, &version::TLS12] {
        for (auth, [known, unknown, without]) in [
            (ClientAuth::optional(&ours.file), [true, false, true]),
            (ClientAuth::required(&ours.file), [true, false, false]),
        ] {
            let (certificates, roots) = local(folder.path(), |builder| builder.client_auth(auth.clone()));
            for (client, served) in [
                (ours.client(&roots, version), known),
                (other.client(&roots, version), unknown),
                (client(roots.clone(), &[version], &[]), without),
            ] {
                let seen = handshake(&client, certificates.server_config(), "localhost").await;
                assert_eq!(seen.is_ok(), served, "{version:?} {auth:?}: {seen:?}");
            }
        }
    }
}

#[test]
fn a_file_without_authorities_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    for (file, complaint) in [(empty, "no certificate found"), (folder.path().join("none.pem"), "No such file")] {
        let builder = Certificates::builder().local(Local::new(folder.path()));
        let error = builder.client_auth(ClientAuth::required(&file)).build().unwrap_err().to_string();
        assert!(error.contains(complaint) && error.contains(file.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn secrets_are_written_when_asked_and_for_their_owner_alone() {
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
    let nowhere = Certificates::builder().local(Local::new(folder.path())).key_log(folder.path());
    assert!(matches!(nowhere.build(), Err(Error::KeyLog { .. })));
}
