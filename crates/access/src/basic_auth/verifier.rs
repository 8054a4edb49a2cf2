//! The verification of passwords, which are expensive to check.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

use super::credentials::Credentials;
use super::failures::Failures;
use super::users::Users;

/// Verifies credentials with bounded concurrency, and remembers for a short time which ones were right.
pub(crate) struct Verifier {
    users: Users,
    /// The keyed state for [`Tag`]s. The key is random.
    mac: Hmac<Sha256>,
    cache_time: Duration,
    permits: Arc<Semaphore>,
    max_pending: usize,
    state: Mutex<State>,
}

/// A MAC of a user name and a password. Without the key, it reveals nothing about them, nor does the time of a comparison.
pub(crate) type Tag = [u8; 32];

struct State {
    /// The right credentials of each user, by the index of the user, and the time until which they need no verification.
    verified: Vec<Option<(Tag, Instant)>>,
    /// The verifications that have not ended: at most `max_pending`, and one for each user in `verified`.
    pending: HashMap<Tag, watch::Receiver<Option<Verdict>>>,
    failures: Failures,
}

/// The index of the user, or `None` if the credentials are wrong.
type Verdict = Option<usize>;

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Right(Arc<str>),
    Wrong,
    /// The client had too many failed attempts, and may try again after this time.
    TooManyFailures(Duration),
    /// Too many verifications are pending.
    Busy,
}

/// The part that a request has in the verification of its credentials.
enum Role {
    /// The request verifies them.
    Leader(Leader),
    /// Another request verifies the same credentials.
    Follower(watch::Receiver<Option<Verdict>>),
    None(Outcome),
}

/// A pending verification, which is removed when it is dropped.
struct Leader {
    verifier: Arc<Verifier>,
    tag: Tag,
    /// The client that was charged for the attempt, if any.
    charged: Option<IpAddr>,
    verdict: watch::Sender<Option<Verdict>>,
    is_finished: bool,
}

