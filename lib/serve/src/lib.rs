//! What every process serves: health and metrics, and a listener that knows who its peers are.
//!
//! Owns: the health and metrics port (`health`), accepting mutual TLS connections within limits and
//! ending them (`listener`), telling a service who has called it (`peer`), and how much of
//! something one peer may hold (`share`).
//! Must never: pass on a connection whose peer is not known. Knows nothing of S3, of shards or of
//! what a role may do.

pub mod health;
pub mod listener;
mod peer;
mod share;

pub use peer::peer_of;
pub use share::{Share, Shares};
