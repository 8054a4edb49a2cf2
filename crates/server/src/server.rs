//! The builder of a server, and the handle of the running server.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
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

use crate::box_error::BoxError;
use crate::drain::Handle;
use crate::limits::Limits;
use crate::listen::InheritedSockets;
use crate::listen::ProxyProtocolVersions;
use crate::listen::{BoundSocket, ListenAddr};
use crate::protocol::RequestBody;
use crate::transport::HalfClose;
use crate::worker::{self, Worker};
use crate::worker_settings::WorkerSettings;

/// A builder for a server; [`start`](Server::start) binds its addresses and starts its workers.
///
/// # Examples
///
/// ```no_run
/// use std::convert::Infallible;
/// use std::time::Duration;
///
/// use bytes::Bytes;
/// use http::Response;
/// use http_body_util::Full;
/// use rproxy_server::Server;
/// use tower::service_fn;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello"))));
/// Server::bind("0.0.0.0:8080".parse()?)
///     .add_address("unix:/run/app.sock".parse()?)
///     .drain_timeout(Duration::from_secs(10))
///     .serve(move |_worker| service)
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Server {
    listen: Vec<ListenAddr>,
    settings: WorkerSettings,
    inherited: Arc<InheritedSockets>,
}

impl Server {
    /// Creates a server that listens on `address`, with one worker per core.
    ///
    /// An address is parsed from text, such as `"0.0.0.0:8080".parse()?` or `"unix:/run/app.sock".parse()?`, or converted
    /// from a [`SocketAddr`] by `address.into()`.
    pub fn bind(address: ListenAddr) -> Self {
        Self {
            listen: vec![address],
            settings: WorkerSettings::new(std::thread::available_parallelism().map_or(1, usize::from)),
            inherited: Arc::default(),
        }
    }

    /// Adds another address for the server to listen on.
    pub fn add_address(mut self, address: ListenAddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Enables TLS with these certificates on all addresses.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, certificates: Certificates) -> Self {
        self.settings.tls = Some(certificates);
        self
    }

