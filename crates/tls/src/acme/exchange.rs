//! One order with the directory (RFC 8555 §7.4): from the account to the certificate.
//!
//! tokio-rustls-acme speaks to the directory; the order of what is said is here, because its own has no place between
//! a challenge that is known and a directory that is told to look: other machines have to know the challenge by then.

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
    challenge,
    failure::{Failure, is_bad_nonce},
};
use crate::shelf::Shelf;

/// Orders a certificate for these names. The answer is PEM: the key, then the chain.
pub(super) async fn order(account: &Account, names: &[String], shelf: &Arc<Shelf>) -> Result<Vec<u8>, Failure> {
    let key = account.key().await?;
    let client = account.client();
    let directory = again(|| Directory::discover(client, account.directory())).await?;
    let external = account.external().map(|external| ExternalAccountKey::new(external.kid.clone(), &external.key));
    let contacts = account.contacts();
    let signed =
        again(|| AcmeAccount::create_with_keypair(client, directory.clone(), contacts, &key, &external)).await?;
    Exchange { account, signed: &signed, client, shelf }.certificate(names).await
}

struct Exchange<'a> {
    account: &'a Account,
    signed: &'a AcmeAccount,
    client: &'a Arc<ClientConfig>,
    shelf: &'a Arc<Shelf>,
}

impl Exchange<'_> {
    async fn certificate(&self, names: &[String]) -> Result<Vec<u8>, Failure> {
        let Self { signed, client, .. } = *self;
        let key = KeyPair::generate().map_err(Failure::ours)?;
        let request = request(names, &key).map_err(Failure::ours)?;
        let (url, mut order) = again(|| signed.new_order(client, names.to_vec())).await?;
        let mut pace = Pace::default();
        loop {
            // RFC 8555 §7.1.6: the states of an order.
            let next = match &order.status {
                OrderStatus::Pending => {
                    try_join_all(order.authorizations.iter().map(|url| self.authorize(url))).await?;
                    again(|| signed.order(client, &url)).await?
                }
                OrderStatus::Ready => again(|| signed.finalize(client, &order.finalize, request.clone())).await?,
                OrderStatus::Processing => again(|| signed.order(client, &url)).await?,
                OrderStatus::Valid { certificate } => {
                    let chain = again(|| signed.certificate(client, certificate)).await?;
                    return Ok([key.serialize_pem(), chain].concat().into_bytes());
                }
                OrderStatus::Invalid => return Err(Failure::of_order(&order)),
            };
            if next.status == order.status || next.status == OrderStatus::Processing {
                pace.wait().await;
            }
            order = next;
        }
    }

    /// Proves that a name is ours (RFC 8737 §3).
    async fn authorize(&self, url: &str) -> Result<(), Failure> {
        let Self { signed, client, .. } = *self;
        let authorization = again(|| signed.auth(client, url)).await?;
        let Identifier::Dns(name) = &authorization.identifier;
        match authorization.status {
            AuthStatus::Valid => return Ok(()),
            AuthStatus::Pending => {}
            _ => return Err(Failure::of_authorization(&authorization)),
        }
        let (challenge, answer) =
            signed.tls_alpn_01(&authorization.challenges, name.clone()).map_err(Failure::of_request)?;
        let _answering = self.answer(name, answer).await?;
        again(|| signed.challenge(client, &challenge.url)).await?;
        let mut pace = Pace::default();
        loop {
            pace.wait().await;
            let authorization = again(|| signed.auth(client, url)).await?;
            match authorization.status {
                AuthStatus::Valid => return Ok(()),
                AuthStatus::Pending => {}
                _ => return Err(Failure::of_authorization(&authorization)),
            }
        }
    }

    /// From here on the challenge is answered, whichever of the machines the directory reaches.
    async fn answer(&self, name: &str, answer: CertifiedKey) -> Result<challenge::Answering, Failure> {
        if let Some(peers) = self.account.peers() {
            let proof = challenge::proof(&answer).ok_or_else(|| Failure::ours("the challenge proves nothing"))?;
            peers.tell(name, proof).await.map_err(|error| Failure::unreachable(format!("other machines: {error}")))?;
        }
        Ok(self.shelf.challenges().answer(name, Arc::new(answer)))
    }
}

/// The signing request (RFC 2986); all that counts in it are names and key.
fn request(names: &[String], key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

/// RFC 8555 §6.5: a request whose nonce was used up is sent again with another one.
async fn again<T, F>(ask: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, AcmeError>>,
{
    for _ in 1..ATTEMPTS {
        match ask().await {
            Err(error) if is_bad_nonce(&error) => {}
            answer => return answer.map_err(Failure::of_request),
        }
    }
    ask().await.map_err(Failure::of_request)
}

const ATTEMPTS: u32 = 5;

/// How often to ask whether the directory is done: soon, then less and less often.
struct Pace(Duration);

impl Pace {
    async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(8));
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self(Duration::from_millis(250))
    }
}
