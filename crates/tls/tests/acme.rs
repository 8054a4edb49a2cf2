//! Tests of certificates from an ACME server (Pebble).
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/client.rs"]
mod client;
#[path = "support/pebble.rs"]
mod pebble;
#[path = "support/server.rs"]
mod server;

use std::time::{Duration, SystemTime};

use client::{handshake, trusting};
use pebble::{Pebble, PebbleOptions};
use rproxy_tls::{Certificates, ClientAuth, LocalCa};
use server::{Server, TIMEOUT, acme, certificates, files_under, find_file, options, status_of, wait_until};
use tokio::time::timeout;

#[tokio::test]
async fn issues_a_certificate_by_tls_alpn_01_and_serves_it() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates(acme(&pebble, folder.path()).domain("A.test"));
    server.serve(&certificates);

    let early = server.connect(pebble.issuer(), "a.test").await;
    assert!(early.is_err(), "the certificate is not issued yet");
    timeout(TIMEOUT, certificates.ready()).await.unwrap();
    let handshake = server.connect(pebble.issuer(), "a.test").await.unwrap();
    assert_eq!(handshake.alpn.as_deref(), Some(&b"h2"[..]));
    let status = status_of(&certificates, "a.test");
    assert!(status.is_valid(SystemTime::now()));
    assert_eq!(status.last_error, None);
}

#[tokio::test]
async fn serves_the_self_signed_fallback_until_the_certificate_is_issued() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates(acme(&pebble, folder.path()).domain("a.test").self_signed_fallback(true));
    assert_eq!(status_of(&certificates, "a.test").not_after, None, "the fallback is not the configured certificate");
    // A client that does not verify the certificate is served.
    let result = handshake(&trusting(), certificates.server_config(), "a.test").await.unwrap();
    assert_eq!(result.alpn.as_deref(), Some(&b"h2"[..]));

    server.serve(&certificates);
    timeout(TIMEOUT, certificates.ready()).await.unwrap();
    let result = server.connect(pebble.issuer(), "a.test").await;
    assert!(result.is_ok(), "{result:?}");
}

#[tokio::test]
async fn acme_validates_a_name_although_client_certificates_are_required() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let acme = acme(&pebble, folder.path()).domain("a.test");
    let auth = ClientAuth::required(pebble.directory_ca());
    let certificates = Certificates::builder().acme(acme).client_auth(auth).build().unwrap();
    server.serve(&certificates);
    timeout(TIMEOUT, certificates.ready()).await.unwrap();
    let result = server.connect(pebble.issuer(), "a.test").await;
    assert!(result.is_err(), "a client without a certificate is rejected");
}

#[tokio::test]
async fn several_names_share_one_acme_certificate() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates(acme(&pebble, folder.path()).certificate(["a.test", "b.test"]));
    server.serve(&certificates);
    timeout(TIMEOUT, certificates.ready()).await.unwrap();
    let [a, b] = ["a.test", "b.test"].map(|name| server.connect(pebble.issuer(), name));
    assert_eq!(a.await.unwrap().leaf, b.await.unwrap().leaf);
    assert_eq!(pebble.orders(), 1);
    assert!(certificates.covers(Some("a.test"), "b.test"));
    assert!(!certificates.covers(Some("a.test"), "c.test"));
}

#[tokio::test]
async fn restart_reuses_the_stored_acme_certificate_and_account() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let first = certificates(acme(&pebble, folder.path()).domain("a.test"));
    server.serve(&first);
    timeout(TIMEOUT, first.ready()).await.unwrap();
    let before = server.connect(pebble.issuer(), "a.test").await.unwrap();
    let stored = find_file(folder.path(), "certificate.pem");
    wait_until("the certificate is stored", || stored().is_some()).await;

    // The second name is ordered after the start, which shows that the first one was not.
    let second = certificates(acme(&pebble, folder.path()).domains(["a.test", "b.test"]));
    assert!(status_of(&second, "a.test").is_valid(SystemTime::now()));
    server.serve(&second);
    timeout(TIMEOUT, second.ready()).await.unwrap();
    let after = server.connect(pebble.issuer(), "a.test").await.unwrap();
    server.connect(pebble.issuer(), "b.test").await.unwrap();
    assert_eq!(before.leaf, after.leaf);
    assert_eq!(pebble.orders(), 2, "{}", pebble.log());
    assert_eq!(pebble.accounts(), 1, "{}", pebble.log());
}

