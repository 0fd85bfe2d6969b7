//! gRPC channels that know their peer.
//!
//! A channel belongs to one purpose: clients make their own, Raft makes its own. It connects at its
//! first use, and again whenever the connection has broken; the name is resolved each time.

use hyper_util::rt::TokioIo;
use megalith_identity::{IdentityError, Role, TlsMaterial, connect_within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// How a channel connects, and how it notices that its peer is gone.
#[derive(Clone, Debug)]
pub struct ChannelSettings {
    /// For the connection and its handshake together.
    pub connect_deadline: Duration,
    /// How often a silent connection is asked whether it is alive.
    pub keep_alive_interval: Duration,
    /// A peer that doesn't answer this within this time is gone.
    pub keep_alive_timeout: Duration,
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self {
            connect_deadline: Duration::from_secs(1),
            keep_alive_interval: Duration::from_secs(2),
            keep_alive_timeout: Duration::from_secs(2),
        }
    }
}

/// The most bytes of one gRPC message, either way.
pub const MESSAGE_LEN_MAX: usize = 16 * 1024 * 1024;

/// HTTP/2 needs a server name here; certificates say who the server is.
const ORIGIN: &str = "http://megalith";

/// Makes a channel to `address` (`host:port`) that speaks only to the `expected` member. Must be
/// called inside a runtime. Connects at the first call, not before.
#[must_use]
pub fn channel(
    address: &str,
    expected: (Role, u32),
    material: &Arc<TlsMaterial>,
    settings: &ChannelSettings,
) -> Channel {
    noting_channel(address, expected, material, settings, Arc::default())
}

/// Does what [`channel`] does, and sets `reached` once there has been a connection: until then no
/// call can have reached the peer.
pub(crate) fn noting_channel(
    address: &str,
    expected: (Role, u32),
    material: &Arc<TlsMaterial>,
    settings: &ChannelSettings,
    reached: Arc<AtomicBool>,
) -> Channel {
    let (address, material) = (Arc::<str>::from(address), material.clone());
    let deadline = settings.connect_deadline;
    let connector = tower::service_fn(move |_| {
        let (address, material) = (address.clone(), material.clone());
        let reached = reached.clone();
        async move {
            let stream = connect_within(&address, &material, Some(expected), deadline).await?;
            reached.store(true, Ordering::SeqCst);
            Ok::<_, IdentityError>(TokioIo::new(stream))
        }
    });
    Endpoint::from_static(ORIGIN)
        .http2_keep_alive_interval(settings.keep_alive_interval)
        .keep_alive_timeout(settings.keep_alive_timeout)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector)
}
