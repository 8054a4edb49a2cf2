//! The service of a connection, which adds extensions to its requests.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use http::uri::Scheme;
use http::{Extensions, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use rproxy_client_ip::PeerAddr;
use rproxy_core::{RejectedHead, TlsInfo};
use tower_service::Service;

use crate::box_error::BoxError;
use crate::protocol::close_connection::CloseConnection;
use crate::protocol::http1::YieldBudget;
use crate::protocol::loopback_client::LoopbackClient;
use crate::protocol::request_body::RequestBody;

/// The service of one connection, with the extensions for its requests.
#[derive(Clone)]
pub(crate) struct ConnectionService<S> {
    pub(crate) inner: S,
    pub(crate) peer: PeerAddr,
    pub(crate) is_loopback: bool,
    /// The TLS session of the connection. Boxed to keep idle connections without TLS small.
    pub(crate) tls: Option<Box<TlsInfo>>,
    pub(crate) client_connection: Arc<OnceLock<ClientConnection>>,
}

/// Request extension: state that is stored for a client connection, and dropped with it.
///
/// It holds, for example, a backend connection that the client has authenticated. It is present from the first request
/// with connection-based authentication (NTLM, Negotiate).
///
/// Like [`InterimRelay`](crate::InterimRelay), it is an alias of a standard type, so that other crates can use the
/// extension without depending on this one.
pub type ClientConnection = Arc<Mutex<Extensions>>;

impl<S> ConnectionService<S> {
    /// Adds the connection's extensions to a request.
    pub(crate) fn extend<B>(&self, request: &mut Request<B>) {
        let has_client_connection =
            self.client_connection.get().is_some() || authenticates_connection(request.headers());
        let extensions = request.extensions_mut();
        if extensions.is_empty() {
            extensions.clone_from(&EMPTY_WITH_CAPACITY);
        }
        extensions.insert(self.peer);
        extensions.insert(if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
        if self.is_loopback {
            extensions.insert(LoopbackClient);
        }
        if let Some(tls) = &self.tls {
            extensions.insert(TlsInfo::clone(tls));
        }
        if has_client_connection {
            extensions.insert(ClientConnection::clone(self.client_connection.get_or_init(Arc::default)));
        }
    }
}

/// Returns whether the fields authenticate the connection instead of a single request (RFC 4559 §4).
///
/// `Proxy-Authorization` is for the first proxy, which this is, and not for the backend (RFC 9110 §11.7.2).
fn authenticates_connection(headers: &HeaderMap) -> bool {
    let is_scheme = |value: &HeaderValue| {
        let scheme = value.as_bytes().split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
    };
    headers.get(AUTHORIZATION).is_some_and(is_scheme)
}

impl<S, B> hyper::service::Service<Request<Incoming>> for ConnectionService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<YieldingBody<B>>;
    type Error = BoxError;
    type Future = CallFuture<S, S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.begin(request.map(RequestBody::from))
    }
}

impl<S, B> ConnectionService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
{
    /// Passes a rejected head to the service, and drops its response, because h2 already responded to the client.
    pub(crate) fn reject(&self, rejected: RejectedHead) -> impl Future<Output = ()> + use<S, B>
    where
        B: Body,
    {
        let mut request = Request::new(RequestBody::default());
        *request.version_mut() = Version::HTTP_2;
        request.extensions_mut().insert(rejected);
        let response = self.begin(request);
        async move {
            let Ok(response) = response.await else { return };
            let mut body = pin!(response.into_body());
            // Read to its end, so that it counts as complete in metrics and logs.
            while let Some(Ok(_)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {}
        }
    }

    fn begin(&self, mut request: Request<RequestBody>) -> CallFuture<S, S::Future> {
        self.extend(&mut request);
        CallFuture { stage: Stage::Waiting { service: self.inner.clone(), request: Some(request) } }
    }
}

/// Empty request extensions with spare capacity, which avoids a rehash per request.
static EMPTY_WITH_CAPACITY: LazyLock<Extensions> = LazyLock::new(|| {
    let mut extensions = Extensions::new();
    // A clone has the capacity of the original, even after `clear`.
    extensions.insert([(); 0]);
    extensions.insert([(); 1]);
    extensions.insert([(); 2]);
    extensions.insert([(); 3]);
    extensions.clear();
    extensions
});

pin_project! {
    /// A future that waits until the service is ready, calls it, and waits for its response.
    pub(crate) struct CallFuture<S, F> {
        #[pin]
        stage: Stage<S, F>,
    }
}

pin_project! {
    #[project = StageProject]
    enum Stage<S, F> {
        Waiting { service: S, request: Option<Request<RequestBody>> },
        Called { #[pin] future: F },
    }
}

impl<S, B> Future for CallFuture<S, S::Future>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response<YieldingBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.stage.as_mut().project() {
                StageProject::Waiting { service, request } => {
                    ready!(service.poll_ready(cx)).map_err(Into::into)?;
                    let Some(request) = request.take() else { return Poll::Pending };
                    let future = service.call(request);
                    this.stage.set(Stage::Called { future });
                }
                StageProject::Called { future } => {
                    let response = ready!(future.poll(cx)).map_err(Into::into)?;
                    if CloseConnection::applies_to(&response) {
                        return Poll::Ready(Err(
                            "the service requested closing the connection without a response".into()
                        ));
                    }
                    return Poll::Ready(Ok(response.map(|body| YieldingBody { body, budget: YieldBudget::default() })));
                }
            }
        }
    }
}

pin_project! {
    /// A response body that yields to other tasks if it is large.
    pub(crate) struct YieldingBody<B> {
        #[pin]
        body: B,
        budget: YieldBudget,
    }
}

impl<B: Body> Body for YieldingBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        ready!(this.budget.poll(cx));
        let polled = this.body.poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.budget.count(frame.data_ref().map_or(0, Buf::remaining));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
