//! A worker of the server: a thread with a runtime, listeners and connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use rproxy_client_ip::PeerAddr;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tower_service::Service;

use crate::box_error::BoxError;
use crate::connection::Connection;
use crate::connection_config::ConnectionConfig;
use crate::drain::{Handle, ListeningSocket, OpenConnection};
use crate::listen::BoundSocket;
use crate::protocol::RequestBody;
use crate::worker_settings::WorkerSettings;

/// The worker thread for which a service is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Worker {
    /// The index of the worker thread, starting at 0.
    pub index: usize,
}

/// A listening socket, with the guard that counts it.
pub(crate) type CountedSocket = (BoundSocket, ListeningSocket);

/// Runs a worker until it has drained its connections.
pub(crate) fn run<M, S, B>(
    worker: Worker,
    settings: WorkerSettings,
    sockets: Vec<CountedSocket>,
    handle: Handle,
    make_service: M,
) where
    M: Fn(Worker) -> S,
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(worker = worker.index, %error, "cannot create the tokio runtime of a worker, this worker serves no connections");
            return;
        }
    };
    handle.add_runtime(runtime.metrics());
    runtime.block_on(async {
        let service = make_service(worker);
        let config = Arc::new(ConnectionConfig::new(&settings));
        let mut listeners = JoinSet::new();
        for (socket, listening) in sockets {
            let (service, config, handle) = (service.clone(), Arc::clone(&config), handle.clone());
            listeners.spawn(async move {
                // Declared first, so that it is dropped after the socket.
                let _listening = listening;
                match Listener::new(socket) {
                    Ok(listener) => serve(listener, service, config, handle).await,
                    Err(error) => {
                        tracing::error!(%error, "cannot use a listening socket in a worker, this worker accepts no connections from it")
                    }
                }
            });
        }
        listeners.join_all().await;
        let closed = async {
            handle.all_closed().await;
            if let Some(ended) = &settings.wait_on_drain {
                ended().await;
            }
        };
        let drain_timeout = handle.settings().borrow().drain_timeout;
        let _ = tokio::time::timeout(drain_timeout, closed).await;
    });
    // Does not wait for blocking operations such as DNS lookups.
    runtime.shutdown_background();
}

/// A listening socket, registered with the runtime of a worker.
enum Listener {
    Tcp {
        listener: TcpListener,
        /// Whether the socket is bound to a loopback address.
        is_loopback: bool,
    },
    Unix(UnixListener),
}

/// The socket of an accepted connection.
enum Socket {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    fn new(bound: BoundSocket) -> io::Result<Self> {
        Ok(match bound {
            BoundSocket::Tcp(listener) => Listener::Tcp {
                is_loopback: canonical(listener.local_addr()?).ip().is_loopback(),
                listener: TcpListener::from_std(listener)?,
            },
            BoundSocket::Unix(listener) => Listener::Unix(UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            Listener::Tcp { listener, .. } => {
                let (stream, peer) = listener.accept().await?;
                Socket::Tcp(stream, peer)
            }
            Listener::Unix(listener) => Socket::Unix(listener.accept().await?.0),
        })
    }

    /// Drops the packets that would open new connections. Clients send them again after a second, when the socket is closed.
    ///
    /// This cannot be undone, and affects all processes that have the socket.
    fn ignore_new_connections(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Listener::Tcp { listener, .. } = self {
            // The instruction of classic BPF that accepts no byte of a packet (linux/bpf_common.h: BPF_RET | BPF_K).
            let drop_packet = socket2::SockFilter::new(0x06, 0, 0, 0);
            if let Err(error) = SockRef::from(listener).attach_filter(&[drop_packet]) {
                tracing::debug!(%error, "cannot filter new connections while draining");
            }
        }
    }

    /// Accepts a connection from the kernel's accept queue without waiting.
    fn accept_pending(&self) -> io::Result<Option<Socket>> {
        let accepted = match self {
            Listener::Tcp { listener, .. } => SockRef::from(listener).accept().and_then(|(socket, peer)| {
                socket.set_nonblocking(true)?;
                let peer = peer.as_socket().unwrap_or(UNIX_PEER);
                Ok(Socket::Tcp(TcpStream::from_std(socket.into())?, peer))
            }),
            Listener::Unix(listener) => SockRef::from(listener).accept().and_then(|(socket, _)| {
                socket.set_nonblocking(true)?;
                Ok(Socket::Unix(UnixStream::from_std(socket.into())?))
            }),
        };
        match accepted {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn spawn<S, B>(
        &self,
        socket: Socket,
        open: OpenConnection,
        service: S,
        config: &Arc<ConnectionConfig>,
        handle: &Handle,
    ) where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (config, draining) = (Arc::clone(config), handle.subscribe());
        match socket {
            Socket::Tcp(stream, peer) => {
                // Small writes are complete messages, which Nagle's algorithm would delay.
                let _ = stream.set_nodelay(true);
                let peer = PeerAddr(canonical(peer));
                let is_loopback = matches!(self, Self::Tcp { is_loopback: true, .. }) && peer.0.ip().is_loopback();
                Connection { peer, is_loopback, service, config, draining, open }.serve_tcp(stream);
            }
            Socket::Unix(stream) => {
                let peer = PeerAddr(UNIX_PEER);
                Connection { peer, is_loopback: false, service, config, draining, open }.serve(stream);
            }
        }
    }
}

/// Accepts connections until draining begins.
async fn serve<S, B>(listener: Listener, service: S, mut config: Arc<ConnectionConfig>, handle: Handle)
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut settings = handle.settings();
    // They can have changed since the start.
    settings.mark_changed();
    while let Some(permit) = handle.permit().await {
        tokio::select! {
            biased;
            () = handle.drain_started() => break,
            accepted = listener.accept() => match accepted {
                Ok(socket) => {
                    if settings.has_changed().unwrap_or(false) {
                        config = Arc::new(config.with_settings(settings.borrow_and_update().clone()));
                    }
                    listener.spawn(socket, permit.into_connection(), service.clone(), &config, &handle);
                }
                Err(error) => back_off(&error).await,
            },
        }
    }
    // Closing the listening socket would reset the connections in its accept queue, so they are served first. If no other
    // process accepts from this socket, none can be added between the last of them and the close.
    if !handle.are_listeners_shared() {
        listener.ignore_new_connections();
    }
    while let Ok(Some(socket)) = listener.accept_pending() {
        listener.spawn(socket, handle.opened_without_permit(), service.clone(), &config, &handle);
    }
}

/// Waits after an accept error that may be temporary, such as a lack of file descriptors or memory.
///
/// Errors of a single connection need no wait.
async fn back_off(error: &io::Error) {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {}
        _ => {
            tracing::warn!(%error, "cannot accept connections, retrying in {BACK_OFF:?}");
            tokio::time::sleep(BACK_OFF).await;
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The placeholder for the peer address of a connection over a Unix socket.
const UNIX_PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

const BACK_OFF: Duration = Duration::from_millis(100);