    /// Sets the number of worker threads, which is at least one. The default is the number of cores.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers.max(1);
        self
    }

    /// Sets the limits on the resources that each client can use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.connections.limits = limits;
        self
    }

    /// Sets the policy for HTTP/1 clients that half-close the connection.
    pub fn half_close(mut self, half_close: HalfClose) -> Self {
        self.settings.connections.half_close = half_close;
        self
    }

    /// Sets the maximum time for in-flight requests to finish after [`Handle::drain`]. The default is 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connections.drain_timeout = timeout;
        self
    }

    /// Requires a PROXY protocol header of an accepted version on each connection from a `trusted` peer.
    ///
    /// Connections from other peers are served without one.
    pub fn proxy_protocol(mut self, trusted: TrustedProxies, versions: ProxyProtocolVersions) -> Self {
        self.settings.connections.proxy_protocol = Some((trusted, versions));
        self
    }

    /// Uses the inherited sockets that match the addresses of this server, and binds the other addresses.
    ///
    /// The remaining sockets can be used by other servers in this process, which share the set as an [`Arc`].
    pub fn inherit(mut self, sockets: impl Into<Arc<InheritedSockets>>) -> Self {
        self.inherited = sockets.into();
        self
    }

    /// Sets whether HTTP/2 with prior knowledge is accepted on connections without TLS (RFC 9113 §3.3). The default is
    /// `true`.
    ///
    /// With TLS, ALPN selects the protocol instead.
    pub fn h2c(mut self, accept: bool) -> Self {
        self.settings.connections.h2c = accept;
        self
    }

    /// Sets the proxies that are exempt from limits on single clients.
    ///
    /// [`Limits::connections_per_client`] does not apply to them, and rejected requests do not close their HTTP/2
    /// connections, which many clients may share.
    pub fn exempt_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.settings.connections.exempt_proxies = proxies;
        self
    }

    /// Makes draining also wait for the future that `make_future` returns, within the drain timeout.
    ///
    /// This is for work that continues after its HTTP connection, such as tunnels after an upgrade.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_server::Server;
    ///
    /// # async fn tunnels_closed() {}
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::bind("127.0.0.1:8080".parse()?).wait_on_drain(|| tunnels_closed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_on_drain<F>(mut self, make_future: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.settings.wait_on_drain = Some(Arc::new(move || Box::pin(make_future())));
        self
    }

    /// Binds the addresses without starting the workers. [`start_on`](Self::start_on) starts them.
    ///
    /// A process that gives up the privilege to bind ports below 1024 does so between the two. Clients can connect from
    /// now on, and wait until the workers accept their connections.
    ///
    /// # Errors
    ///
    /// Returns an error if an address cannot be bound.
    pub fn bind_now(&self) -> Result<ServerSockets, ServerError> {
        let mut are_inherited = false;
        let bind = |address: &ListenAddr| {
            let (workers, timeout) = (self.settings.workers, self.settings.connections.limits.send_timeout);
            let inherited = self.inherited.take(address);
            are_inherited |= !inherited.is_empty();
            let per_worker = address.bind(workers, timeout, inherited);
            let failed = |source| ServerError::Bind { address: address.clone(), source };
            Ok(BoundAddress { per_worker: per_worker.map_err(failed)?, address: address.clone() })
        };
        let addresses = self.listen.iter().map(bind).collect::<Result<_, ServerError>>()?;
        Ok(ServerSockets { addresses, are_inherited })
    }

    /// Binds the addresses, starts the workers, and returns without waiting for them.
    ///
    /// `make_service` is called once on each worker's thread, inside its runtime.
    ///
    /// # Errors
    ///
    /// Returns an error if an address cannot be bound, or if a thread cannot be started.
    pub fn start<M, S, B>(self, make_service: M) -> Result<RunningServer, ServerError>
    where
        M: Fn(Worker) -> S + Clone + Send + 'static,
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let sockets = self.bind_now()?;
        self.start_on(sockets, make_service)
    }

    /// Starts the workers like [`start`](Self::start), on sockets that [`bind_now`](Self::bind_now) has bound.
    ///
    /// The addresses and the inherited sockets of this server are not used.
    ///
    /// # Errors
    ///
    /// Returns an error if a thread cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use rproxy_server::{RequestBody, Server};
    /// use tower::service_fn;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::bind("127.0.0.1:0".parse()?).workers(1);
    /// let sockets = server.bind_now()?;
    /// // Drop the privileges of the process here, then:
    /// let running = server.start_on(sockets, |_| {
    ///     service_fn(async |_: Request<RequestBody>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello"))))
    /// })?;
    /// assert!(running.local_addr().is_some());
    /// running.handle().drain();
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_on<M, S, B>(self, sockets: ServerSockets, make_service: M) -> Result<RunningServer, ServerError>
    where
        M: Fn(Worker) -> S + Clone + Send + 'static,
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (bound, are_inherited) = (sockets.addresses, sockets.are_inherited);
        let handle = Handle::new(self.settings.connections.clone());
        if are_inherited {
            handle.set_listeners_shared();
        }
        let mut sockets: Vec<Vec<BoundSocket>> = (0..self.settings.workers).map(|_| Vec::new()).collect();
        let (mut local_addrs, mut descriptors) = (Vec::new(), Vec::new());
        for BoundAddress { address, per_worker } in bound {
            let failed = |source| ServerError::Bind { address: address.clone(), source };
            if let Some(BoundSocket::Tcp(listener)) = per_worker.iter().flatten().next() {
                local_addrs.push(listener.local_addr().map_err(failed)?);
            }
            for (index, mut bound) in per_worker.into_iter().enumerate() {
                let Some(worker) = sockets.get_mut(index % self.settings.workers) else { continue };
                let duplicates = bound.iter().map(BoundSocket::duplicate);
                descriptors.extend(duplicates.collect::<Result<Vec<_>, _>>().map_err(failed)?);
                worker.append(&mut bound);
            }
        }
        handle.set_listeners(descriptors);

        let mut workers = Vec::with_capacity(self.settings.workers);
        for (index, sockets) in sockets.into_iter().enumerate() {
            let (done, finished) = oneshot::channel();
            let (settings, handle, make_service) = (self.settings.clone(), handle.clone(), make_service.clone());
            let sockets = sockets.into_iter().map(|socket| (socket, handle.listening_socket())).collect();
            let thread = std::thread::Builder::new()
                .name(format!("rproxy-worker-{index}"))
                .spawn(move || {
                    worker::run(Worker { index }, settings, sockets, handle, make_service);
                    let _ = done.send(());
                })
                .map_err(ServerError::Thread)?;
            workers.push((thread, finished));
        }
        Ok(RunningServer { handle, local_addrs, workers })
    }

    /// Starts the server and runs until the process ends.
    ///
    /// Use [`start`](Self::start) instead to get a [`Handle`] for a graceful shutdown.
    ///
    /// # Errors
    ///
    /// Returns an error if an address cannot be bound, or if a thread cannot be started.
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
        debug.field("tls", &self.settings.tls.is_some());
        debug
            .field("listen", &self.listen)
            .field("workers", &self.settings.workers)
            .field("connections", &self.settings.connections)
            .finish_non_exhaustive()
    }
}

