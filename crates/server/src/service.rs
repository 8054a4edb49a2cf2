//! Between hyper and the service: what the connection knows goes into each request, and what is in
//! flight is counted until its body ends.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use http::uri::Scheme;
use http::{Extensions, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use rproxy_client_ip::PeerAddr;
use tower_service::Service;

use crate::RefusedHead;
use crate::connection::BoxError;
use crate::http1::{Turn, Watch};
use crate::{HangUp, RequestBody, TlsInfo, http1};

/// The service of one connection.
#[derive(Clone)]
pub(crate) struct ConnectionService<S> {
    pub(crate) inner: S,
    pub(crate) peer: PeerAddr,
    pub(crate) scheme: Scheme,
    pub(crate) tls: Option<TlsInfo>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) kept: Arc<OnceLock<ClientConnection>>,
}

/// Request extension: what is kept for the connection of the client, and dropped with it, such as a connection to a backend
/// that the client has authenticated. Present from the first request on that authenticates a connection (NTLM, Negotiate).
///
/// A bare type, as [`InterimRelay`](crate::InterimRelay) is one: any crate that names it means the same extension.
pub type ClientConnection = Arc<Mutex<Extensions>>;

impl<S> ConnectionService<S> {
    /// Adds what the connection knows.
    pub(crate) fn extend<B>(&self, request: &mut Request<B>) {
        let is_kept = self.kept.get().is_some() || authenticates_connection(request.headers());
        let extensions = request.extensions_mut();
        if extensions.is_empty() {
            extensions.clone_from(&ROOM);
        }
        extensions.insert(self.peer);
        extensions.insert(self.scheme.clone());
        if let Some(tls) = &self.tls {
            extensions.insert(tls.clone());
        }
        if is_kept {
            extensions.insert(ClientConnection::clone(self.kept.get_or_init(Arc::default)));
        }
    }
}

/// Whether these fields authenticate a connection and not a request (RFC 4559 §4).
fn authenticates_connection(headers: &HeaderMap) -> bool {
    let is_scheme = |value: &HeaderValue| {
        let scheme = value.as_bytes().split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
    };
    [AUTHORIZATION, PROXY_AUTHORIZATION].iter().any(|name| headers.get(name).is_some_and(is_scheme))
}

impl<S, B> hyper::service::Service<Request<Incoming>> for ConnectionService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<CountedBody<B>>;
    type Error = BoxError;
    type Future = CallFuture<S, S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.begin(request.map(|body| RequestBody::watched(body, &self.watch)))
    }
}

impl<S, B> ConnectionService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
{
    /// Has the service reject a head that never became a request, and drops the response: the client has one already.
    pub(crate) fn reject(&self, refused: RefusedHead) -> impl Future<Output = ()> + use<S, B>
    where
        B: Body,
    {
        let mut request = Request::new(RequestBody::default());
        *request.version_mut() = Version::HTTP_2;
        request.extensions_mut().insert(refused);
        let response = self.begin(request);
        async move {
            let Ok(response) = response.await else { return };
            let mut body = pin!(response.into_body());
            // To its end, so that it counts as complete.
            while let Some(Ok(_)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {}
        }
    }

    fn begin(&self, mut request: Request<RequestBody>) -> CallFuture<S, S::Future> {
        let (in_flight, refused) = self.watch.call();
        self.extend(&mut request);
        if let Some(refused) = refused {
            request.extensions_mut().insert(refused);
        }
        CallFuture {
            stage: Stage::Waiting { service: self.inner.clone(), request: Some(request) },
            in_flight: Some(in_flight),
        }
    }
}

/// Nothing, with room for what the server and the layers add: a table that grows with each request is built twice.
static ROOM: LazyLock<Extensions> = LazyLock::new(|| {
    let mut room = Extensions::new();
    // A copy of a table is as large as the table, also when everything has been taken out of it.
    room.insert([(); 0]);
    room.insert([(); 1]);
    room.insert([(); 2]);
    room.insert([(); 3]);
    room.clear();
    room
});

pin_project! {
    /// Waits for the service to be ready, calls it, and waits for the response.
    pub(crate) struct CallFuture<S, F> {
        #[pin]
        stage: Stage<S, F>,
        in_flight: Option<http1::InFlight>,
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
    type Output = Result<Response<CountedBody<B>>, BoxError>;

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
                    if HangUp::is_for(&response) {
                        return Poll::Ready(Err("the service has hung up".into()));
                    }
                    let in_flight = this.in_flight.take();
                    if let Some(in_flight) = &in_flight {
                        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                        if in_flight.answered(switched) {
                            cx.waker().wake_by_ref();
                        }
                    }
                    return Poll::Ready(Ok(response.map(|body| CountedBody {
                        body,
                        turn: Turn::default(),
                        _in_flight: in_flight,
                    })));
                }
            }
        }
    }
}

pin_project! {
    /// A response body that counts as in flight until it is dropped, and yields to other tasks when it is large.
    pub(crate) struct CountedBody<B> {
        #[pin]
        body: B,
        turn: Turn,
        _in_flight: Option<http1::InFlight>,
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        ready!(this.turn.poll(cx));
        let polled = this.body.poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.turn.count(frame.data_ref().map_or(0, Buf::remaining));
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
