//! Certificates from a real ACME directory.
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
use rproxy_tls::{Certificates, ClientAuth};
use server::{LONG, Server, acme, certificates, folder_with, of, options, until, walk};
use tokio::time::timeout;

#[tokio::test]
async fn a_certificate_is_issued_over_tls_alpn_01_and_serves() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates(acme(&pebble, folder.path()).domain("A.test"));
    server.serve(&certificates);

    let early = server.visit(pebble.issuer(), "a.test").await;
    assert!(early.is_err(), "no certificate can be there yet");
    timeout(LONG, certificates.ready()).await.unwrap();
    let seen = server.visit(pebble.issuer(), "a.test").await.unwrap();
    assert_eq!(seen.alpn.as_deref(), Some(&b"h2"[..]));
    let status = of(&certificates, "a.test");
    assert!(status.is_valid(SystemTime::now()));
    assert_eq!(status.last_error, None);
}

#[tokio::test]
async fn a_self_signed_certificate_serves_until_there_is_one_if_told_so() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates(acme(&pebble, folder.path()).domain("a.test").stand_in(true));
    assert_eq!(of(&certificates, "a.test").not_after, None, "it is not the one that was asked for");
    // Whoever does not look at the certificate is served.
    let seen = handshake(&trusting(), certificates.server_config(), "a.test").await.unwrap();
    assert_eq!(seen.alpn.as_deref(), Some(&b"h2"[..]));

    server.serve(&certificates);
    timeout(LONG, certificates.ready()).await.unwrap();
    let seen = server.visit(pebble.issuer(), "a.test").await;
    assert!(seen.is_ok(), "{seen:?}");
}

#[tokio::test]
async fn a_name_is_validated_though_clients_have_to_show_certificates() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let acme = acme(&pebble, folder.path()).domain("a.test");
    let auth = ClientAuth::required(pebble.directory_ca());
    let certificates = Certificates::builder().acme(acme).client_auth(auth).build().unwrap();
    server.serve(&certificates);
    timeout(LONG, certificates.ready()).await.unwrap();
    let seen = server.visit(pebble.issuer(), "a.test").await;
    assert!(seen.is_err(), "a client without a certificate is not served");
}

#[tokio::test]
async fn several_names_share_a_certificate_when_asked() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates(acme(&pebble, folder.path()).certificate(["a.test", "b.test"]));
    server.serve(&certificates);
    timeout(LONG, certificates.ready()).await.unwrap();
    let [a, b] = ["a.test", "b.test"].map(|name| server.visit(pebble.issuer(), name));
    assert_eq!(a.await.unwrap().leaf, b.await.unwrap().leaf);
    assert_eq!(pebble.orders(), 1);
    assert!(certificates.covers(Some("a.test"), "b.test"));
    assert!(!certificates.covers(Some("a.test"), "c.test"));
}

#[tokio::test]
async fn a_restart_uses_the_kept_certificate_and_account() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let first = certificates(acme(&pebble, folder.path()).domain("a.test"));
    server.serve(&first);
    timeout(LONG, first.ready()).await.unwrap();
    let before = server.visit(pebble.issuer(), "a.test").await.unwrap();
    let kept = folder_with(folder.path(), "certificate.pem");
    until("the certificate is kept", || kept().is_some()).await;

    // A second name gives the new start something to do, so that having done nothing for the first one shows.
    let second = certificates(acme(&pebble, folder.path()).domains(["a.test", "b.test"]));
    assert!(of(&second, "a.test").is_valid(SystemTime::now()));
    server.serve(&second);
    timeout(LONG, second.ready()).await.unwrap();
    let after = server.visit(pebble.issuer(), "a.test").await.unwrap();
    server.visit(pebble.issuer(), "b.test").await.unwrap();
    assert_eq!(before.leaf, after.leaf);
    assert_eq!(pebble.orders(), 2, "{}", pebble.log());
    assert_eq!(pebble.accounts(), 1, "{}", pebble.log());
}

#[tokio::test]
async fn certificates_that_are_ordered_together_share_one_account() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let names = ["a.test", "b.test", "c.test", "d.test"];
    let certificates = certificates(acme(&pebble, folder.path()).domains(names));
    server.serve(&certificates);
    timeout(LONG, certificates.ready()).await.unwrap();
    for name in names {
        server.visit(pebble.issuer(), name).await.unwrap();
    }
    assert_eq!(pebble.orders(), 4);
    assert_eq!(pebble.accounts(), 1, "{}", pebble.log());
}

#[tokio::test]
async fn a_name_that_is_refused_holds_up_no_other_and_is_not_asked_for_again_until_told() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(PebbleOptions { blocked: vec!["blocked.test".to_owned()], ..options(&server) })
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let first = certificates(acme(&pebble, folder.path()).domains(["blocked.test", "a.test"]));
    server.serve(&first);
    until("a.test is issued", || of(&first, "a.test").not_after.is_some()).await;
    until("blocked.test is refused", || of(&first, "blocked.test").last_error.is_some()).await;
    let error = of(&first, "blocked.test").last_error.unwrap();
    assert!(error.contains("rejectedIdentifier"), "{error}");
    server.visit(pebble.issuer(), "a.test").await.unwrap();
    // Better nothing than the certificate of another name.
    assert!(server.visit(pebble.issuer(), "blocked.test").await.is_err());
    let retry = folder_with(folder.path(), "retry");
    until("the wait is kept", || retry().is_some()).await;
    assert_eq!(pebble.orders(), 2);

    let second = certificates(acme(&pebble, folder.path()).domains(["blocked.test", "a.test"]));
    server.serve(&second);
    second.reload();
    until("blocked.test is asked for again", || pebble.orders() == 3).await;
}

