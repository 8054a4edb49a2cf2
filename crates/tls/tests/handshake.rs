//! Tests of TLS handshakes: protocol, key exchange, resumption, and the certificate for each name.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/client.rs"]
mod client;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::{client, handshake, modern, roots, trusting_with};
use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    SignatureAlgorithm,
};
use rproxy_tls::{Certificates, CertificatesBuilder, Error, KeyType, LocalCa, Source, is_challenge};
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore, SignatureScheme, version};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// A temporary folder for PEM files.
struct PemFolder {
    folder: TempDir,
}

/// A self-signed certificate and its key, as PEM.
struct Pem {
    chain: String,
    key: String,
}

impl PemFolder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn write(&self, file: &str, pem: &Pem) -> [PathBuf; 2] {
        let paths = [format!("{file}.pem"), format!("{file}.key")].map(|file| self.path(&file));
        fs::write(&paths[1], &pem.key).unwrap();
        fs::write(&paths[0], &pem.chain).unwrap();
        paths
    }
}

impl Pem {
    fn new(names: &[&str]) -> Self {
        Self::with(names, &PKCS_ECDSA_P384_SHA384)
    }

    fn with(names: &[&str], algorithm: &'static SignatureAlgorithm) -> Self {
        let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let chain = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        Self { chain: chain.pem(), key: key.serialize_pem() }
    }
}

/// Returns a server configuration with one certificate, and the roots for a client that trusts it.
fn single(names: &[&str]) -> (Certificates, RootCertStore) {
    let folder = PemFolder::new();
    let pem = Pem::new(names);
    let [chain, key] = folder.write("single", &pem);
    let certificates = Certificates::builder().files(chain, key).build().unwrap();
    (certificates, roots(&[&pem.chain]))
}

#[tokio::test]
async fn modern_client_negotiates_tls_1_3_http_2_and_post_quantum_key_exchange() {
    let (certificates, roots) = single(&["a.test"]);
    let result = handshake(&modern(roots), certificates.server_config(), "a.test").await.unwrap();
    assert_eq!(result.version, ProtocolVersion::TLSv1_3);
    assert_eq!(result.alpn.as_deref(), Some(&b"h2"[..]));
    assert_eq!(result.group, Some(NamedGroup::X25519MLKEM768));
    // Without the round trip of a HelloRetryRequest.
    assert_eq!(result.kind, HandshakeKind::Full);
}