impl Verifier {
    pub(crate) fn new(
        users: Users,
        key: [u8; 64],
        failures: Failures,
        cache_time: Duration,
        max_concurrent: NonZeroUsize,
        max_pending: NonZeroUsize,
    ) -> Self {
        let state = State { verified: vec![None; users.len()], pending: HashMap::new(), failures };
        Self {
            users,
            mac: Hmac::new(&key.into()),
            cache_time,
            permits: Arc::new(Semaphore::new(max_concurrent.get())),
            max_pending: max_pending.get(),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the name of the user if the credentials were verified recently, and their tag otherwise.
    pub(crate) fn recall(&self, credentials: &Credentials) -> Result<Arc<str>, Tag> {
        let mut mac = self.mac.clone();
        mac.update(credentials.as_bytes());
        let tag: Tag = mac.finalize().into_bytes().into();
        let Some(index) = self.users.index(credentials.user()) else { return Err(tag) };
        let is_verified = match self.state().verified.get(index) {
            Some(Some((verified, until))) => *verified == tag && now() < *until,
            _ => false,
        };
        self.users.name(index).filter(|_| is_verified).cloned().ok_or(tag)
    }

    /// Verifies credentials that are not [recalled](Self::recall), on a thread for blocking work.
    pub(crate) async fn verify(self: Arc<Self>, credentials: Credentials, tag: Tag, client: IpAddr) -> Outcome {
        loop {
            match Self::role(&self, &credentials, tag, client) {
                Role::None(outcome) => return outcome,
                Role::Leader(leader) => return self.lead(leader, credentials).await,
                Role::Follower(mut verdict) => {
                    // An error means that the leader's client disconnected before the verification began.
                    if let Ok(verdict) = verdict.wait_for(Option::is_some).await {
                        return self.outcome(verdict.flatten());
                    }
                }
            }
        }
    }

    fn role(this: &Arc<Self>, credentials: &Credentials, tag: Tag, client: IpAddr) -> Role {
        let mut state = this.state();
        if let Some(verdict) = state.pending.get(&tag) {
            return Role::Follower(verdict.clone());
        }
        // Credentials that were right before are no guess: an attacker's attempts do not delay them. There is one for each user.
        let index = this.users.index(credentials.user());
        let verified = index.and_then(|index| state.verified.get(index).copied().flatten());
        let charged = verified.is_none_or(|(verified, _)| verified != tag).then_some(client);
        if charged.is_some() && state.pending.len() >= this.max_pending {
            return Role::None(Outcome::Busy);
        }
        // Charged before the verification, so that a client cannot have more attempts at once than in sequence.
        if let Some(client) = charged
            && let Err(wait) = state.failures.charge(client, now())
        {
            return Role::None(Outcome::TooManyFailures(wait));
        }
        let (verdict, receiver) = watch::channel(None);
        state.pending.insert(tag, receiver);
        Role::Leader(Leader { verifier: Arc::clone(this), tag, charged, verdict, is_finished: false })
    }

    async fn lead(&self, leader: Leader, credentials: Credentials) -> Outcome {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return Outcome::Busy };
        let verification = spawn_blocking(move || {
            let verdict = leader.verifier.users.verify(credentials.user(), credentials.password());
            leader.finish(verdict);
            drop(permit);
            verdict
        });
        match verification.await {
            Ok(verdict) => self.outcome(verdict),
            Err(_) => Outcome::Busy,
        }
    }

    fn outcome(&self, verdict: Verdict) -> Outcome {
        match verdict.and_then(|index| self.users.name(index)) {
            Some(name) => Outcome::Right(Arc::clone(name)),
            None => Outcome::Wrong,
        }
    }
}

impl Leader {
    fn finish(mut self, verdict: Verdict) {
        self.is_finished = true;
        let mut state = self.verifier.state();
        if let Some(index) = verdict {
            if let Some(client) = self.charged {
                state.failures.refund(client);
            }
            if let Some(verified) = state.verified.get_mut(index) {
                *verified = Some((self.tag, now() + self.verifier.cache_time));
            }
        }
        drop(state);
        self.verdict.send_replace(Some(verdict));
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let mut state = self.verifier.state();
        state.pending.remove(&self.tag);
        // Nothing was verified.
        if let Some(client) = self.charged.filter(|_| !self.is_finished) {
            state.failures.refund(client);
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures = self.state().failures.per_minute();
        f.debug_struct("Verifier").field("users", &self.users).field("failures", &failures).finish_non_exhaustive()
    }
}

/// The time of tokio, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use base64::prelude::{BASE64_STANDARD, Engine};
    use http::header::AUTHORIZATION;
    use http::{HeaderMap, HeaderValue};
    use tokio::task::JoinSet;

    use super::*;

    fn verifier(per_minute: u32, max_pending: usize) -> Arc<Verifier> {
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        let users = Users::parse(&format!("alice:{}\nbob:{}\n", hash("open"), hash("sesame"))).unwrap();
        let failures = Failures::new(NonZeroU32::new(per_minute).unwrap());
        let (one, max_pending) = (NonZeroUsize::MIN, NonZeroUsize::new(max_pending).unwrap());
        Arc::new(Verifier::new(users, [7; 64], failures, Duration::from_secs(60), one, max_pending))
    }

