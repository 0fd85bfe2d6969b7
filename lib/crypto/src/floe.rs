//! FLOE, the random-access authenticated encryption of C2SP, exactly as specified.
//!
//! Owns the key schedule and the format of a segment, for any segment length. Knows nothing of
//! objects, of cells, or of which segment comes next: that is the job of [`crate::cell`].
//! Specification: <https://c2sp.org/FLOE>, parameters AES-256-GCM, HKDF-Expand-SHA-384, IV 32.
//!
//! ```text
//! header  = params (10) ‖ IV (32) ‖ tag (32)
//! params  = AEAD id 0 (1) ‖ KDF id 0 (1) ‖ segment length (4) ‖ IV length 32 (4)
//! segment = 0xFFFFFFFF, or its own length when it is the last (4)
//!         ‖ nonce (12) ‖ ciphertext ‖ GCM tag (16)
//! kdf(key, purpose, n) = HKDF-Expand(key, params ‖ IV ‖ purpose ‖ context, n)
//! tag          = kdf(key, "HEADER_TAG:", 32)
//! message key  = kdf(key, "MESSAGE_KEY:", 48)
//! segment key  = kdf(message key, "DEK:" ‖ position with its low 20 bits cleared (8), 32)
//! segment data = position (8) ‖ 1 if last, else 0 (1)          all numbers big-endian
//! ```
//!
//! Of the header only the IV is kept; the rest is the same for all streams or follows from key, IV
//! and context. Its tag has two uses in the specification: to refuse another key, context, IV or
//! other parameters before the first segment, and to commit to them. Parameters, IV and context go
//! into every key of a segment, so with any other no segment opens, not even the empty one of an
//! empty message. The commitment is that of the record from which key and IV come: see
//! [`crate::manifest`]. The tests make headers and check them, as the specification has it.

use crate::derive::{ExpandError, expand};
use crate::error::CryptoError;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA384, Prk};
use zeroize::Zeroizing;

pub(crate) const IV_LEN: usize = 32;
pub(crate) const NONCE_LEN: usize = 12;
pub(crate) const TAG_LEN: usize = 16;
/// Where the ciphertext begins in a segment.
pub(crate) const BODY_AT: usize = LENGTH_LEN + NONCE_LEN;
/// How many bytes longer a segment is than its plaintext.
pub(crate) const SEGMENT_OVERHEAD: usize = BODY_AT + TAG_LEN;
/// Most segments of one stream.
pub(crate) const SEGMENTS_MAX: u64 = 1 << 40;

const PARAMS_LEN: usize = 10;
const LENGTH_LEN: usize = 4;
const NOT_LAST: u32 = u32::MAX;

/// What may vary between streams.
#[derive(Clone, Copy)]
pub(crate) struct Params {
    /// Length in bytes of every sealed segment but the last.
    pub segment_len: u32,
    /// 2^this many segments share a key. 20, except in the specification's own test of rotation.
    pub rotation_bits: u32,
}

impl Params {
    pub(crate) const fn new(segment_len: u32) -> Self {
        Self {
            segment_len,
            rotation_bits: 20,
        }
    }

    /// Plaintext bytes of a full segment.
    pub(crate) const fn plain_len(self) -> usize {
        self.segment_len as usize - SEGMENT_OVERHEAD
    }

    fn encode(self) -> [u8; PARAMS_LEN] {
        let mut bytes = [0; PARAMS_LEN];
        bytes[2..6].copy_from_slice(&self.segment_len.to_be_bytes());
        bytes[6..].copy_from_slice(&(IV_LEN as u32).to_be_bytes());
        bytes
    }
}

/// The keys of one stream; seals and opens its segments at any position.
pub(crate) struct Stream {
    params: Params,
    /// params ‖ IV: the beginning of every derivation's info.
    prefix: [u8; PARAMS_LEN + IV_LEN],
    context: Box<[u8]>,
    message_key: Prk,
    /// The key of the first 2^20 segments: 64 GiB at our segment length, so nearly always it.
    first_key: LessSafeKey,
}

impl Stream {
    /// Starts a stream. To seal, `iv` is fresh and random; to open, it is authentic, and so are the
    /// key and the context.
    pub(crate) fn new(
        params: Params,
        key: &[u8; 32],
        context: &[u8],
        iv: &[u8; IV_LEN],
    ) -> Result<Self, CryptoError> {
        let mut prefix = [0; PARAMS_LEN + IV_LEN];
        prefix[..PARAMS_LEN].copy_from_slice(&params.encode());
        prefix[PARAMS_LEN..].copy_from_slice(iv);
        let root = Prk::new_less_safe(HKDF_SHA384, key);
        let mut key = Zeroizing::new([0; 48]);
        expand(&root, &[&prefix, b"MESSAGE_KEY:", context], &mut key[..]).map_err(derivation)?;
        let message_key = Prk::new_less_safe(HKDF_SHA384, &key[..]);
        let first_key = segment_key(&message_key, &prefix, context, 0)?;
        Ok(Self {
            params,
            prefix,
            context: context.into(),
            message_key,
            first_key,
        })
    }

