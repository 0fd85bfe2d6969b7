//! Takes keys apart again. Nothing is trusted: every byte must be accounted for.

use super::{Meta, RowKey, Table, escape};
use crate::ids::{
    AccountId, BlobId, BucketId, DiskId, LeaseId, NodeId, UploadId, VersionId, VolumeId,
};
use crate::shard::ShardId;
use std::borrow::Cow;

/// Bytes that are no row's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed row key")]
pub struct KeyError;

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], KeyError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(KeyError)?;
        self.0 = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8, KeyError> {
        self.fixed().map(|[byte]: [u8; 1]| byte)
    }

    fn u32(&mut self) -> Result<u32, KeyError> {
        self.fixed().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, KeyError> {
        self.fixed().map(u64::from_be_bytes)
    }

    /// Reads a number in the one way in which it is written.
    fn short(&mut self) -> Result<u64, KeyError> {
        let len = usize::from(self.byte()?);
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(KeyError)?;
        self.0 = rest;
        let mut number = [0; 8];
        let at = number.len().checked_sub(len).ok_or(KeyError)?;
        number[at..].copy_from_slice(bytes);
        match bytes.first() {
            Some(0) => Err(KeyError),
            Some(_) | None => Ok(u64::from_be_bytes(number)),
        }
    }

    fn segment(&mut self) -> Result<(VolumeId, BlobId, u32), KeyError> {
        let (volume, blob) = (VolumeId(self.short()?), BlobId(self.short()?));
        let segment = u32::try_from(self.short()?).map_err(|_| KeyError)?;
        Ok((volume, blob, segment))
    }

    fn escaped(&mut self) -> Result<Cow<'a, [u8]>, KeyError> {
        let (text, rest) = escape::take(self.0).ok_or(KeyError)?;
        self.0 = rest;
        Ok(text)
    }

    fn rest(&mut self) -> Cow<'a, [u8]> {
        Cow::Borrowed(std::mem::take(&mut self.0))
    }
}

impl<'a> RowKey<'a> {
    /// Reads what [`RowKey::encode`] made.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, KeyError> {
        let (&number, rest) = bytes.split_first().ok_or(KeyError)?;
        let table = Table::from_number(number).ok_or(KeyError)?;
        let mut cursor = Cursor(rest);
        let key = Self::fields(table, &mut cursor)?;
        if cursor.0.is_empty() {
            Ok(key)
        } else {
            Err(KeyError)
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "the keys of all tables, side by side"
    )]
    fn fields(table: Table, c: &mut Cursor<'a>) -> Result<Self, KeyError> {
        Ok(match table {
            Table::Meta => {
                let [number] = c.fixed()?;
                Self::Meta(Meta::from_number(number).ok_or(KeyError)?)
            }
            Table::Names => Self::Name {
                bucket: BucketId(c.short()?),
                key: c.rest(),
            },
            Table::Versions => Self::Version {
                bucket: BucketId(c.short()?),
                key: c.escaped()?,
                sequence: !c.u64()?,
            },
            Table::VersionSequences => Self::VersionSequence {
                bucket: BucketId(c.short()?),
                key: c.escaped()?,
                version: VersionId(c.fixed()?),
            },
            Table::Blobs => Self::Blob(BlobId(c.short()?)),
            Table::VolumeBlobs => {
                let (volume, blob, segment) = c.segment()?;
                Self::VolumeBlob {
                    volume,
                    blob,
                    segment,
                }
            }
            Table::Owed => {
                let (volume, blob, segment) = c.segment()?;
                Self::Owed {
                    volume,
                    blob,
                    segment,
                }
            }
            Table::Volumes => Self::Volume(VolumeId(c.u64()?)),
            Table::VolumeCounts => Self::VolumeCounts(VolumeId(c.u64()?)),
            Table::OpenVolumes => Self::OpenVolume(VolumeId(c.u64()?)),
            Table::Nodes => Self::Node(NodeId(c.u32()?)),
            Table::Disks => Self::Disk(DiskId(c.fixed()?)),
            Table::Deletes => Self::Delete {
                disk: DiskId(c.fixed()?),
                sequence: c.u64()?,
            },
            Table::Doubts => {
                let disk = DiskId(c.fixed()?);
                let (volume, blob, segment) = c.segment()?;
                let slot = c.byte()?;
                Self::Doubt {
                    disk,
                    shard: ShardId {
                        volume,
                        blob,
                        segment,
                        slot,
                    },
                }
            }
            Table::Doomed => Self::Doomed(c.u64()?),
            Table::Spent => Self::Spent(BlobId(c.short()?)),
            Table::Chunks => Self::Chunk {
                disk: DiskId(c.fixed()?),
                volume: VolumeId(c.u64()?),
                slot: c.byte()?,
            },
            Table::MoveDeletes => Self::MoveDelete {
                volume: VolumeId(c.u64()?),
                slot: c.byte()?,
                sequence: c.u64()?,
            },
            Table::Uploads => Self::Upload {
                bucket: BucketId(c.u64()?),
                key: c.escaped()?,
                upload: UploadId(c.fixed()?),
            },
            Table::UploadTargets => Self::UploadTarget(UploadId(c.fixed()?)),
            Table::Parts => Self::Part {
                upload: UploadId(c.fixed()?),
                part: c.u32()?,
            },
            Table::Buckets
            | Table::BucketNames
            | Table::AccountBuckets
            | Table::Accounts
            | Table::AccountNames
            | Table::AccessKeys
            | Table::AccountAccessKeys
            | Table::Keks
            | Table::Leases
            | Table::BucketCounters
            | Table::AccountCounters => Self::owner_fields(table, c)?,
        })
    }

    fn owner_fields(table: Table, c: &mut Cursor<'a>) -> Result<Self, KeyError> {
        Ok(match table {
            Table::Buckets => Self::Bucket(BucketId(c.u64()?)),
            Table::BucketNames => Self::BucketName(c.rest()),
            Table::AccountBuckets => Self::AccountBucket {
                account: AccountId(c.u64()?),
                name: c.rest(),
            },
            Table::Accounts => Self::Account(AccountId(c.u64()?)),
            Table::AccountNames => Self::AccountName(c.rest()),
            Table::AccessKeys => Self::AccessKey(c.rest()),
            Table::AccountAccessKeys => Self::AccountAccessKey {
                account: AccountId(c.u64()?),
                access_key: c.rest(),
            },
            Table::Keks => Self::Kek(c.u32()?),
            Table::Leases => Self::Lease(LeaseId(c.u64()?)),
            Table::BucketCounters => Self::BucketCounters(BucketId(c.u64()?)),
            Table::AccountCounters => Self::AccountCounters(AccountId(c.u64()?)),
            // `fields` has taken these.
            Table::Meta
            | Table::Names
            | Table::Versions
            | Table::Blobs
            | Table::VersionSequences
            | Table::VolumeBlobs
            | Table::Owed
            | Table::Volumes
            | Table::VolumeCounts
            | Table::OpenVolumes
            | Table::Nodes
            | Table::Disks
            | Table::Deletes
            | Table::Uploads
            | Table::UploadTargets
            | Table::Parts
            | Table::Doubts
            | Table::Spent
            | Table::Chunks
            | Table::MoveDeletes
            | Table::Doomed => return Err(KeyError),
        })
    }
}
