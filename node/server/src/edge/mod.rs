//! A node's edge: its two listeners, and who may ask what of it.
//!
//! Owns: accepting connections (mutual TLS), the table of methods and roles (`access`), limits and
//! deadlines against slow and greedy peers, and the translation between the wire and the store.
//! Must never: let a call reach a service before its peer is known and allowed; store a byte that
//! is not in an open lease and in the volume's present epoch; keep wire types.
//!
//! - `grpc`: the listener for everything small. `data`: the listener for shard bytes, as
//!   `node/docs/data-plane.md` says. Both stand on `listener`.
//! - `fence`: whether a write is still wanted. `shards`: the shard service. `disks`: the disks.

mod access;
mod data;
mod disks;
mod fence;
mod grpc;
mod listener;
mod shards;

pub use data::{DataEdge, DataEdgeSettings};
pub use disks::Disks;
pub use fence::Fence;
pub use grpc::{GrpcEdge, GrpcEdgeSettings, peer_of};
pub use listener::{ListenerSettings, Shutdown};
pub use shards::ShardService;
