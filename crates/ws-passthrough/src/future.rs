//! The response future and the response body of [`WsPassthroughService`](crate::WsPassthroughService).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Response, StatusCode};
use pin_project_lite::pin_project;
use rproxy_core::ResponseBody;

use crate::decision::WsDecision;
use crate::handshake::UpgradeMethod;
use crate::pending_handshake::PendingHandshake;
use crate::rejection::WsRejection;

pin_project! {
    /// The response future of [`WsPassthroughService`](crate::WsPassthroughService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProject]
    enum Kind<F> {
        Rejected { rejection: WsRejection, method: UpgradeMethod },
        Forwarded { #[pin] inner: F, upgrade: Option<ForwardedUpgrade> },
    }
}

/// The upgrade requested by a forwarded request.
enum ForwardedUpgrade {
    Ignored,
    Handshake(Box<PendingHandshake>),
}

impl<F> ResponseFuture<F> {
    pub(crate) fn forwarded(inner: F) -> Self {
        Self { kind: Kind::Forwarded { inner, upgrade: None } }
    }

    pub(crate) fn upgrade_ignored(inner: F) -> Self {
        Self { kind: Kind::Forwarded { inner, upgrade: Some(ForwardedUpgrade::Ignored) } }
    }

    pub(crate) fn handshake(inner: F, handshake: Box<PendingHandshake>) -> Self {
        Self { kind: Kind::Forwarded { inner, upgrade: Some(ForwardedUpgrade::Handshake(handshake)) } }
    }

    pub(crate) fn rejected(rejection: WsRejection, method: UpgradeMethod) -> Self {
        Self { kind: Kind::Rejected { rejection, method } }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (inner, upgrade) = match self.project().kind.project() {
            KindProject::Rejected { rejection, method } => return Poll::Ready(Ok(rejection.response(*method))),
            KindProject::Forwarded { inner, upgrade } => (inner, upgrade),
        };
        let mut response = ready!(inner.poll(cx))?;
        let is_ignored = match upgrade.take() {
            Some(ForwardedUpgrade::Handshake(handshake)) => return Poll::Ready(Ok(handshake.finish(response))),
            Some(ForwardedUpgrade::Ignored) => true,
            None => false,
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // RFC 9110 §7.8: a server must not switch to a protocol that the client did not request.
            return Poll::Ready(Ok(WsRejection::InvalidSwitch.response(UpgradeMethod::Upgrade)));
        }
        if is_ignored {
            response.extensions_mut().insert(WsDecision::Ignored);
        }
        Poll::Ready(Ok(response.map(ResponseBody::inner)))
    }
}