#[tokio::test]
async fn older_client_negotiates_tls_1_2_with_forward_secrecy() {
    let (certificates, roots) = single(&["a.test"]);
    let client = client(roots, &[&version::TLS12], &[b"http/1.1"]);
    let result = handshake(&client, certificates.server_config(), "a.test").await.unwrap();
    assert_eq!(result.version, ProtocolVersion::TLSv1_2);
    assert_eq!(result.alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert!(result.suite.contains("ECDHE"), "{}", result.suite);
}

#[tokio::test]
async fn alpn_prefers_http_2_and_rejects_unknown_protocols() {
    let (certificates, roots) = single(&["a.test"]);
    for (offered, chosen) in [
        (&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
        (&[b"http/1.1", b"h2"], Some(b"h2")),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[b"h3", b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let client = client(roots.clone(), &[&version::TLS13], offered);
        let result = handshake(&client, certificates.server_config(), "a.test").await;
        assert_eq!(result.unwrap().alpn.as_deref(), chosen);
    }
    // RFC 7301 §3.2: without a common protocol the handshake fails. This server has no ACME certificates.
    for offered in [&b"h3"[..], b"acme-tls/1"] {
        let client = client(roots.clone(), &[&version::TLS13], &[offered]);
        let result = handshake(&client, certificates.server_config(), "a.test").await;
        assert!(result.is_err());
    }
}

#[tokio::test]
async fn tls_sessions_resume_on_any_worker() {
    let (certificates, roots) = single(&["a.test"]);
    for version in [&version::TLS13, &version::TLS12] {
        let client = client(roots.clone(), &[version], &[b"h2"]);
        let worker = certificates.clone();
        let first = handshake(&client, worker.server_config(), "a.test").await;
        assert_eq!(first.unwrap().kind, HandshakeKind::Full);
        let other = certificates.clone();
        let again = handshake(&client, other.server_config(), "a.test").await;
        assert_eq!(again.unwrap().kind, HandshakeKind::Resumed, "{version:?}");
    }
}

#[tokio::test]
async fn selects_the_certificate_by_server_name() {
    let folder = PemFolder::new();
    let [first, wild, exact] = [
        Pem::new(&["first.test", "127.0.0.1"]),
        Pem::with(&["*.example.com"], &PKCS_ED25519),
        Pem::new(&["a.example.com"]),
    ];
    let mut builder = Certificates::builder();
    for (file, pem) in [("first", &first), ("wild", &wild), ("exact", &exact)] {
        let [chain, key] = folder.write(file, pem);
        builder = builder.files(chain, key);
    }
    let certificates = builder.build().unwrap();
    for (name, pem) in [
        ("first.test", &first),
        ("a.example.com", &exact),
        ("b.example.com", &wild),
        // Clients send no server name for an address.
        ("127.0.0.1", &first),
    ] {
        // The client trusts only this certificate, so the handshake fails with any other.
        let client = modern(roots(&[&pem.chain]));
        let result = handshake(&client, certificates.server_config(), name).await;
        assert!(result.is_ok(), "{name}: {result:?}");
    }
    for (sni, host, covered) in [
        (Some("a.example.com"), "a.example.com", true),
        (Some("a.example.com"), "A.Example.com.", true),
        (Some("a.example.com"), "b.example.com", false),
        (Some("b.example.com"), "c.example.com", true),
        (Some("b.example.com"), "first.test", false),
        (Some("b.example.com"), "b.example.com", true),
        (Some("unknown.test"), "unknown.test", false),
        (Some("unknown.test"), "first.test", true),
        (Some("unknown.test"), "a.example.com", false),
        (Some("a.example.com"), "127.0.0.1", false),
        (None, "first.test", true),
        (None, "a.example.com", false),
        (None, "192.0.2.1", true),
        (None, "[2001:db8::1]", true),
        (None, "localhost", true),
        (Some("localhost"), "localhost", true),
        (Some("a.example.com"), "localhost", false),
        (None, "unknown.test", false),
    ] {
        assert_eq!(certificates.covers(sni, host), covered, "{sni:?} {host}");
    }
}

/// Writes a new certificate and its key to files, and adds the files to the builder.
fn add(
    builder: CertificatesBuilder,
    folder: &PemFolder,
    (names, algorithm): (&[&str], &'static SignatureAlgorithm),
) -> (CertificatesBuilder, CertificateDer<'static>) {
    let pem = Pem::with(names, algorithm);
    let leaf = CertificateDer::from_pem_slice(pem.chain.as_bytes()).unwrap();
    let [chain, key] =
        folder.write(&leaf[leaf.len() - 8..].iter().map(|byte| format!("{byte:02x}")).collect::<String>(), &pem);
    (builder.files(chain, key), leaf)
}

const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
const P256: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
const ED25519: &[SignatureScheme] = &[SignatureScheme::ED25519];

#[tokio::test]
async fn selects_the_certificate_by_signature_algorithms_of_the_client() {
    let folder = PemFolder::new();
    let mut builder = Certificates::builder();
    let mut leaves = Vec::new();
    for pair in [
        // RSA first, although an elliptic curve is preferred.
        (&["a.test", "www.a.test"][..], &PKCS_RSA_SHA256),
        (&["a.test", "www.a.test"], &PKCS_ECDSA_P256_SHA256),
        (&["*.b.test"], &PKCS_ECDSA_P256_SHA256),
        (&["*.b.test"], &PKCS_RSA_SHA256),
        (&["exact.b.test"], &PKCS_ECDSA_P256_SHA256),
        (&["a.test"], &PKCS_ED25519),
    ] {
        let leaf;
        (builder, leaf) = add(builder, &folder, pair);
        leaves.push(leaf);
    }
    let certificates = builder.build().unwrap();
    let both = [RSA, P256].concat();
    for (name, schemes, expected) in [
        ("a.test", RSA, Some(0)),
        ("www.a.test", RSA, Some(0)),
        ("a.test", P256, Some(1)),
        ("a.test", &both, Some(1)),
        ("a.test", ED25519, Some(5)),
        ("www.a.test", ED25519, None),
        ("x.b.test", P256, Some(2)),
        ("x.b.test", RSA, Some(3)),
        ("x.b.test", &both, Some(2)),
        ("exact.b.test", &both, Some(4)),
        // The wildcard is valid for the name as well.
        ("exact.b.test", RSA, Some(3)),
        ("exact.b.test", ED25519, None),
        // The default certificate, without a server name and for an unknown one.
        ("127.0.0.1", RSA, Some(0)),
        ("127.0.0.1", P256, Some(1)),
        ("127.0.0.1", &both, Some(1)),
        ("127.0.0.1", ED25519, Some(5)),
        ("unknown.test", RSA, Some(0)),
        ("unknown.test", P256, Some(1)),
    ] {
        for version in [&version::TLS13, &version::TLS12] {
            let result = handshake(&trusting_with(&[version], schemes), certificates.server_config(), name).await;
            let found = result.ok().map(|done| leaves.iter().position(|leaf| *leaf == done.leaf).unwrap());
            assert_eq!(found, expected, "{name} {schemes:?} {version:?}");
        }
    }
}

#[tokio::test]
async fn selects_the_certificate_by_signature_algorithms_after_files_changed() {
    let folder = PemFolder::new();
    let [rsa, ecdsa] = [&PKCS_RSA_SHA256, &PKCS_ECDSA_P256_SHA256].map(|algorithm| Pem::with(&["a.test"], algorithm));
    let [first, second] = [folder.write("first", &rsa), folder.write("second", &ecdsa)];
    let certificates =
        Certificates::builder().files(&first[0], &first[1]).files(&second[0], &second[1]).build().unwrap();
    let key_type_for = async |schemes: &[SignatureScheme]| {
        let client = trusting_with(&[&version::TLS13], schemes);
        let leaf = handshake(&client, certificates.server_config(), "a.test").await.ok()?.leaf;
        let pems = [&rsa, &ecdsa].map(|pem| CertificateDer::from_pem_slice(pem.chain.as_bytes()).unwrap());
        pems.iter().position(|pem| *pem == leaf)
    };
    assert_eq!((key_type_for(RSA).await, key_type_for(P256).await), (Some(0), Some(1)));

    // The two swap places, then the second becomes a duplicate, which is no reason to stop serving.
    for (file, pem) in [("first", &ecdsa), ("second", &rsa)] {
        folder.write(file, pem);
    }
    certificates.reload();
    assert_eq!((key_type_for(RSA).await, key_type_for(P256).await), (Some(0), Some(1)));
    folder.write("second", &Pem::with(&["a.test"], &PKCS_ECDSA_P256_SHA256));
    certificates.reload();
    assert_eq!((key_type_for(RSA).await, key_type_for(P256).await), (None, Some(1)));
}

#[test]
fn build_rejects_certificate_files_that_are_never_served() {
    let folder = PemFolder::new();
    let ecdsa = &PKCS_ECDSA_P256_SHA256;
    let build = |pairs: &[(&[&str], &'static SignatureAlgorithm)]| {
        let all = pairs.iter().fold(Certificates::builder(), |builder, pair| add(builder, &folder, *pair).0);
        all.build().map(|certificates| certificates.status().len())
    };
    for accepted in [
        &[(&["a.test"][..], ecdsa), (&["a.test"], &PKCS_RSA_SHA256)][..],
        &[(&["a.test"], ecdsa), (&["a.test"], &PKCS_ECDSA_P384_SHA384)],
        &[(&["a.test"], ecdsa), (&["*.test"], ecdsa)],
        // Only some of the names are served.
        &[(&["a.test", "b.test"], ecdsa), (&["b.test", "c.test"], ecdsa)],
        &[(&["a.test"], ecdsa), (&["a.test", "127.0.0.1"], ecdsa)],
    ] {
        assert_eq!(build(accepted).unwrap(), accepted.len(), "{accepted:?}");
    }
    for rejected in [
        &[(&["a.test"][..], ecdsa), (&["a.test"], ecdsa)][..],
        &[(&["a.test", "b.test"], ecdsa), (&["B.test"], ecdsa)],
        &[(&["a.test"], ecdsa), (&["b.test"], ecdsa), (&["a.test", "b.test"], ecdsa)],
    ] {
        let error = build(rejected).unwrap_err();
        assert!(matches!(error, Error::DuplicateFiles { key_type: KeyType::EcdsaP256, .. }), "{rejected:?}");
    }

    let [chain, key] = folder.write("same", &Pem::new(&["a.test"]));
    let twice = Certificates::builder().files(&chain, &key).files(&chain, &key).build().unwrap();
    assert_eq!(twice.status().len(), 1);
}

#[tokio::test]
async fn local_certificate_covers_loopback_and_configured_names() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::builder().local(LocalCa::new(folder.path()).name("app.test")).build().unwrap();
    let ca = fs::read_to_string(certificates.local_ca_pem_path().unwrap()).unwrap();
    let client = modern(roots(&[&ca]));
    for name in ["localhost", "127.0.0.1", "::1", "app.test"] {
        let result = handshake(&client, certificates.server_config(), name).await;
        assert!(result.is_ok(), "{name}: {result:?}");
    }
    let other = handshake(&client, certificates.server_config(), "other.test").await;
    assert!(other.is_err());
    assert_eq!(certificates.status()[0].source, Source::Local);
}

#[tokio::test]
async fn changed_certificate_files_are_reloaded_and_open_connections_survive() {
    let folder = PemFolder::new();
    let old = Pem::new(&["a.test"]);
    let [chain, key] = folder.write("a", &old);
    let certificates = Certificates::builder().files(&chain, &key).build().unwrap();
    let running = tokio::spawn(certificates.clone().run());

    let trusts_old = modern(roots(&[&old.chain]));
    let open = tokio::io::duplex(16 * 1024);
    let acceptor = tokio_rustls::TlsAcceptor::from(certificates.server_config());
    let served = tokio::spawn(async move {
        let mut stream = acceptor.accept(open.1).await.unwrap();
        client::echo(&mut stream).await.unwrap();
        client::echo(&mut stream).await.unwrap();
    });
    let connector = tokio_rustls::TlsConnector::from(trusts_old.clone());
    let name = rustls_pki_types::ServerName::try_from("a.test").unwrap();
    let mut open = connector.connect(name, open.0).await.unwrap();
    exchange_byte(&mut open).await;

    // Each file is replaced atomically, as certbot does.
    let new = Pem::new(&["a.test"]);
    for (path, content) in [(&key, &new.key), (&chain, &new.chain)] {
        replace(path, content);
    }
    wait_until_served(&certificates, &new).await;
    exchange_byte(&mut open).await;
    served.await.unwrap();
    assert_eq!(certificates.status()[0].last_error, None);

    // Written in place with the key last, so that for a moment the two do not match.
    let newer = Pem::new(&["a.test"]);
    fs::write(&chain, &newer.chain).unwrap();
    fs::write(&key, &newer.key).unwrap();
    wait_until_served(&certificates, &newer).await;
    running.abort();
}

#[cfg(unix)]
#[tokio::test]
async fn certificate_behind_a_replaced_symbolic_link_is_reloaded() {
    let folder = PemFolder::new();
    let (old, new) = (Pem::new(&["a.test"]), Pem::new(&["a.test"]));
    for (version, pem) in [("1", &old), ("2", &new)] {
        fs::create_dir(folder.path(version)).unwrap();
        fs::write(folder.path(version).join("chain.pem"), &pem.chain).unwrap();
        fs::write(folder.path(version).join("key.pem"), &pem.key).unwrap();
    }
    fs::create_dir(folder.path("live")).unwrap();
    let link = folder.path("live/data");
    std::os::unix::fs::symlink(folder.path("1"), &link).unwrap();
    for file in ["chain.pem", "key.pem"] {
        let target = Path::new("data").join(file);
        std::os::unix::fs::symlink(target, folder.path("live").join(file)).unwrap();
    }

    // Kubernetes mounts secrets like this: the files are links through a link to a folder, which is replaced.
    let certificates =
        Certificates::builder().files(folder.path("live/chain.pem"), folder.path("live/key.pem")).build().unwrap();
    let running = tokio::spawn(certificates.clone().run());
    let replacement = folder.path("live/data-new");
    std::os::unix::fs::symlink(folder.path("2"), &replacement).unwrap();
    fs::rename(replacement, link).unwrap();
    wait_until_served(&certificates, &new).await;
    running.abort();
}

#[tokio::test]
async fn mismatched_key_and_certificate_files_keep_the_current_certificate_until_a_successful_reload() {
    let folder = PemFolder::new();
    let old = Pem::new(&["a.test"]);
    let [chain, key] = folder.write("a", &old);
    let certificates = Certificates::builder().files(&chain, &key).build().unwrap();

    let new = Pem::new(&["a.test"]);
    replace(&chain, &new.chain);
    certificates.reload();
    let error = certificates.status()[0].last_error.clone().unwrap();
    assert!(error.contains("does not match"), "{error}");
    let client = modern(roots(&[&old.chain]));
    let result = handshake(&client, certificates.server_config(), "a.test").await;
    assert!(result.is_ok(), "{result:?}");

    replace(&key, &new.key);
    certificates.reload();
    assert_eq!(certificates.status()[0].last_error, None);
    let client = modern(roots(&[&new.chain]));
    let result = handshake(&client, certificates.server_config(), "a.test").await;
    assert!(result.is_ok(), "{result:?}");
}

#[tokio::test]
async fn handshake_fails_for_names_without_available_certificate_and_unknown_challenges() {
    let acme_folder = tempfile::tempdir().unwrap();
    let folder = PemFolder::new();
    let pem = Pem::new(&["files.test"]);
    let [chain, key] = folder.write("files", &pem);
    let certificates = Certificates::builder()
        .files(chain, key)
        .acme(rproxy_tls::Acme::new(acme_folder.path()).domain("acme.test"))
        .build()
        .unwrap();
    let roots = roots(&[&pem.chain]);
    let client_of = |alpn: &[u8]| client(roots.clone(), &[&version::TLS13], &[alpn]);
    for (alpn, name, succeeds) in [
        (&b"h2"[..], "files.test", true),
        (b"h2", "acme.test", false),
        (b"acme-tls/1", "acme.test", false),
        (b"acme-tls/1", "files.test", false),
    ] {
        let result = handshake(&client_of(alpn), certificates.server_config(), name).await;
        assert_eq!(result.is_ok(), succeeds, "{name} {result:?}");
    }

    // A client that also offers another protocol is not an ACME validation.
    let both = client(roots.clone(), &[&version::TLS13], &[b"acme-tls/1", b"h2"]);
    let result = handshake(&both, certificates.server_config(), "files.test").await.unwrap();
    assert!(!is_challenge(result.alpn.as_deref()));
}

#[test]
fn build_rejects_a_server_without_certificates() {
    let error = Certificates::builder().build().unwrap_err();
    assert!(matches!(error, rproxy_tls::Error::NoCertificates));
}

async fn exchange_byte(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    stream.write_all(b"x").await.unwrap();
    stream.flush().await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
}

async fn wait_until_served(certificates: &Certificates, pem: &Pem) {
    let client = modern(roots(&[&pem.chain]));
    let served = timeout(Duration::from_secs(30), async {
        loop {
            let server = certificates.server_config();
            if handshake(&Arc::clone(&client), server, "a.test").await.is_ok() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let status = certificates.status();
    assert!(served.await.is_ok(), "never served: {status:?}");
}

fn replace(path: &Path, content: &str) {
    let replacement = path.with_extension("new");
    fs::write(&replacement, content).unwrap();
    fs::rename(replacement, path).unwrap();
}