/// The listening sockets of a server that is not started yet.
#[derive(Debug)]
#[must_use]
pub struct ServerSockets {
    addresses: Vec<BoundAddress>,
    /// Whether another process can have some of the sockets.
    are_inherited: bool,
}

/// The listening sockets of each worker for one address.
#[derive(Debug)]
struct BoundAddress {
    address: ListenAddr,
    per_worker: Vec<Vec<BoundSocket>>,
}

/// A running server with its addresses and worker threads. Dropping it does not stop the workers.
#[derive(Debug)]
#[must_use]
pub struct RunningServer {
    handle: Handle,
    local_addrs: Vec<SocketAddr>,
    workers: Vec<(JoinHandle<()>, oneshot::Receiver<()>)>,
}

impl RunningServer {
    /// Returns a handle to monitor and drain the server.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Applies the connection settings of another `server` to this running server.
    ///
    /// These are the limits, the drain timeout, the policy for half-closed connections, the PROXY protocol, the exempt
    /// proxies, and whether HTTP/2 is accepted without TLS. They apply to new connections; open ones keep their timeouts and
    /// limits. The addresses, workers and certificates of `server` are not used.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rproxy_server::{Limits, RunningServer, Server};
    ///
    /// fn reload(running: &RunningServer, server: Server, idle_timeout: Duration) {
    ///     let mut limits = Limits::default();
    ///     limits.idle_timeout = idle_timeout;
    ///     running.update(server.limits(limits));
    /// }
    /// ```
    pub fn update(&self, server: Server) {
        self.handle.set_settings(server.settings.connections);
    }

    /// Returns the first TCP address that the server listens on, including the port chosen for port 0.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs.first().copied()
    }

    /// Returns all TCP addresses that the server listens on, including the ports chosen for port 0.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Waits until all worker threads have ended.
    pub async fn wait(self) {
        for (thread, finished) in self.workers {
            // Both fail if the worker panicked, which needs no handling here.
            let _ = finished.await;
            let _ = thread.join();
        }
    }
}

/// The error of [`Server::start`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// An address cannot be bound, for example because it is in use.
    #[error("cannot listen on {address}{}", advice(address, source))]
    Bind {
        /// The address that cannot be bound.
        address: ListenAddr,
        /// The I/O error of binding the address.
        source: io::Error,
    },
    /// A worker thread cannot be started.
    #[error("cannot start a worker thread")]
    Thread(#[source] io::Error),
}

/// Returns a hint about a common cause of the error, or an empty string.
fn advice(listen: &ListenAddr, error: &io::Error) -> &'static str {
    match listen {
        ListenAddr::Tcp(address) if error.kind() == io::ErrorKind::PermissionDenied && address.port() < 1024 => {
            " (ports below 1024 require CAP_NET_BIND_SERVICE, or a socket from systemd)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_error_for_low_ports_names_the_missing_capability() {
        for (listen, kind, advised) in [
            ("0.0.0.0:443", io::ErrorKind::PermissionDenied, true),
            ("0.0.0.0:443", io::ErrorKind::AddrInUse, false),
            ("0.0.0.0:8443", io::ErrorKind::PermissionDenied, false),
            ("unix:/run/a", io::ErrorKind::PermissionDenied, false),
        ] {
            let error = ServerError::Bind { address: listen.parse().unwrap(), source: kind.into() };
            assert_eq!(error.to_string().contains("CAP_NET_BIND_SERVICE"), advised, "{error}");
        }
    }
}