#[tokio::test]
async fn a_restart_does_not_shorten_the_wait_after_a_refusal() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(PebbleOptions { blocked: vec!["blocked.test".to_owned()], ..options(&server) })
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let first = certificates(acme(&pebble, folder.path()).domain("blocked.test"));
    let running = tokio::spawn(first.clone().run());
    let retry = folder_with(folder.path(), "retry");
    until("the wait is kept", || retry().is_some()).await;
    running.abort();

    let second = certificates(acme(&pebble, folder.path()).domains(["blocked.test", "a.test"]));
    server.serve(&second);
    until("a.test is issued", || of(&second, "a.test").not_after.is_some()).await;
    assert_eq!(pebble.orders(), 2, "one for each name: {}", pebble.log());
}

#[tokio::test]
async fn a_directory_that_is_down_is_asked_again_until_it_is_up() {
    let mut server = Server::bind().await;
    let Some(mut pebble) = Pebble::prepare(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates(acme(&pebble, folder.path()).domain("a.test"));
    server.serve(&certificates);
    until("the directory is missed", || of(&certificates, "a.test").last_error.is_some()).await;
    pebble.launch();
    timeout(LONG, certificates.ready()).await.unwrap();
    assert_eq!(of(&certificates, "a.test").last_error, None);
    server.visit(pebble.issuer(), "a.test").await.unwrap();
}

#[tokio::test]
async fn a_directory_that_wants_other_nonces_gets_them_within_the_order() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(PebbleOptions { bad_nonces: 25, ..options(&server) }) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let names = ["a.test", "b.test"];
    let certificates = certificates(acme(&pebble, folder.path()).certificate(names));
    server.serve(&certificates);
    timeout(LONG, certificates.ready()).await.unwrap();
    server.visit(pebble.issuer(), "a.test").await.unwrap();
}

#[tokio::test]
async fn a_short_lived_certificate_is_renewed_before_it_ends() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(PebbleOptions { validity: Some(Duration::from_secs(12)), ..options(&server) })
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates(acme(&pebble, folder.path()).domain("a.test"));
    server.serve(&certificates);
    timeout(LONG, certificates.ready()).await.unwrap();
    let first = of(&certificates, "a.test").not_after;
    let before = server.visit(pebble.issuer(), "a.test").await.unwrap();
    until("a later certificate", || of(&certificates, "a.test").not_after > first).await;
    assert!(SystemTime::now() < first.unwrap(), "renewed too late");
    let after = server.visit(pebble.issuer(), "a.test").await.unwrap();
    assert_ne!(before.leaf, after.leaf);
    assert_eq!(pebble.accounts(), 1, "{}", pebble.log());
}

#[tokio::test]
async fn an_account_is_bound_to_an_external_one() {
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
    until("a wrong key is refused", || of(&wrong, "a.test").last_error.is_some()).await;
    running.abort();
    assert_eq!(pebble.orders(), 0);

    let right = certificates(
        acme(&pebble, tempfile::tempdir().unwrap().path()).domain("a.test").external_account("kid-1", key),
    );
    server.serve(&right);
    timeout(LONG, right.ready()).await.unwrap();
    server.visit(pebble.issuer(), "a.test").await.unwrap();
}

#[tokio::test]
async fn two_servers_on_one_folder_order_once() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = [(); 2].map(|()| certificates(acme(&pebble, folder.path()).domain("a.test")));
    server.serve(&one);
    // The second is not reached by the directory: it has the certificate from the folder, or not at all.
    let lock = folder_with(folder.path(), "lock");
    until("the first one orders", || lock().is_some()).await;
    let running = tokio::spawn(two.clone().run());
    timeout(LONG, async { tokio::join!(one.ready(), two.ready()) }).await.unwrap();
    running.abort();
    assert_eq!(of(&one, "a.test").not_after, of(&two, "a.test").not_after);
    assert_eq!(pebble.orders(), 1, "{}", pebble.log());
    assert_eq!(pebble.accounts(), 1, "{}", pebble.log());
}

#[tokio::test]
async fn a_kept_certificate_that_is_damaged_is_ordered_anew() {
    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let first = certificates(acme(&pebble, folder.path()).domain("a.test"));
    server.serve(&first);
    let kept = folder_with(folder.path(), "certificate.pem");
    until("the certificate is kept", || kept().is_some()).await;
    std::fs::write(kept().unwrap(), "scribble").unwrap();

    let second = certificates(acme(&pebble, folder.path()).domain("a.test"));
    assert_eq!(of(&second, "a.test").not_after, None);
    server.serve(&second);
    timeout(LONG, second.ready()).await.unwrap();
    server.visit(pebble.issuer(), "a.test").await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_what_is_kept() {
    use std::os::unix::fs::PermissionsExt;

    let mut server = Server::bind().await;
    let Some(pebble) = Pebble::start(options(&server)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = certificates(acme(&pebble, folder.path()).domain("a.test"));
    server.serve(&certificates);
    let kept = folder_with(folder.path(), "certificate.pem");
    until("the certificate is kept", || kept().is_some()).await;
    let all = walk(folder.path());
    assert!(all.len() > 4, "{all:?}");
    for path in all {
        let metadata = path.metadata().unwrap();
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        let mode = metadata.permissions().mode() & 0o777;
        assert_eq!(mode, expected, "{}", path.display());
    }
}
