//! The chain of signatures over a body: each chunk's includes the one before it.

use super::key::{Scope, Signature, SigningKey};
use super::time::AmzTime;
use aws_lc_rs::digest;
use std::fmt;

/// A SHA-256.
pub type Hash = [u8; 32];

/// The hash of nothing, which is part of each chunk's string to sign.
const EMPTY_HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Hashes a text.
#[must_use]
pub fn hash(text: &[u8]) -> Hash {
    let mut hasher = PayloadHasher::default();
    hasher.update(text);
    hasher.finish()
}

/// Hashes bytes as they come, so that no caller has to hold a whole chunk.
pub struct PayloadHasher(digest::Context);

impl Default for PayloadHasher {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl fmt::Debug for PayloadHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PayloadHasher")
    }
}

impl PayloadHasher {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the hash of all bytes that were taken.
    #[must_use]
    pub fn finish(self) -> Hash {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.finish().as_ref());
        hash
    }
}

/// The current position in a body's chain of signatures.
#[derive(Debug)]
pub struct ChunkChain {
    key: SigningKey,
    time: AmzTime,
    scope: Scope,
    previous: Signature,
}

impl ChunkChain {
    /// Starts from the signature of the request's head.
    #[must_use]
    pub fn new(key: SigningKey, time: AmzTime, scope: Scope, seed: Signature) -> Self {
        Self {
            key,
            time,
            scope,
            previous: seed,
        }
    }

    /// Signs the next chunk, given the hash of its data.
    pub fn sign_chunk(&mut self, data: Hash) -> Signature {
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{}\n{EMPTY_HASH}\n{}",
            self.time,
            self.scope,
            self.previous.to_hex(),
            hex::encode(data)
        );
        self.previous = self.key.sign(text.as_bytes());
        self.previous
    }

    /// Signs the trailers that follow the last chunk: sorted lines of `name:value`, each ended by a
    /// line feed.
    pub fn sign_trailers(&mut self, canonical: &[u8]) -> Signature {
        let text = format!(
            "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{}\n{}",
            self.time,
            self.scope,
            self.previous.to_hex(),
            hex::encode(hash(canonical))
        );
        self.previous = self.key.sign(text.as_bytes());
        self.previous
    }
}
