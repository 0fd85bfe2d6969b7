//! What every process serves: health and metrics, and a listener that knows who its peers are.
//!
//! Owns: the health and metrics port (`health`), accepting mutual TLS connections within limits and
//! ending them (`listener`), and telling a service who has called it (`peer`).
//! Must never: pass on a connection whose peer is not known. Knows nothing of S3, of shards or of
//! what a role may do.

pub mod health;
pub mod listener;
mod peer;

pub use peer::peer_of;
