//! The HTTP/2 connection to one backend, shared by all requests of a worker.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::backend::Backend;
use crate::body::{Progress, RequestBody};
use crate::connect::{Connected, Connector, Speak};
use crate::deadline::Patience;
use crate::error::{BoxError, ProxyError, ProxyErrorKind};
use crate::socket::Socket;

/// A connection that is made when first needed, and again when it has ended.
pub(crate) struct Http2<B: Body> {
    present: Mutex<Option<Present<B>>>,
    /// Whether there is one, for those that would not make one.
    is_there: AtomicBool,
    /// Held while one is made, so that those who come meanwhile share it.
    making: tokio::sync::Mutex<()>,
}

struct Present<B: Body> {
    sender: SendRequest<RequestBody<B>>,
    extended_connect: ExtendedConnect,
    /// Until when further requests may use it.
    until: Option<Instant>,
}

impl<B> Http2<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) fn new() -> Self {
        Self { present: Mutex::default(), is_there: AtomicBool::new(false), making: tokio::sync::Mutex::default() }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.is_there.load(Relaxed)
    }

    /// Sends `request`; gives it back where nothing of it was sent.
    pub(crate) async fn send(
        &self,
        connector: &Connector,
        backend: &Backend,
        request: Request<RequestBody<B>>,
        patience: Patience,
    ) -> Result<Response<Incoming>, (Option<Request<RequestBody<B>>>, ProxyError)> {
        let progress = Arc::<Progress>::default();
        let mut request = request.map(|body| body.watched(&progress));
        // A connection that is going away (GOAWAY) gives the request back; a second one is new.
        for _ in 0..2 {
            let mut sender = match self.sender(connector, backend).await {
                Ok(sender) => sender,
                Err(error) => return Err((Some(request), error)),
            };
            match in_time(&progress, patience.head, sender.try_send_request(request)).await {
                Some(Ok(response)) => return Ok(response),
                Some(Err(mut error)) => match error.take_message() {
                    Some(unsent) => {
                        self.forget();
                        request = unsent;
                    }
                    None => {
                        if sender.is_closed() {
                            self.forget();
                        }
                        return Err((None, failed(error.into_error())));
                    }
                },
                None => return Err((None, ProxyError::new(ProxyErrorKind::HttpResponseTimeout))),
            }
        }
        Err((Some(request), ProxyError::new(ProxyErrorKind::ConnectionTerminated)))
    }

    /// Waits until the backend has said that it takes extended CONNECT (RFC 8441 §3); whether it has.
    pub(crate) async fn extended_connect(&self, connector: &Connector, backend: &Backend) -> Result<bool, ProxyError> {
        self.sender(connector, backend).await?;
        let extended_connect = {
            let present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
            present.as_ref().map(|present| present.extended_connect.clone())
        };
        match extended_connect {
            Some(extended_connect) => Ok(extended_connect.wait().await),
            None => Err(ProxyError::new(ProxyErrorKind::ConnectionTerminated)),
        }
    }

    /// The connection there is, or a new one.
    async fn sender(
        &self,
        connector: &Connector,
        backend: &Backend,
    ) -> Result<SendRequest<RequestBody<B>>, ProxyError> {
        if let Some(sender) = self.present() {
            return Ok(sender);
        }
        let _making = self.making.lock().await;
        if let Some(sender) = self.present() {
            return Ok(sender);
        }
        let connected = connector.connect(backend, Speak::Any).await?;
        if !connected.is_http2 {
            // It has spoken HTTP/2 before; the next request asks again, and takes what it gets.
            return Err(ProxyError::new(ProxyErrorKind::TlsProtocolError));
        }
        self.adopt(connected).await
    }

    fn present(&self) -> Option<SendRequest<RequestBody<B>>> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fit = |present: &Present<B>| {
            !present.sender.is_closed() && present.until.is_none_or(|until| Instant::now() < until)
        };
        if present.as_ref().is_some_and(|present| !is_fit(present)) {
            *present = None;
            self.is_there.store(false, Relaxed);
        }
        present.as_ref().map(|present| present.sender.clone())
    }

    /// Shares a connection that was just made.
    pub(crate) async fn adopt(&self, connected: Connected) -> Result<SendRequest<RequestBody<B>>, ProxyError> {
        let (sender, extended_connect) = handshake(connected.socket).await?;
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        *present = Some(Present { sender: sender.clone(), extended_connect, until: connected.until });
        self.is_there.store(true, Relaxed);
        Ok(sender)
    }

    fn forget(&self) {
        self.present.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.is_there.store(false, Relaxed);
    }
}

/// Begins HTTP/2 on a connection; a task drives it for as long as anybody has its sender.
pub(crate) async fn handshake<B>(socket: Socket) -> Result<(SendRequest<RequestBody<B>>, ExtendedConnect), ProxyError>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(failed)?;
    let (tell, told) = watch::channel(false);
    let asked = Arc::<Notify>::default();
    let extended_connect =
        ExtendedConnect { told, asked: Arc::clone(&asked), until: Instant::now() + SETTINGS_PATIENCE };
    // Many requests share it, so none of them can drive it.
    tokio::spawn(async move {
        let mut connection = pin!(connection);
        loop {
            tokio::select! {
                biased;
                _ = connection.as_mut() => return,
                () = asked.notified() => {
                    tell.send_replace(connection.is_extended_connect_protocol_enabled());
                }
            }
        }
    });
    Ok((sender, extended_connect))
}

/// Whether a backend takes extended CONNECT, which it says in its first words, if at all.
#[derive(Clone, Debug)]
pub(crate) struct ExtendedConnect {
    told: watch::Receiver<bool>,
    /// hyper tells nobody when they have come: whoever wants to know asks for a look.
    asked: Arc<Notify>,
    /// By then it would have said so.
    until: Instant,
}

impl ExtendedConnect {
    /// Waits until it has said so, or would have.
    async fn wait(mut self) -> bool {
        loop {
            if *self.told.borrow() {
                return true;
            }
            self.asked.notify_one();
            let told = timeout(LOOK, self.told.wait_for(|told| *told)).await;
            match told {
                Ok(Ok(_)) => return true,
                // The connection has ended.
                Ok(Err(_)) => return false,
                Err(_) if Instant::now() >= self.until => return false,
                Err(_) => {}
            }
        }
    }
}

/// `None` when no response came within `head` of the last that the client had to say.
async fn in_time<T>(progress: &Progress, head: Duration, response: impl Future<Output = T>) -> Option<T> {
    let mut response = std::pin::pin!(response);
    let mut until = Instant::now() + head;
    loop {
        if let Ok(response) = timeout_at(until, response.as_mut()).await {
            return Some(response);
        }
        // While the client has not said all, the backend is not late.
        match progress.last() {
            None => until = Instant::now() + head,
            Some(last) if last + head > until => until = last + head,
            Some(_) => return None,
        }
    }
}

pub(crate) fn failed(error: hyper::Error) -> ProxyError {
    let kind = if error.is_user() { ProxyErrorKind::HttpRequestError } else { ProxyErrorKind::ConnectionTerminated };
    ProxyError::caused(kind, error)
}

const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// RFC 9113 §3.4: the server's settings are the first that it sends; so much is a long way to it, and back.
const SETTINGS_PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(2);
