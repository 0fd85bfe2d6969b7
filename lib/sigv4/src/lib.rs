//! AWS signature version 4, for S3: reading, verifying and making signatures.
//!
//! Owns: the canonical request, the string to sign, the signing key, the comparison of signatures,
//! presigned URLs, and the chain of signatures over the chunks and trailers of a body. The gateway
//! verifies with it; a client signs with it ([`sign`]).
//!
//! Reads no clock, draws no randomness, opens no socket and knows nothing of HTTP libraries: the
//! time comes in as an argument, a request as text. The caller decides what a signature is worth:
//! its age, its region, which headers must be signed.
//!
//! Secrets and signing keys are wiped when they are dropped and print nothing. Signatures are
//! compared in constant time.

pub mod canonical;
pub mod chunk;
pub mod claim;
pub mod key;
pub mod sign;
pub mod time;
pub mod uri;

pub use canonical::{Canonical, CanonicalPath, MissingHeader, string_to_sign};
pub use chunk::{ChunkChain, Hash, PayloadHasher, hash};
pub use claim::{Claim, ClaimError, Presigned};
pub use key::{Scope, Signature, SigningKey};
pub use time::AmzTime;

/// The only supported algorithm.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The payload of a request whose body is not signed.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// The payload of a request whose body comes in signed chunks.
pub const STREAMING_SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
/// The payload of a request whose body comes in signed chunks, followed by signed trailers.
pub const STREAMING_SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
/// The payload of a request whose body comes in unsigned chunks, followed by trailers.
pub const STREAMING_UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

#[cfg(test)]
mod tests;