    /// Seals one segment into `out`, which must have exactly the segment's length.
    ///
    /// The caller ensures that no position is sealed twice and that only one is sealed as the last.
    pub(crate) fn seal_segment(
        &self,
        position: u64,
        last: bool,
        nonce: &[u8; NONCE_LEN],
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<(), CryptoError> {
        let fits = match last {
            true => plaintext.len() <= self.params.plain_len(),
            false => plaintext.len() == self.params.plain_len(),
        };
        if !fits || out.len() != plaintext.len() + SEGMENT_OVERHEAD || position >= SEGMENTS_MAX {
            return Err(CryptoError::Misuse(
                "segment does not have the length of its place",
            ));
        }
        let length = length_field(last, out.len());
        out[..LENGTH_LEN].copy_from_slice(&length);
        out[LENGTH_LEN..BODY_AT].copy_from_slice(nonce);
        self.with_key(position, |key| {
            key.seal_in_place_scatter(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(segment_data(position, last)),
                &mut [],
                plaintext,
                &mut out[BODY_AT..],
            )
            .map_err(|_| CryptoError::Misuse("segment too long for the cipher"))
        })
    }

    /// Opens one segment into `out`, which must have exactly the plaintext's length.
    ///
    /// On failure `out` is zeroed.
    pub(crate) fn open_segment(
        &self,
        position: u64,
        last: bool,
        segment: &[u8],
        out: &mut [u8],
    ) -> Result<(), CryptoError> {
        let opened = self.try_open_segment(position, last, segment, out);
        if opened.is_err() {
            out.fill(0);
        }
        opened
    }

    fn try_open_segment(
        &self,
        position: u64,
        last: bool,
        segment: &[u8],
        out: &mut [u8],
    ) -> Result<(), CryptoError> {
        let (nonce, body) = self.parse_segment(position, last, segment)?;
        let (ciphertext, tag) = body.split_at(body.len() - TAG_LEN);
        if out.len() != ciphertext.len() {
            return Err(CryptoError::Unauthentic);
        }
        self.with_key(position, |key| {
            let data = Aad::from(segment_data(position, last));
            key.open_separate_gather(nonce, data, ciphertext, tag, out)
                .map_err(|_| CryptoError::Unauthentic)
        })
    }

    /// Checks the shape of a segment; returns its nonce and the rest (ciphertext ‖ tag).
    fn parse_segment<'s>(
        &self,
        position: u64,
        last: bool,
        segment: &'s [u8],
    ) -> Result<(Nonce, &'s [u8]), CryptoError> {
        let full = self.params.segment_len as usize;
        let fits = match last {
            true => (SEGMENT_OVERHEAD..=full).contains(&segment.len()),
            false => segment.len() == full,
        };
        if !fits
            || position >= SEGMENTS_MAX
            || segment[..LENGTH_LEN] != length_field(last, segment.len())
        {
            return Err(CryptoError::Unauthentic);
        }
        let nonce = Nonce::try_assume_unique_for_key(&segment[LENGTH_LEN..BODY_AT])
            .map_err(|_| CryptoError::Unauthentic)?;
        Ok((nonce, &segment[BODY_AT..]))
    }

    fn with_key<T>(
        &self,
        position: u64,
        work: impl FnOnce(&LessSafeKey) -> Result<T, CryptoError>,
    ) -> Result<T, CryptoError> {
        let bits = self.params.rotation_bits;
        let masked = (position >> bits) << bits;
        if masked == 0 {
            return work(&self.first_key);
        }
        work(&segment_key(
            &self.message_key,
            &self.prefix,
            &self.context,
            masked,
        )?)
    }
}

fn segment_key(
    message_key: &Prk,
    prefix: &[u8],
    context: &[u8],
    masked_position: u64,
) -> Result<LessSafeKey, CryptoError> {
    let mut key = Zeroizing::new([0; 32]);
    let position = masked_position.to_be_bytes();
    expand(
        message_key,
        &[prefix, b"DEK:", &position, context],
        &mut key[..],
    )
    .map_err(derivation)?;
    UnboundKey::new(&AES_256_GCM, &key[..])
        .map(LessSafeKey::new)
        .map_err(|_| CryptoError::Misuse("cipher refused its key"))
}

fn length_field(last: bool, len: usize) -> [u8; LENGTH_LEN] {
    // A segment's length is at most `segment_len`, a u32.
    if last {
        (len as u32).to_be_bytes()
    } else {
        NOT_LAST.to_be_bytes()
    }
}

fn segment_data(position: u64, last: bool) -> [u8; 9] {
    let mut data = [0; 9];
    data[..8].copy_from_slice(&position.to_be_bytes());
    data[8] = u8::from(last);
    data
}

fn derivation(_: ExpandError) -> CryptoError {
    CryptoError::Misuse("key derivation refused its input")
}

#[cfg(test)]
mod tests;
