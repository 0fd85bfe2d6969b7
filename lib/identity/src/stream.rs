//! Connections whose peer is known. There is no connection without an identity, and none goes on
//! once its peer is denied.
//!
//! With TLS 1.3 a client has finished before the server has checked the client's certificate. So
//! [`connect`] proves who the server is, but if the server refuses **us**, that shows only at the
//! first read, as an error that wraps [`IdentityError::RefusedByPeer`].

use crate::denials::Standing;
use crate::error::IdentityError;
use crate::material::TlsMaterial;
use crate::peer::PeerIdentity;
use megalith_model::role::Role;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How long a peer may take for its handshake, and a callee for connecting and handshake together.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// An encrypted connection with the identity of its peer.
#[derive(Debug)]
pub struct Identified<S> {
    tls: S,
    peer: Arc<PeerIdentity>,
    /// Who we are.
    own: Arc<PeerIdentity>,
    address: SocketAddr,
    standing: Standing,
}

/// What is read of a connection at once. TLS itself asks for a record's few KiB at a time.
const READ_BYTES: usize = 64 << 10;
/// How much may wait to be sent, encrypted. A cell with its frame is a little more than 64 KiB, the
/// default, and its last bytes would be sent as a packet of their own.
const SEND_BYTES_MAX: usize = 512 << 10;

/// What TLS works on: reads come in larger pieces, writes go as they are.
type Socket = BufReader<TcpStream>;

/// A connection that a peer has opened to us.
pub type IdentifiedStream = Identified<tokio_rustls::server::TlsStream<Socket>>;
/// A connection that we have opened to a peer.
pub type ClientStream = Identified<tokio_rustls::client::TlsStream<Socket>>;

impl<S> Identified<S> {
    /// Returns who the peer is; cheap to clone and keep.
    #[must_use]
    pub fn peer(&self) -> &Arc<PeerIdentity> {
        &self.peer
    }

    /// Returns the peer's address.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.address
    }
}

/// Performs the handshake of a new connection, within [`HANDSHAKE_DEADLINE`]. Run it on its own
/// task: a slow stranger must not hold up the listener.
pub async fn accept(
    tcp: TcpStream,
    material: &TlsMaterial,
) -> Result<IdentifiedStream, IdentityError> {
    accept_within(tcp, material, HANDSHAKE_DEADLINE).await
}

/// Does what [`accept`] does, within a given time.
pub async fn accept_within(
    tcp: TcpStream,
    material: &TlsMaterial,
    deadline: Duration,
) -> Result<IdentifiedStream, IdentityError> {
    let lost = |source| IdentityError::Handshake {
        peer: "a lost connection".into(),
        source,
    };
    let address = tcp.peer_addr().map_err(lost)?;
    let peer = address.to_string();
    let failed = |source| IdentityError::of_connection(peer.clone(), source);
    tcp.set_nodelay(true).map_err(failed)?;
    let socket = BufReader::with_capacity(READ_BYTES, tcp);
    let handshake = TlsAcceptor::from(material.server_config()).accept(socket);
    let mut tls = tokio::time::timeout(deadline, handshake)
        .await
        .map_err(|_| IdentityError::Timeout {
            peer: peer.clone(),
            deadline,
        })?
        .map_err(failed)?;
    tls.get_mut().1.set_buffer_limit(Some(SEND_BYTES_MAX));
    let session = tls.get_ref().1;
    let identity = material
        .peer_of(session.peer_certificates())
        .map_err(|reason| IdentityError::Refused {
            peer: peer.clone(),
            reason,
        })?;
    let shown = material.shown_to(session.server_name()).clone();
    Ok(Identified {
        tls,
        peer: Arc::new(identity),
        own: shown.current().identity.clone(),
        address,
        standing: Standing::new(&shown.denials),
    })
}

/// Connects to `address` (`host:port`) within [`HANDSHAKE_DEADLINE`] and verifies that it is the
/// `expected` peer, or, if that is None, any member of the cluster. May be cancelled at any point.
pub async fn connect(
    address: &str,
    material: &TlsMaterial,
    expected: Option<(Role, u32)>,
) -> Result<ClientStream, IdentityError> {
    connect_within(address, material, expected, HANDSHAKE_DEADLINE).await
}

/// Does what [`connect`] does, within a given time.
pub async fn connect_within(
    address: &str,
    material: &TlsMaterial,
    expected: Option<(Role, u32)>,
    deadline: Duration,
) -> Result<ClientStream, IdentityError> {
    let config = material.client_config(expected)?;
    let peer = || address.to_owned();
    let work = async {
        let tcp = TcpStream::connect(address)
            .await
            .map_err(|source| IdentityError::Connect {
                peer: peer(),
                source,
            })?;
        let failed = |source| IdentityError::of_connection(peer(), source);
        tcp.set_nodelay(true).map_err(failed)?;
        let peer_address = tcp.peer_addr().map_err(failed)?;
        let socket = BufReader::with_capacity(READ_BYTES, tcp);
        let mut tls = TlsConnector::from(config)
            .connect(name_of(expected), socket)
            .await
            .map_err(failed)?;
        tls.get_mut().1.set_buffer_limit(Some(SEND_BYTES_MAX));
        let identity = material
            .peer_of(tls.get_ref().1.peer_certificates())
            .map_err(|reason| IdentityError::Refused {
                peer: peer(),
                reason,
            })?;
        Ok(Identified {
            tls,
            peer: Arc::new(identity),
            own: material.identity(),
            address: peer_address,
            standing: Standing::new(material.denials()),
        })
    };
    tokio::time::timeout(deadline, work)
        .await
        .map_err(|_| IdentityError::Timeout {
            peer: peer(),
            deadline,
        })?
}

/// Returns the name that rustls needs for a connection: that of the role that is called, by which
/// the server chooses its certificate. It is not compared; identities are. Without an expectation
/// none is sent.
fn name_of(expected: Option<(Role, u32)>) -> ServerName<'static> {
    let name = expected.map_or("megalith", |(role, _)| role.name());
    ServerName::try_from(name).expect("a constant host name")
}

impl<S: AsyncRead + Unpin> AsyncRead for Identified<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.tls).poll_read(cx, buffer));
        // Whoever refuses us sends no byte.
        if read.is_ok() && buffer.filled().len() > before && self.is_told_by_member() {
            self.standing.denials().own_is_heard(&self.own);
        }
        Poll::Ready(read.map_err(|error| self.explain(error)))
    }
}

impl<S> Identified<S> {
    /// Fails once the peer has been denied.
    fn check(&mut self) -> io::Result<()> {
        let standing = self.standing.check(&self.peer);
        standing.map_err(|reason| {
            let peer = format!("{} at {}", self.peer, self.address);
            let refused = IdentityError::Refused { peer, reason };
            io::Error::new(io::ErrorKind::PermissionDenied, refused)
        })
    }

    /// Returns true if the peer is a metadata member. Only they say for the cluster whether we are
    /// denied: another process that is hostile, or hears late, stops nobody's calls.
    fn is_told_by_member(&self) -> bool {
        let roles = self.peer.grants().iter();
        roles
            .map(|(role, _)| *role)
            .any(|role| role == Role::Metadata)
    }

    /// Puts a peer's refusal into words; leaves other errors as they are.
    fn explain(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        let refused = IdentityError::of_connection(self.address.to_string(), error);
        if refused.is_own_denied() && self.is_told_by_member() {
            self.standing.denials().own_is_denied(&self.own);
        }
        match refused {
            IdentityError::Handshake { source, .. } => source,
            refused => io::Error::new(kind, refused),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Identified<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.tls).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
