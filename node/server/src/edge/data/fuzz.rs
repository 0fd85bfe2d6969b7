//! A door for `tests/fuzz`: what the data listener reads in a request's head. Built with the feature
//! `fuzz` only; the program never has it.

use super::request::{self, Wanted, WantedGet, WantedPut};
use http::request::Parts;
use megalith_client::wire::ShardPath;
use megalith_model::ids::Epoch;
use megalith_model::rows::Digest;

/// What a head asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum DataHead {
    Put {
        shard: ShardPath,
        epoch: Epoch,
        length: u64,
        digest: Option<Digest>,
    },
    Get {
        shard: ShardPath,
        first: u64,
        count: u64,
    },
}

/// Reads a head; None if it is refused.
#[must_use]
pub fn read_head(head: &Parts) -> Option<DataHead> {
    match request::read(head).ok()? {
        Wanted::Put(WantedPut {
            shard,
            epoch,
            length,
            digest,
        }) => Some(DataHead::Put {
            shard,
            epoch,
            length,
            digest,
        }),
        Wanted::Get(WantedGet {
            shard,
            first,
            count,
        }) => Some(DataHead::Get {
            shard,
            first,
            count,
        }),
    }
}
