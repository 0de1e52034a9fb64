//! The listening socket, with a limit of open connections.

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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;

/// The pause after accepting failed, as descriptors or memory ran out.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The connections that `listener` accepts. While `connections_max` are open, further ones are closed at once, so
/// that clients see an error instead of waiting.
pub(super) fn connections(
    listener: TcpListener,
    connections_max: usize,
) -> impl Stream<Item = Result<Connection, io::Error>> {
    let places = Arc::new(Semaphore::new(connections_max));
    stream::unfold((listener, places), move |(listener, places)| async move {
        loop {
            let (stream, peer) = accept(&listener).await;
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::warn!(%peer, "connection refused: {connections_max} are open, which is the limit");
                continue;
            };
            return Some((Ok(Connection { stream, _place: place }), (listener, places)));
        }
    })
}

/// The next connection, however long it takes until one can be had.
pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are small and clients wait for them. A failure costs only latency.
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
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
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

/// A connection as its requests know it.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// The connection's socket. `None` if the process has as many files open as it may.
    socket: Option<Arc<OwnedFd>>,
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
    pub(super) fn of(stream: &TcpStream) -> Peer {
        Peer { socket: stream.as_fd().try_clone_to_owned().ok().map(Arc::new) }
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
        Peer::of(&self.stream)
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
