//! Names on the data plane, for both ends: `docs/formats/data-plane.md`.

use crate::error::DataFault;
use megalith_model::ids::{BlobId, DiskId, VolumeId};
use megalith_model::shard::ShardDigest;
use megalith_model::shard::ShardId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Header or trailer with a shard's blake3, 64 hexadecimal digits.
pub const DIGEST_HEADER: &str = "x-megalith-digest";

const PREFIX: &str = "/v1/shards/";

/// The shard and the disk that a request is about. Its text is the request's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardPath {
    pub disk: DiskId,
    pub shard: ShardId,
}

impl fmt::Display for ShardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { disk, shard } = self;
        let (volume, blob) = (shard.volume.0, shard.blob.0);
        let (segment, slot) = (shard.segment, shard.slot);
        write!(f, "{PREFIX}{disk}/{volume}/{blob}/{segment}/{slot}")
    }
}

/// A path that names no shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {PREFIX}<disk>/<volume>/<blob>/<segment>/<slot>")]
pub struct ShardPathError;

impl FromStr for ShardPath {
    type Err = ShardPathError;

    /// Accepts only the exact form that is written; other spellings of the same numbers are
    /// refused.
    fn from_str(path: &str) -> Result<Self, ShardPathError> {
        let read = || {
            let mut fields = path.strip_prefix(PREFIX)?.splitn(5, '/');
            Some(Self {
                disk: fields.next()?.parse().ok()?,
                shard: ShardId {
                    volume: VolumeId(fields.next()?.parse().ok()?),
                    blob: BlobId(fields.next()?.parse().ok()?),
                    segment: fields.next()?.parse().ok()?,
                    slot: fields.next()?.parse().ok()?,
                },
            })
        };
        read()
            .filter(|read| read.to_string() == path)
            .ok_or(ShardPathError)
    }
}

/// A write's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReceiptBody {
    /// Bytes of the shard.
    pub length: u64,
    /// Its blake3.
    pub digest: String,
    /// The epoch in which it was written.
    pub epoch: u32,
}

/// An error's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// See [`DataFault::name`].
    pub kind: String,
    pub message: String,
    /// The present epoch, with `stale_epoch`, if the volume is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
}

impl DataFault {
    /// Returns the status that a node answers with; None for faults that only a client can find.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        Some(match self {
            Self::Malformed => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Timeout => 408,
            Self::StaleEpoch { .. } | Self::Conflict => 409,
            Self::LeaseClosed => 410,
            Self::Checksum => 422,
            Self::Damaged => 424,
            Self::Io => 500,
            Self::Busy => 503,
            Self::Full => 507,
            Self::Unreachable | Self::Abandoned | Self::Protocol => return None,
        })
    }
}

/// Returns a digest's text.
#[must_use]
pub fn digest_text(digest: &ShardDigest) -> String {
    use fmt::Write;
    let mut text = String::with_capacity(64);
    for byte in digest {
        write!(text, "{byte:02x}").expect("a string takes every text");
    }
    text
}

/// Reads a digest's text: 64 hexadecimal digits.
#[must_use]
pub fn parse_digest(text: &str) -> Option<ShardDigest> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn paths_and_digests_round_trip(
            disk: [u8; 16], volume: u64, blob: u64, segment: u32, slot: u8, digest: [u8; 32],
        ) {
            let path = ShardPath {
                disk: DiskId(disk),
                shard: ShardId {
                    volume: VolumeId(volume),
                    blob: BlobId(blob),
                    segment,
                    slot,
                },
            };
            prop_assert_eq!(path.to_string().parse(), Ok(path));
            prop_assert_eq!(parse_digest(&digest_text(&digest)), Some(digest));
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            prop_assert_eq!(text.parse::<ShardPath>(), Err(ShardPathError));
            prop_assert_eq!(parse_digest(&text), None);
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let disk = "07".repeat(16);
        for rest in [
            "1/2/3/256",
            "01/2/3/4",
            "+1/2/3/4",
            "1/2/3",
            "1/2/3/4/",
            "1/2/3/4/5",
            "1//3/4",
        ] {
            let path = format!("/v1/shards/{disk}/{rest}");
            assert_eq!(path.parse::<ShardPath>(), Err(ShardPathError), "{path}");
        }
        let upper = format!("/v1/shards/{}/1/2/3/4", "AB".repeat(16));
        assert_eq!(upper.parse::<ShardPath>(), Err(ShardPathError));
    }
}
