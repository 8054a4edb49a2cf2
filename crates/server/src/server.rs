//! The builder, and the server while it runs.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use rproxy_client_ip::TrustedProxies;
#[cfg(feature = "tls")]
use rproxy_tls::Certificates;
use tokio::sync::oneshot;
use tower_service::Service;

use crate::clients::Clients;
use crate::connection::BoxError;
use crate::drain::Handle;
use crate::limits::Limits;
use crate::listen::{Bound, Listen};
use crate::proxy_protocol::ProxyVersions;
use crate::worker::{self, Worker};
use crate::{HalfClose, Inherited, RequestBody};

/// A server before it runs.
#[derive(Clone)]
#[must_use]
pub struct Server {
    listen: Vec<Listen>,
    pub(crate) workers: usize,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Certificates>,
    pub(crate) limits: Limits,
    pub(crate) half_close: HalfClose,
    pub(crate) drain_timeout: Duration,
    pub(crate) proxy_protocol: Option<(TrustedProxies, ProxyVersions)>,
    pub(crate) uncounted: TrustedProxies,
    pub(crate) h2c: bool,
    pub(crate) outliving: Option<Arc<Outliving>>,
    inherited: Arc<Inherited>,
}

/// Makes a future that resolves when what outlives connections has ended.
type Outliving = dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

impl Server {
    /// A server that listens on `address`, with one worker per core. Text makes one (`"0.0.0.0:8080".parse()?`,
    /// `"unix:/run/app.sock".parse()?`), and so does a [`SocketAddr`]: `address.into()`.
    pub fn bind(address: Listen) -> Self {
        Self {
            listen: vec![address],
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            #[cfg(feature = "tls")]
            tls: None,
            limits: Limits::default(),
            half_close: HalfClose::default(),
            drain_timeout: Duration::from_secs(30),
            proxy_protocol: None,
            uncounted: TrustedProxies::none(),
            h2c: true,
            outliving: None,
            inherited: Arc::default(),
        }
    }

    /// Listens on `address`, too.
    pub fn and_bind(mut self, address: Listen) -> Self {
        self.listen.push(address);
        self
    }

