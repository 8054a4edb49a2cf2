//! Verification of backend certificates by trusted certificates and public key pins.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use rproxy_upstream::{Builder, HealthCheck, ProxyError, ProxyErrorKind, PublicKeyPin, Upstream};
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::CertificateDer;
use tower::ServiceExt;

use crate::support::{Body, get};
use crate::tls_backend::{Authority, Pair, Server, ask, serve, to};

const REJECTED: Result<&str, &ProxyErrorKind> = Err(&ProxyErrorKind::TlsCertificateError);
const ACCEPTED: Result<&str, &ProxyErrorKind> = Ok("HTTP/1.1 nobody");

fn pin(certificate: &CertificateDer<'_>) -> PublicKeyPin {
    PublicKeyPin::of_certificate(certificate).unwrap()
}

/// Makes the certificate a CA certificate, as `openssl req -x509` does.
fn authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

fn end_entity(params: &mut CertificateParams) {
    params.is_ca = IsCa::ExplicitNoCa;
}

fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
}

fn future(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2200, 1, 1);
    params.not_after = date_time_ymd(2201, 1, 1);
}

fn for_clients(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}

fn for_servers(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

/// Replaces the subject alternative name with a common name, as `openssl req -x509 -subj` does.
fn common_name_only(params: &mut CertificateParams) {
    let name = match params.subject_alt_names.remove(0) {
        SanType::IpAddress(ip) => ip.to_string(),
        name => panic!("{name:?}"),
    };
    params.distinguished_name.push(DnType::CommonName, name);
}

fn plain(_: &mut CertificateParams) {}

async fn outcome(builder: Builder) -> Result<String, ProxyErrorKind> {
    ask(&builder.build().unwrap(), "/").await
}

#[tokio::test]
async fn accepts_a_trusted_self_signed_certificate_only_for_its_name_and_validity_period() {
    type Change = fn(&mut CertificateParams);
    let cases: [(&str, Change, _); 11] = [
        ("127.0.0.1", authority, ACCEPTED),
        ("127.0.0.1", end_entity, ACCEPTED),
        ("127.0.0.1", plain, ACCEPTED),
        ("127.0.0.1", for_servers, ACCEPTED),
        ("127.0.0.1", for_clients, REJECTED),
        ("127.0.0.1", expired, REJECTED),
        ("127.0.0.1", future, REJECTED),
        ("127.0.0.2", authority, REJECTED),
        ("localhost", end_entity, REJECTED),
        ("127.0.0.1", common_name_only, ACCEPTED),
        ("127.0.0.2", common_name_only, REJECTED),
    ];
    for (index, (name, change, expected)) in cases.into_iter().enumerate() {
        let pair = Pair::self_signed(name, change);
        for version in [&TLS12, &TLS13] {
            for (alpn, http) in [("http/1.1", "HTTP/1.1 nobody"), ("h2", "HTTP/2.0 nobody")] {
                let (address, _) = serve(Server { alpn: &[alpn], versions: &[version], ..Server::new(&pair) }).await;
                let found = outcome(to(address).root_certificates([pair.certificate.clone()])).await;
                assert_eq!(found.as_deref(), expected.map(|_| http), "case {index}");
            }
        }
    }
}

#[tokio::test]
async fn accepts_a_trusted_certificate_whose_issuer_is_not_trusted() {
    let pair = Authority::new().issue("127.0.0.1");
    let (address, _) = serve(Server::new(&pair)).await;
    let found = outcome(to(address).root_certificates([pair.certificate.clone()])).await;
    assert_eq!(found.as_deref(), ACCEPTED);
}

#[tokio::test]
async fn rejects_an_untrusted_certificate_with_the_name_and_key_of_a_trusted_one() {
    let key = KeyPair::generate().unwrap();
    let [given, served] =
        [end_entity, for_servers as fn(&mut _)].map(|it| Pair::self_signed_with(&key, "127.0.0.1", it));
    let (address, _) = serve(Server::new(&served)).await;
    let found = outcome(to(address).root_certificates([given.certificate])).await;
    assert_eq!(found.as_deref(), REJECTED);
}

#[tokio::test]
async fn rejects_certificates_issued_by_a_trusted_end_entity_certificate() {
    for (change, expected) in [
        (authority as fn(&mut CertificateParams), ACCEPTED),
        (end_entity, REJECTED),
        (plain, REJECTED),
        // Without basic constraints, as old authorities are.
        (|params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyCertSign], ACCEPTED),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["issuer.test".to_owned()]).unwrap();
        change(&mut params);
        let given = params.self_signed(&key).unwrap().der().clone();
        let pair = Pair::issued("127.0.0.1", &Issuer::new(params, key));
        let (address, _) = serve(Server::new(&pair)).await;
        let found = outcome(to(address).root_certificates([given])).await;
        assert_eq!(found.as_deref(), expected);
    }
}

