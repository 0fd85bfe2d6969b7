//! A node's edge: its two listeners, and who may ask what of it.
//!
//! Owns: accepting connections (mutual TLS), the table of methods and roles (`access`), limits and
//! deadlines against slow and greedy peers, and the translation between the wire and the store.
//! Must never: let a call reach a service before its peer is known and allowed; store a byte that
//! is not in an open lease and in the volume's present epoch; keep wire types.
//!
//! - `grpc`: the listener for everything small. `data`: the listener for shard bytes, as
//!   `docs/formats/data-plane.md` says. Both stand on the listener of
//!   `megalith-serve`.
//! - `admission`: whether a write is still wanted. `shards`: the shard service.

mod access;
mod admission;
mod data;
mod grpc;
mod held;
mod shards;

pub use admission::Admission;
#[cfg(feature = "fuzz")]
pub use data::fuzz;
pub use data::{DataEdge, DataEdgeSettings};
pub use grpc::{GrpcEdge, GrpcEdgeSettings};
pub use shards::ShardService;
