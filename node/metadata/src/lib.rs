//! The metadata role: one member of a Raft group and the tables it keeps.
//!
//! - `log`: what Raft must not forget, in fsynced files of our own.
//! - `engine`: the tables, a cache that can be rebuilt; the only module that names an embedded
//!   database.
//! - `backup`: all rows in a directory, and a new group from it.
//! - `directory`: a member's directory on a real disk: made, looked at, restored.
//! - `memory`: how the memory that a member may use is divided.
//! - `levels`: the cluster's level, and what other processes can run.
//! - `raft`: the driver on its own thread; the only module that names raft's types.
//! - `transport`: messages between members.
//! - `placement`: volumes and the cluster map, beside the leader; asks the group through the trait
//!   `PlacementGroup`.
//!
//! Must never: answer before an entry is durable on a quorum and applied; vote without its log;
//! hold plaintext or keys.

mod addresses;
mod apply;
pub mod backup;
mod clock;
pub mod directory;
pub mod engine;
pub mod levels;
pub mod log;
mod member;
mod memory;
pub mod placement;
mod raft;
mod service;
mod snapshot;
mod tables;
pub mod transport;

pub use crate::raft::{
    NotLeader, PROPOSAL_BYTES_MAX, RaftError, RaftRole, RaftSettings, RaftStatus,
};
pub use addresses::AddressBook;
pub use apply::{ApplyError, ApplySettings, ProposeError};
pub use clock::ClockStanding;
pub use member::{
    Lost, MetaFailure, MetaParts, MetaSettings, MetaStore, RepairError, Repairs, StartError, start,
};
pub use memory::MemberMemory;
pub use service::{Exported, MetaHandle, MetadataService, QueryError};
pub use snapshot::SourceSettings;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