#[tokio::test]
async fn public_key_pin_replaces_verification_of_chain_and_name_but_not_of_validity() {
    type Change = fn(&mut CertificateParams);
    let cases: [(Change, _); 4] = [(authority, true), (plain, true), (expired, false), (future, false)];
    for (change, is_accepted) in cases {
        let pair = Pair::self_signed("other.test", change);
        for version in [&TLS12, &TLS13] {
            for (alpn, http) in [("http/1.1", "HTTP/1.1 nobody"), ("h2", "HTTP/2.0 nobody")] {
                let (address, counters) =
                    serve(Server { alpn: &[alpn], versions: &[version], ..Server::new(&pair) }).await;
                let expected = if is_accepted { Ok(http) } else { REJECTED };
                let other = pin(&Authority::new().root());
                // The pin of the next key is present, too.
                let found = outcome(to(address).public_key_pins([other, pin(&pair.certificate)])).await;
                assert_eq!(found.as_deref(), expected);
                let requests = counters.requests.load(Ordering::SeqCst);
                let found = outcome(to(address).public_key_pins([other])).await;
                assert_eq!(found.as_deref(), REJECTED);
                assert_eq!(counters.requests.load(Ordering::SeqCst), requests, "nothing was sent");
            }
        }
    }
}

#[tokio::test]
async fn certificate_must_match_both_the_pins_and_the_trusted_certificates() {
    let authority = Authority::new();
    let [pair, other] = [authority.issue("127.0.0.1"), authority.issue("127.0.0.1")];
    let (address, _) = serve(Server::new(&pair)).await;
    let renamed = || to(address).server_name("other.test").unwrap();
    for (builder, expected) in [
        (to(address).root_certificates([authority.root()]).public_key_pins([pin(&pair.certificate)]), ACCEPTED),
        (to(address).root_certificates([pair.certificate.clone()]).public_key_pins([pin(&pair.certificate)]), ACCEPTED),
        (to(address).root_certificates([authority.root()]).public_key_pins([pin(&other.certificate)]), REJECTED),
        // The pin is that of the certificate, not of its issuer.
        (to(address).root_certificates([authority.root()]).public_key_pins([pin(&authority.root())]), REJECTED),
        (to(address).root_certificates([Authority::new().root()]).public_key_pins([pin(&pair.certificate)]), REJECTED),
        (renamed().root_certificates([authority.root()]).public_key_pins([pin(&pair.certificate)]), REJECTED),
    ] {
        assert_eq!(outcome(builder).await.as_deref(), expected);
    }
}

#[tokio::test]
async fn checks_pins_on_every_connection() {
    let pair = Pair::self_signed("127.0.0.1", authority);
    for version in [&TLS12, &TLS13] {
        let (address, counters) = serve(Server { versions: &[version], ..Server::new(&pair) }).await;
        let given: Upstream<Body> = to(address).root_certificates([pair.certificate.clone()]).build().unwrap();
        let pinned: Upstream<Body> = to(address).public_key_pins([pin(&pair.certificate)]).build().unwrap();
        for (upstream, resumed) in [(&pinned, false), (&given, true)] {
            counters.resumed.store(0, Ordering::SeqCst);
            for _ in 0..3 {
                assert_eq!(ask(upstream, "/close").await.as_deref(), ACCEPTED);
            }
            assert_eq!(counters.resumed.load(Ordering::SeqCst) > 0, resumed, "{version:?}");
        }
    }
}

#[tokio::test]
async fn certificate_error_contains_the_public_key_pin_of_the_backend() {
    let pair = Pair::self_signed("127.0.0.1", authority);
    let (address, _) = serve(Server::new(&pair)).await;
    let upstream: Upstream<Body> = to(address).public_key_pins([pin(&Authority::new().root())]).build().unwrap();
    let response = upstream.oneshot(get("/")).await.unwrap();
    let error = response.extensions().get::<ProxyError>().unwrap().to_string();
    let expected = format!(": the public key {} of the certificate is not pinned", pin(&pair.certificate));
    assert!(error.ends_with(&expected), "{error}");
}

#[tokio::test]
async fn health_checks_verify_the_backend_certificate() {
    let pair = Pair::self_signed("127.0.0.1", authority);
    let (address, counters) = serve(Server::new(&pair)).await;
    let check = || HealthCheck::new("/healthz").unwrap().interval(Duration::from_millis(1));
    let until = async |counter: &AtomicUsize, count: usize| {
        while counter.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let other = pin(&Authority::new().root());
    let rejecting = to(address).public_key_pins([other]).health_check(check()).build_backends().unwrap();
    tokio::select! {
        () = rejecting.run_health_checks() => unreachable!("health checks do not end"),
        () = until(&counters.connections, 3) => {}
    }
    assert_eq!(counters.requests.load(Ordering::SeqCst), 0);
    let accepting = to(address).public_key_pins([pin(&pair.certificate)]).health_check(check());
    let accepting = accepting.build_backends().unwrap();
    tokio::select! {
        () = accepting.run_health_checks() => unreachable!("health checks do not end"),
        () = until(&counters.requests, 1) => {}
    }
}

#[tokio::test]
async fn verifies_the_certificate_of_a_backend_with_a_dns_name() {
    let pair = Pair::self_signed("localhost", authority);
    let (address, _) = serve(Server::new(&pair)).await;
    let named = || Upstream::builder().backend(&format!("https://localhost:{}", address.port())).unwrap();
    let found = outcome(named().root_certificates([pair.certificate.clone()])).await;
    assert_eq!(found.as_deref(), Ok("HTTP/1.1 localhost"));
    let found = outcome(named().public_key_pins([pin(&Authority::new().root())])).await;
    assert_eq!(found.as_deref(), REJECTED);
}
