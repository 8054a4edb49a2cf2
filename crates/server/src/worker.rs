//! One worker: a thread, a runtime, its listeners, its connections.

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

use crate::RequestBody;
use crate::connection::{self, BoxError, Connection};
use crate::drain::{Handle, OpenConnection};
use crate::listen::Bound;
use crate::server::Server;

/// Which worker a service is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Worker {
    /// Counted from 0.
    pub index: usize,
}

/// Runs a worker to its end: until drained.
pub(crate) fn run<M, S, B>(worker: Worker, server: Server, sockets: Vec<Bound>, handle: Handle, make_service: M)
where
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
            tracing::error!(worker = worker.index, %error, "no runtime for the worker");
            return;
        }
    };
    handle.count_tasks(runtime.metrics());
    runtime.block_on(async {
        let service = make_service(worker);
        let settings = Arc::new(connection::Settings::new(&server));
        let mut listeners = JoinSet::new();
        for socket in sockets {
            let (service, settings, handle) = (service.clone(), Arc::clone(&settings), handle.clone());
            listeners.spawn(async move {
                match Listener::new(socket) {
                    Ok(listener) => serve(listener, service, settings, handle).await,
                    Err(error) => tracing::error!(%error, "can't listen"),
                }
            });
        }
        listeners.join_all().await;
        let closed = async {
            handle.closed().await;
            if let Some(ended) = &server.outliving {
                ended().await;
            }
        };
        let _ = tokio::time::timeout(server.drain_timeout, closed).await;
    });
    // Blocking lookups that still run are nobody's any more.
    runtime.shutdown_background();
}

/// A listening socket on this worker's runtime.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection as it came.
enum Socket {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    fn new(bound: Bound) -> io::Result<Self> {
        Ok(match bound {
            Bound::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix(listener) => Listener::Unix(UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Socket::Tcp(stream, peer)
            }
            Listener::Unix(listener) => Socket::Unix(listener.accept().await?.0),
        })
    }

    /// A connection that waits in the kernel's queue, whatever the runtime knows of it.
    fn accept_pending(&self) -> io::Result<Option<Socket>> {
        let accepted = match self {
            Listener::Tcp(listener) => SockRef::from(listener).accept().and_then(|(socket, peer)| {
                socket.set_nonblocking(true)?;
                let peer = peer.as_socket().unwrap_or(UNKNOWN);
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
        settings: &Arc<connection::Settings>,
        handle: &Handle,
    ) where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (settings, draining) = (Arc::clone(settings), handle.subscribe());
        match socket {
            Socket::Tcp(stream, peer) => {
                // Small writes are whole messages here; Nagle would only hold them back.
                let _ = stream.set_nodelay(true);
                let peer = PeerAddr(canonical(peer));
                Connection { peer, service, settings, draining, open }.serve_tcp(stream);
            }
            Socket::Unix(stream) => {
                let peer = PeerAddr(UNKNOWN);
                Connection { peer, service, settings, draining, open }.serve(stream);
            }
        }
    }
}

/// Accepts and serves until draining begins.
async fn serve<S, B>(listener: Listener, service: S, settings: Arc<connection::Settings>, handle: Handle)
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    while let Some(place) = handle.place().await {
        tokio::select! {
            biased;
            () = handle.drained() => break,
            accepted = listener.accept() => match accepted {
                Ok(socket) => listener.spawn(socket, place.taken(), service.clone(), &settings, &handle),
                Err(error) => backed_off(&error).await,
            },
        }
    }
    // The kernel may have finished handshakes that nobody accepted yet; closing the socket would
    // reset them. They are served, too.
    while let Ok(Some(socket)) = listener.accept_pending() {
        listener.spawn(socket, handle.opened_late(), service.clone(), &settings, &handle);
    }
}

/// Waits out what only time mends (no descriptors, no memory); the peer's own failures need none.
async fn backed_off(error: &io::Error) {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {}
        _ => {
            tracing::warn!(%error, "can't accept connections; trying again in {BACK_OFF:?}");
            tokio::time::sleep(BACK_OFF).await;
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What stands for the peer of a Unix socket, which has no address.
const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

const BACK_OFF: Duration = Duration::from_millis(100);
