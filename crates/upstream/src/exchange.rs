//! One request, one response: which backend, and another one where that is safe.

use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use tokio::time::{Instant, timeout};

use crate::attempt::{Failure, attempt};
use crate::body::{Lease, RequestBody, UpstreamBody};
use crate::deadline::Patience;
use crate::error::{BoxError, ProxyError};
use crate::service::{Link, Worker};

/// Makes the exchange, which is to end before `until`.
pub(crate) async fn exchange<B>(
    worker: &Worker<B>,
    request: &mut Request<RequestBody<B>>,
    until: Option<Instant>,
) -> Response<UpstreamBody<B>>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let settings = &worker.settings;
    let patience = Patience { head: settings.timeout, silence: settings.read_timeout, until };
    let mut course = Course { key: key(worker, request), tried: Vec::new(), repeated: 0, hold: Hold::Not, error: None };
    loop {
        let Some(link) = worker.bound(request, &course).or_else(|| worker.choose(&course)) else {
            // Nobody is left to ask.
            match Box::pin(course.hold(worker)).await {
                true => continue,
                false => return course.into_error(worker).into_response(),
            }
        };
        let mut lease = settings.balance.counts_pending().then(|| Lease::pending(&link.member));
        match attempt(settings, link, request, patience, &mut lease).await {
            Ok(response) => {
                settings.budget.succeeded();
                return response.map(|body| body.holding(lease));
            }
            Err(failure) => {
                if !course.goes_on(worker, link, failure) {
                    return course.into_error(worker).into_response();
                }
            }
        }
    }
}

/// The hash of the request's key, if the balance asks for one.
fn key<B>(worker: &Worker<B>, request: &mut Request<RequestBody<B>>) -> Option<u64>
where
    B: Body + 'static,
{
    let balance = &worker.settings.balance;
    if worker.links.len() == 1 || !balance.has_key() {
        return None;
    }
    let (head, body) = std::mem::replace(request, Request::new(RequestBody::empty())).into_parts();
    let key = balance.key(&head, worker.settings.hash_key);
    *request = Request::from_parts(head, body);
    key
}

/// What has become of a request so far.
pub(crate) struct Course {
    pub(crate) key: Option<u64>,
    /// The indices of backends that failed.
    pub(crate) tried: Vec<usize>,
    /// How often it was sent, in whole or in part, and then again.
    repeated: u32,
    hold: Hold,
    error: Option<ProxyError>,
}

enum Hold {
    Not,
    Until(Instant),
    Never,
}

impl Course {
    /// Whether the request is to be tried with another backend.
    fn goes_on<B>(&mut self, worker: &Worker<B>, link: &Link<B>, failure: Failure) -> bool
    where
        B: Body + 'static,
    {
        let Failure { is_repeatable, was_sent, error } = failure;
        self.error = Some(error.at(&link.member.name));
        self.tried.push(link.index);
        if was_sent {
            // It was somebody's turn to answer it; it has not waited for one.
            self.hold = Hold::Never;
            let may_repeat = worker.settings.budget.failed() && self.repeated < worker.settings.retries;
            self.repeated += 1;
            return is_repeatable && may_repeat;
        }
        true
    }

    /// Waits for a backend to come back, for as long as requests are held; whether to ask again.
    async fn hold<B: Body + 'static>(&mut self, worker: &Worker<B>) -> bool {
        let settings = &*worker.settings;
        let until = match self.hold {
            Hold::Never => return false,
            Hold::Not => Instant::now() + settings.hold,
            Hold::Until(until) => until,
        };
        self.hold = Hold::Until(until);
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let recovered = settings.recovered.notified();
        let wait = worker.soonest().max(SHORTEST_WAIT).min(left);
        // Either way it is time to look again.
        let _ = timeout(wait, recovered).await;
        self.tried.clear();
        true
    }

    fn into_error<B: Body + 'static>(self, worker: &Worker<B>) -> ProxyError {
        self.error.unwrap_or_else(|| ProxyError::unavailable(worker.soonest()))
    }
}

/// Between two looks at backends that are down.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
