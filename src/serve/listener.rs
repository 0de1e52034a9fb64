//! The listening sockets, with a limit of open connections.

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, stream};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::tls::{Tls, Within};

/// The pause after accepting failed, as descriptors or memory ran out.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A socket that listens.
pub(super) trait Listen {
    /// Its connections.
    type Stream: Socket + AsFd;

    /// The next connection, and who connects.
    async fn next(&self) -> io::Result<(Self::Stream, Origin)>;
}

/// A connected socket, or what is spoken over one.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug + 'static {}

impl Socket for TcpStream {}
impl Socket for UnixStream {}
impl<S: Socket> Socket for TlsStream<S> {}

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// From this address.
    Tcp(SocketAddr),
    /// This user's process, as the kernel says.
    Unix { uid: Option<u32>, pid: Option<i32> },
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |id: Option<i64>| id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        match self {
            Origin::Tcp(address) => write!(formatter, "{address}"),
            Origin::Unix { uid, pid } => {
                write!(formatter, "user {}, process {}", id(uid.map(i64::from)), id(pid.map(i64::from)))
            }
        }
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Origin)> {
        let (stream, peer) = self.accept().await?;
        // Answers are small and clients wait for them. A failure costs only latency.
        let _ = stream.set_nodelay(true);
        Ok((stream, Origin::Tcp(peer)))
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Origin)> {
        let (stream, _) = self.accept().await?;
        let peer = stream.peer_cred().ok();
        let origin = Origin::Unix { uid: peer.map(|peer| peer.uid()), pid: peer.and_then(|peer| peer.pid()) };
        Ok((stream, origin))
    }
}

/// The connections that `listener` accepts, with `tls` once hands are shaken, which holds up nobody else. If all `places` are
/// taken, further ones are closed at once, so that clients see an error instead of waiting.
pub(super) fn connections<L: Listen>(
    listener: L,
    places: Arc<Semaphore>,
    tls: Option<Arc<Tls>>,
) -> impl Stream<Item = Result<Connection, io::Error>> {
    stream::unfold((listener, JoinSet::new()), move |(listener, mut shaking)| {
        let (places, tls) = (Arc::clone(&places), tls.clone());
        async move {
            loop {
                let (stream, origin) = tokio::select! {
                    accepted = accept(&listener) => accepted,
                    Some(shaken) = shaking.join_next() => match shaken {
                        Ok(Some(connection)) => return Some((Ok(connection), (listener, shaking))),
                        _ => continue,
                    }
                };
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    tracing::warn!(peer = %origin, "connection refused: as many are open as may be (server.connections_max)");
                    continue;
                };
                let peer = Peer::of(&stream, origin);
                let Some(tls) = tls.clone() else {
                    let connection = Connection { stream: Box::new(stream), peer, _place: place };
                    return Some((Ok(connection), (listener, shaking)));
                };
                shaking.spawn(async move {
                    match tls.shake(stream, Within::Grpc).await {
                        Ok(stream) => Some(Connection { stream: Box::new(stream), peer, _place: place }),
                        Err(error) => {
                            tracing::debug!(peer = %origin, "no TLS: {error}");
                            None
                        }
                    }
                });
            }
        }
    })
}

/// The next connection, however long it takes until one can be had.
pub(super) async fn accept<L: Listen>(listener: &L) -> (L::Stream, Origin) {
    loop {
        match listener.next().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!("accept a connection: {error}");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// A connection that holds its place among those open.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Box<dyn Socket>,
    peer: Peer,
    _place: OwnedSemaphorePermit,
}

/// A connection as its requests know it.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// The connection's socket. `None` if the process has as many files open as it may.
    socket: Option<Arc<OwnedFd>>,
    origin: Origin,
}

/// Which connection it is, without keeping it open.
#[derive(Clone, Debug)]
pub(super) struct PeerId(Weak<OwnedFd>);

impl PeerId {
    /// That of a connection's socket.
    pub(super) fn of(socket: &Arc<OwnedFd>) -> PeerId {
        PeerId(Arc::downgrade(socket))
    }

    /// Whether the connection is open.
    pub(super) fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl PartialEq for PeerId {
    fn eq(&self, other: &PeerId) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl Peer {
    /// The connection of this stream.
    pub(super) fn of(stream: &impl AsFd, origin: Origin) -> Peer {
        Peer { socket: stream.as_fd().try_clone_to_owned().ok().map(Arc::new), origin }
    }

    /// Who connects.
    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// Which connection it is, if that is known.
    pub(super) fn id(&self) -> Option<PeerId> {
        self.socket.as_ref().map(PeerId::of)
    }

    /// Closes the connection.
    pub(super) fn close(&self) {
        if let Some(socket) = &self.socket {
            // This fails if the client has closed it.
            let _ = SockRef::from(socket).shutdown(Shutdown::Both);
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