#[tokio::test]
async fn concurrent_orders_share_one_acme_account() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let names = ["a.test", "b.test", "c.test", "d.test"];
    let certificates = certificates(acme(&pebble, folder.path()).domains(names));
    server.serve(&certificates);
    timeout(TIMEOUT, certificates.ready()).await.unwrap();
    for name in names {
        server.connect(pebble.issuer(), name).await.unwrap();
    }
    assert_eq!(pebble.orders(), 4);
    assert_eq!(pebble.accounts(), 1, "{}", pebble.log());
}

#[tokio::test]
async fn rejected_name_does_not_delay_other_orders_and_a_reload_retries_it() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(PebbleOptions { blocked: vec!["blocked.test".to_owned()], ..options(&server) })
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let first = certificates(acme(&pebble, folder.path()).domains(["blocked.test", "a.test"]));
    server.serve(&first);
    wait_until("a.test is issued", || status_of(&first, "a.test").not_after.is_some()).await;
    wait_until("blocked.test is rejected", || status_of(&first, "blocked.test").last_error.is_some()).await;
    let error = status_of(&first, "blocked.test").last_error.unwrap();
    assert!(error.contains("rejectedIdentifier"), "{error}");
    server.connect(pebble.issuer(), "a.test").await.unwrap();
    // The certificate of another name is not served instead.
    assert!(server.connect(pebble.issuer(), "blocked.test").await.is_err());
    let backoff = find_file(folder.path(), "retry");
    wait_until("the back-off is stored", || backoff().is_some()).await;
    assert_eq!(pebble.orders(), 2);

    let second = certificates(acme(&pebble, folder.path()).domains(["blocked.test", "a.test"]));
    server.serve(&second);
    second.reload();
    wait_until("blocked.test is ordered again", || pebble.orders() == 3).await;
}

#[tokio::test]
async fn restart_does_not_shorten_the_back_off_after_a_rejected_order() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(PebbleOptions { blocked: vec!["blocked.test".to_owned()], ..options(&server) })
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let first = certificates(acme(&pebble, folder.path()).domain("blocked.test"));
    let running = tokio::spawn(first.clone().run());
    let backoff = find_file(folder.path(), "retry");
    wait_until("the back-off is stored", || backoff().is_some()).await;
    running.abort();

    let second = certificates(acme(&pebble, folder.path()).domains(["blocked.test", "a.test"]));
    server.serve(&second);
    wait_until("a.test is issued", || status_of(&second, "a.test").not_after.is_some()).await;
    assert_eq!(pebble.orders(), 2, "one per name: {}", pebble.log());
}

#[tokio::test]
async fn retries_an_unreachable_acme_directory_until_it_is_reachable() {
    let mut server = Server::bind().await;
    let Some(mut pebble) = Pebble::prepare(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates(acme(&pebble, folder.path()).domain("a.test"));
    server.serve(&certificates);
    wait_until("the first order fails", || status_of(&certificates, "a.test").last_error.is_some()).await;
    pebble.launch();
    timeout(TIMEOUT, certificates.ready()).await.unwrap();
    assert_eq!(status_of(&certificates, "a.test").last_error, None);
    server.connect(pebble.issuer(), "a.test").await.unwrap();
}

#[tokio::test]
async fn retries_rejected_nonces_within_one_acme_order() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(PebbleOptions { bad_nonces: 25, ..options(&server) }) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let names = ["a.test", "b.test"];
    let certificates = certificates(acme(&pebble, folder.path()).certificate(names));
    server.serve(&certificates);
    timeout(TIMEOUT, certificates.ready()).await.unwrap();
    server.connect(pebble.issuer(), "a.test").await.unwrap();
}

#[tokio::test]
async fn renews_a_short_lived_certificate_before_it_expires() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(PebbleOptions { validity: Some(Duration::from_secs(12)), ..options(&server) })
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates(acme(&pebble, folder.path()).domain("a.test"));
    server.serve(&certificates);
    timeout(TIMEOUT, certificates.ready()).await.unwrap();
    let first = status_of(&certificates, "a.test").not_after;
    let before = server.connect(pebble.issuer(), "a.test").await.unwrap();
    wait_until("a later certificate", || status_of(&certificates, "a.test").not_after > first).await;
    assert!(SystemTime::now() < first.unwrap(), "renewed too late");
    let after = server.connect(pebble.issuer(), "a.test").await.unwrap();
    assert_ne!(before.leaf, after.leaf);
    assert_eq!(pebble.accounts(), 1, "{}", pebble.log());
}

