//! What clients see: protocol, key exchange, resumption, and the certificate for each name.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/client.rs"]
mod client;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::{client, handshake, modern, roots};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};
use rproxy_tls::{Certificates, Local, Source, is_challenge};
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore, version};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// PEM files in a folder.
struct Pairs {
    folder: TempDir,
}

struct Pair {
    chain: String,
    key: String,
}

impl Pairs {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn write(&self, file: &str, pair: &Pair) -> [PathBuf; 2] {
        let paths = [format!("{file}.pem"), format!("{file}.key")].map(|file| self.path(&file));
        fs::write(&paths[1], &pair.key).unwrap();
        fs::write(&paths[0], &pair.chain).unwrap();
        paths
    }
}

impl Pair {
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

/// A server with one certificate, and what a client has to trust for it.
fn one(names: &[&str]) -> (Certificates, RootCertStore) {
    let pairs = Pairs::new();
    let pair = Pair::new(names);
    let [chain, key] = pairs.write("one", &pair);
    let certificates = Certificates::builder().files(chain, key).build().unwrap();
    (certificates, roots(&[&pair.chain]))
}

#[tokio::test]
async fn a_modern_client_gets_tls_1_3_http_2_and_a_post_quantum_key_exchange() {
    let (certificates, roots) = one(&["a.test"]);
    let seen = handshake(&modern(roots), certificates.server_config(), "a.test").await.unwrap();
    assert_eq!(seen.version, ProtocolVersion::TLSv1_3);
    assert_eq!(seen.alpn.as_deref(), Some(&b"h2"[..]));
    assert_eq!(seen.group, Some(NamedGroup::X25519MLKEM768));
    // Without the round trip that a wrongly guessed key share costs.
    assert_eq!(seen.kind, HandshakeKind::Full);
}

#[tokio::test]
async fn an_older_client_gets_tls_1_2_with_an_aead_suite_and_forward_secrecy() {
    let (certificates, roots) = one(&["a.test"]);
    let client = client(roots, &[&version::TLS12], &[b"http/1.1"]);
    let seen = handshake(&client, certificates.server_config(), "a.test").await.unwrap();
    assert_eq!(seen.version, ProtocolVersion::TLSv1_2);
    assert_eq!(seen.alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert!(seen.suite.contains("ECDHE"), "{}", seen.suite);
}

#[tokio::test]
async fn the_protocol_is_the_best_that_both_speak() {
    let (certificates, roots) = one(&["a.test"]);
    for (offered, chosen) in [
        (&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
        (&[b"http/1.1", b"h2"], Some(b"h2")),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[b"h3", b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let client = client(roots.clone(), &[&version::TLS13], offered);
        let seen = handshake(&client, certificates.server_config(), "a.test").await;
        assert_eq!(seen.unwrap().alpn.as_deref(), chosen);
    }
    // RFC 7301 §3.2: with nothing in common there is no connection. Challenges are for servers that order by ACME.
    for offered in [&b"h3"[..], b"acme-tls/1"] {
        let client = client(roots.clone(), &[&version::TLS13], &[offered]);
        let seen = handshake(&client, certificates.server_config(), "a.test").await;
        assert!(seen.is_err());
    }
}

#[tokio::test]
async fn a_session_is_resumed_whichever_worker_it_comes_back_to() {
    let (certificates, roots) = one(&["a.test"]);
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
async fn each_name_gets_its_certificate() {
    let pairs = Pairs::new();
    let [first, wild, exact] = [
        Pair::new(&["first.test", "127.0.0.1"]),
        Pair::with(&["*.example.com"], &PKCS_ED25519),
        Pair::new(&["a.example.com"]),
    ];
    let mut builder = Certificates::builder();
    for (file, pair) in [("first", &first), ("wild", &wild), ("exact", &exact)] {
        let [chain, key] = pairs.write(file, pair);
        builder = builder.files(chain, key);
    }
    let certificates = builder.build().unwrap();
    for (name, pair) in [
        ("first.test", &first),
        ("a.example.com", &exact),
        ("b.example.com", &wild),
        // An address is not sent as a server name.
        ("127.0.0.1", &first),
    ] {
        // The client trusts this one certificate, so that no other will do.
        let client = modern(roots(&[&pair.chain]));
        let seen = handshake(&client, certificates.server_config(), name).await;
        assert!(seen.is_ok(), "{name}: {seen:?}");
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

#[tokio::test]
async fn the_local_authority_certifies_loopback_and_the_given_names() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::builder().local(Local::new(folder.path()).name("app.test")).build().unwrap();
    let ca = fs::read_to_string(certificates.local_ca_pem_path().unwrap()).unwrap();
    let client = modern(roots(&[&ca]));
    for name in ["localhost", "127.0.0.1", "::1", "app.test"] {
        let seen = handshake(&client, certificates.server_config(), name).await;
        assert!(seen.is_ok(), "{name}: {seen:?}");
    }
    let other = handshake(&client, certificates.server_config(), "other.test").await;
    assert!(other.is_err());
    assert_eq!(certificates.status()[0].source, Source::Local);
}

#[tokio::test]
async fn a_changed_pair_is_served_without_being_told_and_connections_stay() {
    let pairs = Pairs::new();
    let old = Pair::new(&["a.test"]);
    let [chain, key] = pairs.write("pair", &old);
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
    ask(&mut open).await;

    // In one step each, as certbot and others do it.
    let new = Pair::new(&["a.test"]);
    for (path, content) in [(&key, &new.key), (&chain, &new.chain)] {
        replace(path, content);
    }
    until_served(&certificates, &new).await;
    ask(&mut open).await;
    served.await.unwrap();
    assert_eq!(certificates.status()[0].last_error, None);

    // Written in place, key last: for a moment the two do not fit.
    let newer = Pair::new(&["a.test"]);
    fs::write(&chain, &newer.chain).unwrap();
    fs::write(&key, &newer.key).unwrap();
    until_served(&certificates, &newer).await;
    running.abort();
}

#[cfg(unix)]
#[tokio::test]
async fn a_swapped_link_is_a_change() {
    let pairs = Pairs::new();
    let (old, new) = (Pair::new(&["a.test"]), Pair::new(&["a.test"]));
    for (version, pair) in [("1", &old), ("2", &new)] {
        fs::create_dir(pairs.path(version)).unwrap();
        fs::write(pairs.path(version).join("chain.pem"), &pair.chain).unwrap();
        fs::write(pairs.path(version).join("key.pem"), &pair.key).unwrap();
    }
    fs::create_dir(pairs.path("live")).unwrap();
    let link = pairs.path("live/data");
    std::os::unix::fs::symlink(pairs.path("1"), &link).unwrap();
    for file in ["chain.pem", "key.pem"] {
        let target = Path::new("data").join(file);
        std::os::unix::fs::symlink(target, pairs.path("live").join(file)).unwrap();
    }

    // As Kubernetes mounts secrets: the files are links through a folder link that is swapped.
    let certificates =
        Certificates::builder().files(pairs.path("live/chain.pem"), pairs.path("live/key.pem")).build().unwrap();
    let running = tokio::spawn(certificates.clone().run());
    let fresh = pairs.path("live/data-new");
    std::os::unix::fs::symlink(pairs.path("2"), &fresh).unwrap();
    fs::rename(fresh, link).unwrap();
    until_served(&certificates, &new).await;
    running.abort();
}

#[tokio::test]
async fn a_bad_pair_keeps_the_old_certificate_until_a_reload_finds_a_good_one() {
    let pairs = Pairs::new();
    let old = Pair::new(&["a.test"]);
    let [chain, key] = pairs.write("pair", &old);
    let certificates = Certificates::builder().files(&chain, &key).build().unwrap();

    let new = Pair::new(&["a.test"]);
    replace(&chain, &new.chain);
    certificates.reload();
    let error = certificates.status()[0].last_error.clone().unwrap();
    assert!(error.contains("does not fit"), "{error}");
    let client = modern(roots(&[&old.chain]));
    let seen = handshake(&client, certificates.server_config(), "a.test").await;
    assert!(seen.is_ok(), "{seen:?}");

    replace(&key, &new.key);
    certificates.reload();
    assert_eq!(certificates.status()[0].last_error, None);
    let client = modern(roots(&[&new.chain]));
    let seen = handshake(&client, certificates.server_config(), "a.test").await;
    assert!(seen.is_ok(), "{seen:?}");
}

#[tokio::test]
async fn a_name_on_order_fails_cleanly_and_so_does_a_challenge_nobody_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = Pairs::new();
    let pair = Pair::new(&["files.test"]);
    let [chain, key] = pairs.write("pair", &pair);
    let certificates = Certificates::builder()
        .files(chain, key)
        .acme(rproxy_tls::Acme::new(folder.path()).domain("acme.test"))
        .build()
        .unwrap();
    let roots = roots(&[&pair.chain]);
    let client_of = |alpn: &[u8]| client(roots.clone(), &[&version::TLS13], &[alpn]);
    for (alpn, name, succeeds) in [
        (&b"h2"[..], "files.test", true),
        (b"h2", "acme.test", false),
        (b"acme-tls/1", "acme.test", false),
        (b"acme-tls/1", "files.test", false),
    ] {
        let seen = handshake(&client_of(alpn), certificates.server_config(), name).await;
        assert_eq!(seen.is_ok(), succeeds, "{name} {seen:?}");
    }

    // A client that would rather have something else is a client.
    let both = client(roots.clone(), &[&version::TLS13], &[b"acme-tls/1", b"h2"]);
    let seen = handshake(&both, certificates.server_config(), "files.test").await.unwrap();
    assert!(!is_challenge(seen.alpn.as_deref()));
}

#[test]
fn a_server_without_any_source_is_refused() {
    let error = Certificates::builder().build().unwrap_err();
    assert!(matches!(error, rproxy_tls::Error::Nothing));
}

async fn ask(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    stream.write_all(b"x").await.unwrap();
    stream.flush().await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
}

async fn until_served(certificates: &Certificates, pair: &Pair) {
    let client = modern(roots(&[&pair.chain]));
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
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, content).unwrap();
    fs::rename(fresh, path).unwrap();
}
