//! Why an operation was refused or failed. Knows nothing of HTTP.

use super::BodyError;
use megalith_crypto::CryptoError;

/// Why an operation was refused or failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpError {
    /// The caller isn't the bucket's owner.
    #[error("access denied")]
    AccessDenied,
    #[error("no such bucket")]
    NoSuchBucket,
    /// The caller already has that bucket.
    #[error("bucket owned by the caller")]
    BucketAlreadyOwnedByYou,
    /// Another account has that bucket.
    #[error("bucket name taken")]
    BucketAlreadyExists,
    /// The bucket holds objects or uploads.
    #[error("bucket not empty")]
    BucketNotEmpty,
    /// A bucket may not have that name.
    #[error("invalid bucket name")]
    InvalidBucketName,
    #[error("no such key")]
    NoSuchKey,
    #[error("no such version")]
    NoSuchVersion,
    #[error("no such upload")]
    NoSuchUpload,
    /// The key is over 1,024 bytes long.
    #[error("key too long")]
    KeyTooLong,
    /// A precondition doesn't hold.
    #[error("precondition failed: {0}")]
    PreconditionFailed(&'static str),
    /// The reader already has the current version.
    #[error("not modified")]
    NotModified {
        /// The ETag without quotes.
        etag: String,
        /// When it was written, in milliseconds since 1970.
        modified_ms: u64,
    },
    /// Other writers changed the object each time the condition was checked.
    #[error("conflicting conditional requests")]
    ConditionalConflict,
    /// The object has no byte of the range.
    #[error("range not satisfiable, {total} bytes")]
    InvalidRange {
        /// The object's length in bytes.
        total: u64,
    },
    /// A named part doesn't exist or has another ETag.
    #[error("invalid part")]
    InvalidPart,
    /// Parts were not named in ascending order.
    #[error("invalid part order")]
    InvalidPartOrder,
    /// A part number that the object doesn't have.
    #[error("invalid part number")]
    InvalidPartNumber,
    /// A part that is not the last one is under 5 MiB long.
    #[error("part {part} has only {size} bytes")]
    EntityTooSmall {
        part: u32,
        /// Its size in bytes.
        size: u64,
    },
    /// More bytes than one request may send.
    #[error("entity too large")]
    EntityTooLarge,
    /// The length of the body isn't known.
    #[error("missing content length")]
    MissingContentLength,
    /// The body ended early or went on too long.
    #[error("incomplete body")]
    IncompleteBody,
    /// The body's sender was silent for too long.
    #[error("body timed out")]
    BodyTimeout,
    /// A signature inside the body is wrong.
    #[error("signature of a chunk does not match")]
    BodySignature,
    /// The body doesn't hash to `x-amz-content-sha256`.
    #[error("body does not match its signed hash")]
    BodySha256,
    /// The body's chunks or trailers are malformed.
    #[error("malformed chunked body")]
    BodyMalformed,
    /// The body doesn't hash to what the client claimed.
    #[error("{0} does not match")]
    BadDigest(&'static str),
    /// `Content-MD5` is not an MD5.
    #[error("invalid digest")]
    InvalidDigest,
    /// User metadata of more than 2 KiB.
    #[error("metadata too large")]
    MetadataTooLarge,
    /// An argument makes no sense.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// A request makes no sense.
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    /// What the caller asks for isn't supported yet.
    #[error("not implemented: {0}")]
    NotImplemented(&'static str),
    /// Too busy, or the cluster changed during the write: try again.
    #[error("slow down: {0}")]
    SlowDown(&'static str),
    /// The cluster gave no answer, or an unclear one: try again. The text is for the operator, the
    /// outage for the client.
    #[error("unavailable: {1}")]
    Unavailable(Outage, String),
    /// What is stored doesn't open or contradicts itself. A person must look.
    #[error("stored record is damaged: {0}")]
    Damaged(&'static str),
    /// A broken promise of our own code.
    #[error("internal: {0}")]
    Internal(String),
}

/// What is out, as far as a client is told: no addresses, nodes or disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The metadata group doesn't answer. What needed its answer was not done; steps of the request
    /// that it has answered before may have been.
    Metadata,
    /// It is not known whether the request took effect.
    Unclear,
    /// The cluster has denied this gateway's certificate.
    Denied,
    /// The cluster refuses this gateway ids for new objects.
    NoId,
    /// The cluster's table lacks a key-encryption key that a record names.
    Keys,
    /// The key service does not answer.
    KeyServiceAway,
    /// The key service is sealed.
    KeyServiceSealed,
    /// The key service refuses this gateway.
    KeyServiceRefuses,
    /// The key service lacks the key, or the version of it, that sealed the cluster's keys.
    RootKeyGone,
    /// The gateway is stopping.
    Stopping,
    /// Too few shards could be read.
    Reads,
    /// Too few disks took the object's shards.
    Writes,
    /// There is no volume to write to: too few disks are there or have room.
    NoVolume,
}

impl Outage {
    /// Says it for a client.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Metadata => "The cluster's metadata does not answer.",
            Self::Unclear => "It is not known whether the request took effect.",
            Self::Denied => "The cluster has denied this gateway.",
            Self::NoId => "The cluster gives this gateway no ids for new objects.",
            Self::Keys => "The cluster lacks a key that is needed.",
            Self::KeyServiceAway => "The key service does not answer.",
            Self::KeyServiceSealed => "The key service is sealed.",
            Self::KeyServiceRefuses => "The key service refuses this gateway.",
            Self::RootKeyGone => "The key service lacks the key that is needed.",
            Self::Stopping => "The gateway is stopping.",
            Self::Reads => "Too few shards of the object can be read now.",
            Self::Writes => "Too few disks took the object.",
            Self::NoVolume => "Too few disks are there or have room for new objects.",
        }
    }
}

impl OpError {
    /// Turns a failure to seal into an internal error: nothing was stored.
    #[must_use]
    pub fn sealing(error: CryptoError) -> Self {
        match error {
            CryptoError::TooLarge {
                what: "manifest" | "user metadata" | "text",
                ..
            } => Self::MetadataTooLarge,
            other => Self::Internal(format!("seal: {other}")),
        }
    }
}

impl From<BodyError> for OpError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Incomplete => Self::IncompleteBody,
            BodyError::Timeout => Self::BodyTimeout,
            BodyError::Signature => Self::BodySignature,
            BodyError::Sha256 => Self::BodySha256,
            BodyError::Malformed => Self::BodyMalformed,
            BodyError::SourceUnreadable => Self::Unavailable(Outage::Reads, error.to_string()),
        }
    }
}
