//! What a storage node does about its disks by itself.
//!
//! Owns: working off the deletes that its disks owe, reporting damage found on them (`deletes`),
//! comparing what is there with what the metadata says should be (`compare`), looking at shards
//! that gateways could not read (`doubts`), finding owed shards that are whole (`fills`), and
//! keeping shards that nothing names in a trash before they are deleted (`orphans`).
//! Repair and balance will be further hands here, for plans that `megalith-placement` makes.
//! Must never: acknowledge a delete that is not durable, or delete anything but what a queue
//! says and what the metadata group has proven to be an orphan.

pub mod compare;
pub mod deletes;
pub mod doubts;
pub mod fills;
pub mod orphans;
mod propose;
mod verify;
