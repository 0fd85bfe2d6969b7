//! A door for `tests/fuzz`: what the data listener reads in a request's head. Built with the
//! feature `fuzz` only; the program never has it.

use super::request::{self, Wanted, WantedGet, WantedPut};
use http::request::Parts;
use megalith_client::wire::ShardPath;
use megalith_model::ids::Epoch;
use megalith_model::shard::ShardDigest;

/// What a head asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum DataHead {
    Put {
        path: ShardPath,
        epoch: Epoch,
        length: u64,
        digest: Option<ShardDigest>,
    },
    Get {
        path: ShardPath,
        first: u64,
        count: u64,
    },
}

/// Reads a head; None if it is refused.
#[must_use]
pub fn read_head(head: &Parts) -> Option<DataHead> {
    match request::read(head).ok()? {
        Wanted::Put(WantedPut {
            path,
            epoch,
            length,
            digest,
        }) => Some(DataHead::Put {
            path,
            epoch,
            length,
            digest,
        }),
        Wanted::Get(WantedGet { path, first, count }) => Some(DataHead::Get { path, first, count }),
    }
}
