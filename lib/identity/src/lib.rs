//! Establishes who speaks to whom inside a cluster: its own certificate authority, certificates
//! that carry role and id, TLS configurations, and the identity of the peer on every connection.
//!
//! Owns: the certificate files, the choice of TLS versions and ciphers, the verification of peers.
//! Must never: trust a host name, a token or an address in place of a certificate; hand out a
//! connection whose peer it has not identified; print a private key. Knows nothing of tonic, of
//! HTTP or of which role may call what: the server's edge decides that and asks [`PeerIdentity`].
//!
//! - [`Authority`] signs (its key need not be on any server), [`Bundle`] is what it gives a node.
//! - [`Denials`] is the deny list, which each handshake and each open connection asks.
//! - [`TlsMaterial`] is a node's loaded and reloadable bundle; [`accept`] and [`connect`] use it.
//! - [`HttpsMaterial`] is the S3 listener's own certificate, without any client certificate.
//!
//! Every configuration names the aws-lc-rs provider itself; the process default is never used.

mod authority;
mod bundle;
mod denials;
mod error;
mod files;
mod https;
mod material;
mod peer;
mod stream;
mod verify;
mod watch;

pub use authority::{Authority, IssueRequest};
pub use bundle::{Bundle, KeyPem};
pub use denials::Denials;
pub use error::{IdentityError, PeerRefusal};
pub use https::HttpsMaterial;
pub use material::{CertificateClock, TlsMaterial};
pub use megalith_model::role::Role;
pub use peer::{GrantsError, PeerIdentity};
pub use stream::{
    ClientStream, HANDSHAKE_DEADLINE, Identified, IdentifiedStream, accept, accept_within, connect,
    connect_within,
};

use rustls::crypto::CryptoProvider;
use std::sync::{Arc, OnceLock};

/// The one provider of cryptography, shared by all configurations of this crate.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .clone()
}
