//! Every kind of record: what is stored as a row, and what travels in the log or between processes
//! in the same encoding ([`crate::codec`]).
//!
//! A kind begins as version 1. One that changes moves from the first list to the second and gets an
//! `impl Stored` of its own, with the next version, the level from which that is written, and the
//! older forms.

use crate::claim::NodeClaim;
use crate::codec::DecodeError;
use crate::command::{Answer, Command, CommandKey, Envelope};
use crate::denied::DenyList;
use crate::ids::{AccountId, BucketId, ClusterId, LeaseId, VolumeId};
use crate::level::Level;
use crate::query::{DataStatus, Query, Reply};
use crate::rotation::Rotation;
use crate::rows::{
    AccessKeyRow, AccountRow, BlobRow, BucketRow, ChunkRow, Counters, DeleteRow, DiskRow,
    DoomedQueue, DoomedRow, DoubtRow, FiledRow, KekRow, MoveDeleteRow, OwedRow, PartRow, SpentRow,
    Totals, UploadRow, UploadTarget, VersionRow, VolumeCounts, VolumeRow,
};
use crate::settings::Settings;
use crate::topology::{ClusterMap, Lease, Node};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A kind of record.
///
/// In which version a record is written is a function of the cluster's level alone, so that members
/// of different programs write the same bytes: at a level, all programs that run it write the
/// version that it is of. A newer version waits for the level that brought it.
pub trait Stored: Serialize + DeserializeOwned {
    /// The newest version.
    const VERSION: u8 = 1;

    /// The version that is written at `level`.
    #[must_use]
    fn version_at(_level: Level) -> u8 {
        Self::VERSION
    }

    /// Appends the record's body in `version`, which is one that [`Self::version_at`] gives.
    #[must_use]
    fn write_body(&self, version: u8, bytes: Vec<u8>) -> Vec<u8> {
        debug_assert_eq!(
            version,
            Self::VERSION,
            "an older form needs its own encoder"
        );
        write_body(self, bytes)
    }

    /// Reads a body of `version`; every version that ever was is known for ever.
    fn decode_version(version: u8, body: &[u8]) -> Result<Self, DecodeError> {
        if version == Self::VERSION {
            read_body(body)
        } else {
            Err(DecodeError::Version(version))
        }
    }
}

/// Appends a value in postcard's form.
pub fn write_body<T: Serialize + ?Sized>(value: &T, bytes: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(value, bytes).expect("our kinds have known lengths")
}

/// Reads a value in postcard's form, and nothing behind it.
pub fn read_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(DecodeError::Malformed),
    }
}

/// Lists the kinds, and makes those of one version [`Stored`].
macro_rules! kinds {
    (of one version { $($one:ty,)+ } of several { $($several:ty,)* }) => {
        $(impl Stored for $one {})+

        /// The names of all kinds.
        pub const KINDS: &[&str] = &[$(stringify!($one),)+ $(stringify!($several),)*];
    };
}

kinds! {
    of one version {
        // Rows; `keys` says of which table.
        VersionRow,
        BlobRow,
        FiledRow,
        SpentRow,
        OwedRow,
        VolumeRow,
        VolumeCounts,
        DiskRow,
        UploadRow,
        UploadTarget,
        PartRow,
        BucketRow,
        AccountRow,
        AccessKeyRow,
        KekRow,
        Counters,
        Totals,
        DoubtRow,
        DoomedRow,
        DoomedQueue,
        ChunkRow,
        MoveDeleteRow,
        Settings,
        DeleteRow,
        // Rows that travel, too.
        Node,
        Lease,
        DenyList,
        Rotation,
        // Numbers and names as rows. `Level` never gets another version.
        ClusterId,
        VolumeId,
        LeaseId,
        BucketId,
        AccountId,
        u64,
        Level,
        // Nothing at all.
        (),
        // Answers, questions and what the leader says.
        Command,
        Answer,
        Query,
        Reply,
        ClusterMap,
        DataStatus,
        NodeClaim,
    }
    of several {
        Envelope,
    }
}

/// The command's number is read even if the rest can't be, so that a program that is too old knows
/// it. So an envelope's key and the command's number keep their place for ever.
impl Stored for Envelope {
    fn decode_version(version: u8, body: &[u8]) -> Result<Self, DecodeError> {
        if version != Self::VERSION {
            return Err(DecodeError::Version(version));
        }
        read_body(body).map_err(|error| {
            let head = postcard::take_from_bytes::<(Option<CommandKey>, u32)>(body);
            match head {
                Ok(((_, number), _)) if number > Command::LAST => DecodeError::Command(number),
                Ok(_) | Err(_) => error,
            }
        })
    }
}

#[cfg(test)]
mod tests;
