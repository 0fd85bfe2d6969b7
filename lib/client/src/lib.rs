//! How processes of a cluster call storage nodes and metadata members.
//!
//! Owns: connections (mutual TLS, the peer known by role and id), retries, redirects to the leader,
//! deadlines, and both ends' framing of shard bytes (`docs/formats/data-plane.md`).
//! Must never: call a lost answer a failure, return a cell whose checksum it has not checked, speak
//! to a peer whose certificate names another member, or mix shard bytes, control and Raft on one
//! connection. Knows nothing of S3, of encryption or of what the bytes mean.
//!
//! - [`MetaClient`] proposes commands and asks questions.
//! - [`ClusterClient`] joins, sends heartbeats, and reads the cluster's status; [`MapWatch`] keeps
//!   the newest cluster map at hand.
//! - [`DataClient`] writes and reads shards; [`ShardClient`] makes the small calls about them.

mod backoff;
mod backup;
mod body;
mod cluster;
mod connect;
pub mod convert;
mod data;
mod error;
mod exchange;
pub mod framing;
mod group;
pub mod levels;
mod map;
mod meta;
mod metadata;
mod pool;
mod roster;
mod shards;
mod still;
mod time;
mod unheard;
pub mod wire;

pub use backup::{BackupClient, rows_checksum};
pub use cluster::{ClusterClient, HeartbeatAnswer};
pub use connect::{ChannelSettings, MESSAGE_LEN_MAX, channel};
pub use data::{DataClient, DataSettings, ShardRoute};
pub use error::{ClientError, DataError, DataFault, chain};
pub use group::{CallSettings, Endpoint};
pub use map::MapWatch;
pub use meta::{MetaClient, new_request};
pub use metadata::{Metadata, TypedCalls, now_ms};
pub use roster::Roster;
pub use shards::{ScrubReport, ShardClient, ShardPage};
pub use still::{StillError, StillRows};

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that callers can spawn these.
    fn is_send<T: Send>(_: T) {}

    #[expect(dead_code, reason = "compiling it is the test")]
    fn futures_are_send(meta: &MetaClient, cluster: &ClusterClient, maps: &MapWatch) {
        let nothing = megalith_model::command::Envelope {
            key: None,
            command: megalith_model::command::Command::Nothing,
        };
        is_send(meta.propose(nothing));
        is_send(meta.query(megalith_model::question::Keks.into()));
        is_send(cluster.heartbeat(megalith_model::ids::NodeId(1), &[]));
        is_send(cluster.status());
        is_send(maps.refresh());
        is_send(maps.wait_for(|map| map.term > 0));
    }
}