#[tokio::test]
async fn binds_the_acme_account_to_an_external_account() {
    let mut server = Server::bind().await;
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let Some(pebble) = Pebble::start(PebbleOptions {
        external_accounts: vec![("kid-1".to_owned(), key.to_owned())],
        ..options(&server)
    }) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let wrong = certificates(acme(&pebble, folder.path()).domain("a.test").external_account("kid-1", "AAAA"));
    let running = tokio::spawn(wrong.clone().run());
    wait_until("the wrong key is rejected", || status_of(&wrong, "a.test").last_error.is_some()).await;
    running.abort();
    assert_eq!(pebble.orders(), 0);

    let right = certificates(
        acme(&pebble, tempfile::tempdir().unwrap().path()).domain("a.test").external_account("kid-1", key),
    );
    server.serve(&right);
    timeout(TIMEOUT, right.ready()).await.unwrap();
    server.connect(pebble.issuer(), "a.test").await.unwrap();
}

#[tokio::test]
async fn two_servers_with_one_certificate_folder_place_one_order() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = [(); 2].map(|()| certificates(acme(&pebble, folder.path()).domain("a.test")));
    server.serve(&one);
    // The directory cannot reach the second server, so its certificate can only come from the folder.
    let lock = find_file(folder.path(), "lock");
    wait_until("the first one orders", || lock().is_some()).await;
    let running = tokio::spawn(two.clone().run());
    timeout(TIMEOUT, async { tokio::join!(one.ready(), two.ready()) }).await.unwrap();
    running.abort();
    assert_eq!(status_of(&one, "a.test").not_after, status_of(&two, "a.test").not_after);
    assert_eq!(pebble.orders(), 1, "{}", pebble.log());
    assert_eq!(pebble.accounts(), 1, "{}", pebble.log());
}

#[tokio::test]
async fn orders_again_if_the_stored_certificate_is_unusable() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let first = certificates(acme(&pebble, folder.path()).domain("a.test"));
    server.serve(&first);
    let stored = find_file(folder.path(), "certificate.pem");
    wait_until("the certificate is stored", || stored().is_some()).await;
    std::fs::write(stored().unwrap(), "scribble").unwrap();

    let second = certificates(acme(&pebble, folder.path()).domain("a.test"));
    assert_eq!(status_of(&second, "a.test").not_after, None);
    server.serve(&second);
    timeout(TIMEOUT, second.ready()).await.unwrap();
    server.connect(pebble.issuer(), "a.test").await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn stored_acme_files_are_accessible_only_to_their_owner() {
    use std::os::unix::fs::PermissionsExt;

    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates(acme(&pebble, folder.path()).domain("a.test"));
    server.serve(&certificates);
    let stored = find_file(folder.path(), "certificate.pem");
    wait_until("the certificate is stored", || stored().is_some()).await;
    let all = files_under(folder.path());
    assert!(all.len() > 4, "{all:?}");
    for path in all {
        let metadata = path.metadata().unwrap();
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        let mode = metadata.permissions().mode() & 0o777;
        assert_eq!(mode, expected, "{}", path.display());
    }
}

#[tokio::test]
async fn added_names_get_certificates_and_removed_names_are_no_longer_served() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates(acme(&pebble, folder.path()).domains(["a.test", "b.test"]));
    server.serve(&certificates);
    timeout(TIMEOUT, certificates.ready()).await.unwrap();
    let kept = server.connect(pebble.issuer(), "a.test").await.unwrap().leaf;

    certificates.set_acme_certificates([["a.test"], ["c.test"]]).unwrap();
    timeout(TIMEOUT, certificates.ready()).await.unwrap();
    assert!(server.connect(pebble.issuer(), "c.test").await.is_ok());
    assert_eq!(server.connect(pebble.issuer(), "a.test").await.unwrap().leaf, kept);
    assert!(server.connect(pebble.issuer(), "b.test").await.is_err());

    for names in [["*.a.test", "d.test"], ["a.test", "a.test"]] {
        certificates.set_acme_certificates(names.map(|name| [name])).unwrap_err();
        assert_eq!(certificates.status().len(), 2);
    }

    // One certificate for other names: the previous one is served for its names until it is issued.
    certificates.set_acme_certificates([["a.test", "d.test"]]).unwrap();
    assert_eq!(server.connect(pebble.issuer(), "a.test").await.unwrap().leaf, kept);
    timeout(TIMEOUT, certificates.ready()).await.unwrap();
    let both = server.connect(pebble.issuer(), "d.test").await.unwrap().leaf;
    assert_eq!(server.connect(pebble.issuer(), "a.test").await.unwrap().leaf, both);
    assert_ne!(both, kept);
}

#[test]
fn changing_names_of_a_source_that_is_not_configured_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let local = Certificates::builder().local(LocalCa::new(folder.path())).build().unwrap();
    let error = local.set_acme_certificates([["a.test"]]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot change certificate names: no certificates from the source acme are configured"
    );
    local.set_local_names(["a.test"]).unwrap();
    assert!(local.covers(Some("a.test"), "a.test"));
}
