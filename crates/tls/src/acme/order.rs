//! A single ACME order (RFC 8555 §7.4), from the account to the issued certificate.
//!
//! The requests are those of tokio-rustls-acme, but not their sequence: the other machines must know a challenge
//! before the ACME server validates it.

use std::{sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::{ClientConfig, sign::CertifiedKey};
use tokio::time::sleep;
use tokio_rustls_acme::acme::{
    Account as AcmeAccount, AcmeError, AuthStatus, Directory, ExternalAccountKey, Identifier, OrderStatus,
};

use super::{
    account::Account,
    challenge::{ChallengeGuard, key_authorization_digest},
    failure::{Failure, is_bad_nonce},
};
use crate::resolver::CertificateResolver;

/// Orders a certificate for these names, and returns the private key and the chain as PEM.
pub(super) async fn place_order(
    account: &Account,
    names: &[String],
    resolver: &Arc<CertificateResolver>,
) -> Result<Vec<u8>, Failure> {
    let key = account.key().await?;
    let client = account.client();
    let directory = retry_bad_nonce(|| Directory::discover(client, account.directory())).await?;
    let external = account.external().map(|external| ExternalAccountKey::new(external.kid.clone(), &external.key));
    let contacts = account.contacts();
    let registered =
        retry_bad_nonce(|| AcmeAccount::create_with_keypair(client, directory.clone(), contacts, &key, &external))
            .await?;
    OrderClient { account, registered: &registered, client, resolver }.order(names).await
}

struct OrderClient<'a> {
    account: &'a Account,
    registered: &'a AcmeAccount,
    client: &'a Arc<ClientConfig>,
    resolver: &'a Arc<CertificateResolver>,
}

impl OrderClient<'_> {
    async fn order(&self, names: &[String]) -> Result<Vec<u8>, Failure> {
        let Self { registered, client, .. } = *self;
        let key = KeyPair::generate().map_err(Failure::from_local)?;
        let request = signing_request(names, &key).map_err(Failure::from_local)?;
        let (url, mut order) = retry_bad_nonce(|| registered.new_order(client, names.to_vec())).await?;
        let mut interval = PollInterval::default();
        loop {
            // RFC 8555 §7.1.6: the states of an order.
            let next = match &order.status {
                OrderStatus::Pending => {
                    try_join_all(order.authorizations.iter().map(|url| self.authorize(url))).await?;
                    retry_bad_nonce(|| registered.order(client, &url)).await?
                }
                OrderStatus::Ready => {
                    retry_bad_nonce(|| registered.finalize(client, &order.finalize, request.clone())).await?
                }
                OrderStatus::Processing => retry_bad_nonce(|| registered.order(client, &url)).await?,
                OrderStatus::Valid { certificate } => {
                    let chain = retry_bad_nonce(|| registered.certificate(client, certificate)).await?;
                    return Ok([key.serialize_pem(), chain].concat().into_bytes());
                }
                OrderStatus::Invalid => return Err(Failure::from_order(&order)),
            };
            if next.status == order.status || next.status == OrderStatus::Processing {
                interval.wait().await;
            }
            order = next;
        }
    }

    /// Completes an authorization by TLS-ALPN-01 (RFC 8737 §3).
    async fn authorize(&self, url: &str) -> Result<(), Failure> {
        let Self { registered, client, .. } = *self;
        let authorization = retry_bad_nonce(|| registered.auth(client, url)).await?;
        let Identifier::Dns(name) = &authorization.identifier;
        match authorization.status {
            AuthStatus::Valid => return Ok(()),
            AuthStatus::Pending => {}
            _ => return Err(Failure::from_authorization(&authorization)),
        }
        let (challenge, certificate) =
            registered.tls_alpn_01(&authorization.challenges, name.clone()).map_err(Failure::from_request)?;
        let _guard = self.serve_challenge(name, certificate).await?;
        retry_bad_nonce(|| registered.challenge(client, &challenge.url)).await?;
        let mut interval = PollInterval::default();
        loop {
            interval.wait().await;
            let authorization = retry_bad_nonce(|| registered.auth(client, url)).await?;
            match authorization.status {
                AuthStatus::Valid => return Ok(()),
                AuthStatus::Pending => {}
                _ => return Err(Failure::from_authorization(&authorization)),
            }
        }
    }

    /// Serves the challenge certificate on this machine and on all machines that share the account.
    async fn serve_challenge(&self, name: &str, certificate: CertifiedKey) -> Result<ChallengeGuard, Failure> {
        if let Some(peers) = self.account.peers() {
            let digest = key_authorization_digest(&certificate)
                .ok_or_else(|| Failure::from_local("the challenge certificate contains no key authorization"))?;
            peers.publish_challenge(name, digest).await.map_err(|error| {
                Failure::transient(format!("cannot share the ACME challenge with other machines: {error}"))
            })?;
        }
        Ok(self.resolver.challenges().serve(name, Arc::new(certificate)))
    }
}

/// Builds the certificate signing request (RFC 2986) with only the names and the key, which ACME requires.
fn signing_request(names: &[String], key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

/// Sends an ACME request, and repeats it with a new nonce after a `badNonce` error (RFC 8555 §6.5).
async fn retry_bad_nonce<T, F>(send: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, AcmeError>>,
{
    for _ in 1..MAX_ATTEMPTS {
        match send().await {
            Err(error) if is_bad_nonce(&error) => {}
            result => return result.map_err(Failure::from_request),
        }
    }
    send().await.map_err(Failure::from_request)
}

const MAX_ATTEMPTS: u32 = 5;

/// The interval between polls of the order status, which doubles up to a maximum.
struct PollInterval(Duration);

impl PollInterval {
    async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(8));
    }
}

impl Default for PollInterval {
    fn default() -> Self {
        Self(Duration::from_millis(250))
    }
}