    fn credentials(text: &str) -> Credentials {
        let field = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(text))).unwrap();
        Credentials::of(&HeaderMap::from_iter([(AUTHORIZATION, field)])).unwrap()
    }

    async fn verify(verifier: &Arc<Verifier>, text: &str, client: [u8; 4]) -> Outcome {
        let credentials = credentials(text);
        match verifier.recall(&credentials) {
            Ok(name) => Outcome::Right(name),
            Err(tag) => Arc::clone(verifier).verify(credentials, tag, client.into()).await,
        }
    }

    const CLIENT: [u8; 4] = [192, 0, 2, 1];

    #[tokio::test]
    async fn remembers_right_credentials_for_the_cache_time() {
        let verifier = verifier(5, 8);
        let alice = credentials("alice:open");
        assert!(verifier.recall(&alice).is_err());
        assert_eq!(verify(&verifier, "alice:open", CLIENT).await, Outcome::Right("alice".into()));
        assert_eq!(verifier.recall(&alice).unwrap(), "alice".into());
        for other in ["alice:sesame", "alice:open ", "bob:open", "carol:open", "alice:"] {
            assert!(verifier.recall(&credentials(other)).is_err(), "{other}");
            assert_eq!(verify(&verifier, other, [192, 0, 2, 2]).await, Outcome::Wrong, "{other}");
        }
        assert!(verifier.recall(&alice).is_ok(), "wrong attempts do not evict right credentials");
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(verifier.recall(&alice).is_err());
    }

    #[tokio::test]
    async fn limits_failures_per_client_but_not_right_credentials() {
        let verifier = verifier(3, 8);
        for attempt in 0..20 {
            assert_eq!(verify(&verifier, "bob:sesame", CLIENT).await, Outcome::Right("bob".into()), "{attempt}");
            verifier.state().verified[1] = None;
        }
        for _ in 0..3 {
            assert_eq!(verify(&verifier, "alice:guess", CLIENT).await, Outcome::Wrong);
        }
        let Outcome::TooManyFailures(wait) = verify(&verifier, "alice:open", CLIENT).await else { panic!() };
        assert!(wait > Duration::from_secs(15) && wait <= Duration::from_secs(20), "{wait:?}");
        assert_eq!(verify(&verifier, "alice:open", [192, 0, 2, 2]).await, Outcome::Right("alice".into()));
        // Verified credentials are not limited, nor when they must be verified again.
        assert_eq!(verify(&verifier, "alice:open", CLIENT).await, Outcome::Right("alice".into()));
        verifier.state().verified[0].as_mut().unwrap().1 = now();
        assert!(verifier.recall(&credentials("alice:open")).is_err());
        assert_eq!(verify(&verifier, "alice:open", CLIENT).await, Outcome::Right("alice".into()));
        let Outcome::TooManyFailures(_) = verify(&verifier, "alice:other", CLIENT).await else { panic!() };
    }

    #[tokio::test]
    async fn concurrent_requests_with_the_same_credentials_share_one_verification() {
        let verifier = verifier(1, 1);
        for (text, expected) in [("alice:open", Outcome::Right("alice".into())), ("alice:guess", Outcome::Wrong)] {
            // The verification begins when all requests wait for it.
            let all = verifier.permits.clone().acquire_owned().await.unwrap();
            let mut requests = JoinSet::new();
            for _ in 0..100 {
                let (verifier, credentials) = (Arc::clone(&verifier), credentials(text));
                let tag = verifier.recall(&credentials).unwrap_err();
                requests.spawn(verifier.verify(credentials, tag, CLIENT.into()));
            }
            tokio::task::yield_now().await;
            drop(all);
            // One failure is allowed, and one pending verification.
            while let Some(outcome) = requests.join_next().await {
                assert_eq!(outcome.unwrap(), expected);
            }
        }
        assert!(verifier.state().pending.is_empty());
    }

    #[tokio::test]
    async fn pending_verifications_are_bounded() {
        let verifier = verifier(100, 4);
        let all = verifier.permits.clone().acquire_owned().await.unwrap();
        let mut waiting = JoinSet::new();
        for number in 0..4 {
            let (verifier, credentials) = (Arc::clone(&verifier), credentials(&format!("alice:{number}")));
            let tag = verifier.recall(&credentials).unwrap_err();
            waiting.spawn(verifier.verify(credentials, tag, CLIENT.into()));
        }
        tokio::task::yield_now().await;
        assert_eq!(verifier.state().pending.len(), 4);
        assert_eq!(verify(&verifier, "alice:open", [192, 0, 2, 2]).await, Outcome::Busy);
        drop(all);
        assert_eq!(waiting.join_all().await, [const { Outcome::Wrong }; 4]);
        assert_eq!(verify(&verifier, "alice:open", [192, 0, 2, 2]).await, Outcome::Right("alice".into()));
    }

    #[tokio::test]
    async fn another_request_verifies_if_the_client_of_the_first_disconnects() {
        let verifier = verifier(1, 4);
        let all = verifier.permits.clone().acquire_owned().await.unwrap();
        let start = || {
            let (verifier, credentials) = (Arc::clone(&verifier), credentials("alice:open"));
            let tag = verifier.recall(&credentials).unwrap_err();
            tokio::spawn(verifier.verify(credentials, tag, CLIENT.into()))
        };
        let (first, second) = (start(), start());
        tokio::task::yield_now().await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        drop(all);
        assert_eq!(second.await.unwrap(), Outcome::Right("alice".into()));
        assert!(verifier.state().pending.is_empty());
    }
}
