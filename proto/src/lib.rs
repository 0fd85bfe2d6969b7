//! The wire between Megalith's processes: gRPC services and messages, generated from
//! `megalith/v1/*.proto`.
//!
//! Wire types stop at the edge of a process: the receiver converts each one to a type of
//! `megalith-model` at once and never stores it. Shard bytes don't travel here.

#![expect(
    missing_docs,
    reason = "generated code; the .proto files carry the documentation"
)]

/// Version 1 of the wire.
#[expect(
    clippy::too_many_lines,
    reason = "generated code; one function serves all methods of a service"
)]
pub mod v1 {
    tonic::include_proto!("megalith.v1");
}
