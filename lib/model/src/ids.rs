//! Identifiers, each its own type so that one can't be passed for another.
//!
//! Number ids are assigned by the metadata group and never reused. Byte ids are random; whoever
//! creates the thing makes its id. This module knows nothing of randomness: bytes are handed in.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl $name {
            /// The id that follows this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
    };
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdParseError;

            /// Reads 32 hexadecimal digits.
            fn from_str(text: &str) -> Result<Self, IdParseError> {
                let digits = text.as_bytes();
                if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(IdParseError);
                }
                let mut bytes = [0; 16];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    let pair = std::str::from_utf8(pair).map_err(|_| IdParseError)?;
                    *byte = u8::from_str_radix(pair, 16).map_err(|_| IdParseError)?;
                }
                Ok(Self(bytes))
            }
        }
    };
}

/// A text that is not 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits")]
pub struct IdParseError;

number_id!(
    /// A storage or metadata machine; chosen by the operator, carried in its certificate.
    NodeId, u32, "node-"
);
number_id!(
    /// A gateway; chosen by the operator, carried in its certificate.
    GatewayId, u32, "gateway-"
);
number_id!(
    /// A placement unit: n = k+m slots on n disks. The top 16 bits are its group.
    VolumeId, u64, "volume-"
);
number_id!(
    /// The version of a volume's slots: raised by every change of slots and by closing.
    Epoch, u32, "epoch-"
);
number_id!(
    /// An immutable ciphertext of one object or part, or a client's command that brings none. Taken
    /// from a gateway's lease. The top 16 bits are its group, and all but the last 16 its lease.
    BlobId, u64, "blob-"
);
number_id!(
    /// A range of [`LeaseId::BLOBS`] blob ids handed to one gateway. The top 16 of its 48 bits are
    /// its group.
    LeaseId, u64, "lease-"
);
number_id!(
    /// A bucket, whatever its name; if a name is created again, it gets a new id.
    BucketId, u64, "bucket-"
);
number_id!(
    /// An owner of buckets and access keys.
    AccountId, u64, "account-"
);
number_id!(
    /// A Raft group.
    GroupId, u32, "group-"
);

byte_id!(
    /// One Megalith cluster.
    ClusterId
);
byte_id!(
    /// One formatted disk; written in its superblock.
    DiskId
);
byte_id!(
    /// One version of an object. Sorts by age: the first 8 bytes are big-endian milliseconds.
    VersionId
);
byte_id!(
    /// One multipart upload. Sorts by age, as versions do.
    UploadId
);

/// The bits of a blob's or volume's id from this one on are its group.
const GROUP_BITS_FROM: u32 = 48;

impl BlobId {
    /// Returns the lease that the id belongs to.
    #[must_use]
    pub fn lease(self) -> LeaseId {
        LeaseId(self.0 / LeaseId::BLOBS)
    }
}

impl LeaseId {
    /// How many blob ids a lease has.
    pub const BLOBS: u64 = 1 << 16;
    /// The greatest one of group 0, the only group that there is.
    pub const MAX: Self = Self((1 << GROUP_BITS_FROM) / Self::BLOBS - 1);

    /// Returns the lease's blob ids, the first and the last. Numbers of more than 48 bits, which no
    /// lease has, are taken without the rest.
    #[must_use]
    pub fn blobs(self) -> (BlobId, BlobId) {
        let first = self.0.wrapping_mul(Self::BLOBS);
        (BlobId(first), BlobId(first | (Self::BLOBS - 1)))
    }
}

impl VolumeId {
    /// The greatest one of group 0, the only group that there is.
    pub const MAX: Self = Self((1 << GROUP_BITS_FROM) - 1);
}

impl VersionId {
    /// Builds a version id from a creation time and 8 random bytes.
    #[must_use]
    pub fn new(time_ms: u64, random: [u8; 8]) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&time_ms.to_be_bytes());
        bytes[8..].copy_from_slice(&random);
        Self(bytes)
    }

    /// Returns when the version was written, in milliseconds since 1970.
    #[must_use]
    pub fn time_ms(self) -> u64 {
        time_of(self.0)
    }
}

fn time_of(id: [u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = id;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl UploadId {
    /// Builds an upload id from the time it begins and 8 random bytes, so that listings show a
    /// key's uploads by age.
    #[must_use]
    pub fn new(time_ms: u64, random: [u8; 8]) -> Self {
        Self(VersionId::new(time_ms, random).0)
    }

    /// Returns when the upload began, in milliseconds since 1970.
    #[must_use]
    pub fn time_ms(self) -> u64 {
        time_of(self.0)
    }
}