    /// Speaks TLS, with these certificates.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, certificates: Certificates) -> Self {
        self.tls = Some(certificates);
        self
    }

    /// How many threads serve; at least one. Default: the number of cores.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// What a client may make the server hold.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// When an HTTP/1 client that ends its side of the connection still gets its response.
    pub fn half_close(mut self, half_close: HalfClose) -> Self {
        self.half_close = half_close;
        self
    }

    /// How long open requests get after [`Handle::drain`]. Default 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Expects a PROXY protocol header of one of these versions at the start of each connection from a `trusted`
    /// peer. Connections from others are served as they are.
    pub fn proxy_protocol(mut self, trusted: TrustedProxies, versions: ProxyVersions) -> Self {
        self.proxy_protocol = Some((trusted, versions));
        self
    }

    /// Listens on those of these sockets that are for its addresses, and binds the others. What it leaves is for other
    /// servers of this process: give each of them the same.
    pub fn inherit(mut self, sockets: impl Into<Arc<Inherited>>) -> Self {
        self.inherited = sockets.into();
        self
    }

    /// Whether clients may speak HTTP/2 without TLS, with prior knowledge (RFC 9113 §3.3). Default: they may. On a server
    /// with TLS, ALPN decides.
    pub fn h2c(mut self, accept: bool) -> Self {
        self.h2c = accept;
        self
    }

    /// Peers that are proxies, with many clients behind one address: [`Limits::connections_per_client`] does not apply to
    /// them, and rejected requests of one client do not end an HTTP/2 connection that it shares with others.
    pub fn uncounted(mut self, proxies: TrustedProxies) -> Self {
        self.uncounted = proxies;
        self
    }

    /// Work that outlives the connection it came by, such as tunnels after an upgrade: a worker that
    /// drains waits for `ended()`, too, within the drain time. hyper counts such work no more.
    pub fn outliving<F>(mut self, ended: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.outliving = Some(Arc::new(move || Box::pin(ended())));
        self
    }

    /// Binds, starts the workers, and returns while they run. `make_service` is called once on each
    /// worker's thread, inside its runtime.
    ///
    /// # Errors
    ///
    /// An address that can't be bound, or a thread that can't be started.
    pub fn start<M, S, B>(self, make_service: M) -> Result<Running, ServerError>
    where
        M: Fn(Worker) -> S + Clone + Send + 'static,
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let clients = Clients::new(self.limits.connections_per_client, self.uncounted.clone());
        let handle = Handle::new(self.limits.connections, clients);
        let mut sockets: Vec<Vec<Bound>> = (0..self.workers).map(|_| Vec::new()).collect();
        let (mut local_addrs, mut descriptors) = (Vec::new(), Vec::new());
        for listen in &self.listen {
            let failed = |source| ServerError::Bind { listen: listen.clone(), source };
            let bound = listen.bind(self.workers, self.limits.send_timeout, &self.inherited).map_err(failed)?;
            if let Some(Bound::Tcp(listener)) = bound.iter().flatten().next() {
                local_addrs.push(listener.local_addr().map_err(failed)?);
            }
            for (worker, mut bound) in sockets.iter_mut().zip(bound) {
                let copies = bound.iter().map(Bound::descriptor);
                descriptors.extend(copies.collect::<Result<Vec<_>, _>>().map_err(failed)?);
                worker.append(&mut bound);
            }
        }
        handle.keep(descriptors);

        let mut workers = Vec::with_capacity(self.workers);
        for (index, sockets) in sockets.into_iter().enumerate() {
            let (done, finished) = oneshot::channel();
            let (server, handle, make_service) = (self.clone(), handle.clone(), make_service.clone());
            let thread = std::thread::Builder::new()
                .name(format!("rproxy-worker-{index}"))
                .spawn(move || {
                    worker::run(Worker { index }, server, sockets, handle, make_service);
                    let _ = done.send(());
                })
                .map_err(ServerError::Thread)?;
            workers.push((thread, finished));
        }
        Ok(Running { handle, local_addrs, workers })
    }

    /// [`start`](Self::start)s, and waits until the server has drained, which never happens without
    /// a [`Handle`]: use `start` to get one.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn serve<M, S, B>(self, make_service: M) -> Result<(), ServerError>
    where
        M: Fn(Worker) -> S + Clone + Send + 'static,
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        self.start(make_service)?.wait().await;
        Ok(())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Server");
        #[cfg(feature = "tls")]
        debug.field("tls", &self.tls.is_some());
        debug
            .field("listen", &self.listen)
            .field("workers", &self.workers)
            .field("limits", &self.limits)
            .field("drain_timeout", &self.drain_timeout)
            .field("proxy_protocol", &self.proxy_protocol)
            .field("h2c", &self.h2c)
            .finish_non_exhaustive()
    }
}

/// A server whose workers run. Dropping it does not stop them.
#[derive(Debug)]
#[must_use]
pub struct Running {
    handle: Handle,
    local_addrs: Vec<SocketAddr>,
    workers: Vec<(JoinHandle<()>, oneshot::Receiver<()>)>,
}

impl Running {
    /// To watch and to drain.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The first TCP address that is listened on, with the port that the system picked.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs.first().copied()
    }

    /// All the TCP addresses that are listened on.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Resolves when every worker has ended.
    pub async fn wait(self) {
        for (thread, finished) in self.workers {
            // An error is a worker that died without a word; joining tells no more than that.
            let _ = finished.await;
            let _ = thread.join();
        }
    }
}

/// A server that can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address is taken, not of this machine, or needs a privilege.
    #[error("can't listen on {listen}{}", advice(listen, source))]
    Bind {
        /// The address.
        listen: Listen,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no thread.
    #[error("can't start a worker")]
    Thread(#[source] io::Error),
}

/// What most people have forgotten then.
fn advice(listen: &Listen, error: &io::Error) -> &'static str {
    match listen {
        Listen::Tcp(address) if error.kind() == io::ErrorKind::PermissionDenied && address.port() < 1024 => {
            " (ports below 1024 need CAP_NET_BIND_SERVICE, or a socket from systemd)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_a_privilege_is_told_which() {
        for (listen, kind, advised) in [
            ("0.0.0.0:443", io::ErrorKind::PermissionDenied, true),
            ("0.0.0.0:443", io::ErrorKind::AddrInUse, false),
            ("0.0.0.0:8443", io::ErrorKind::PermissionDenied, false),
            ("unix:/run/a", io::ErrorKind::PermissionDenied, false),
        ] {
            let error = ServerError::Bind { listen: listen.parse().unwrap(), source: kind.into() };
            assert_eq!(error.to_string().contains("CAP_NET_BIND_SERVICE"), advised, "{error}");
        }
    }
}
