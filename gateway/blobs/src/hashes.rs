//! The checksums that a client may ask for, all computed in one pass over the plaintext.

use crc_fast::{CrcAlgorithm, Digest as Crc};
use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::Sha256;

/// Which checksums to compute besides MD5, which is always computed (it is the ETag).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    /// CRC-32 (ISO-HDLC).
    pub crc32: bool,
    /// CRC-32C (Castagnoli).
    pub crc32c: bool,
    /// CRC-64/NVME.
    pub crc64nvme: bool,
    /// SHA-1.
    pub sha1: bool,
    /// SHA-256.
    pub sha256: bool,
}

/// The results as big-endian bytes; S3 shows them in base64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashResults {
    /// MD5.
    pub md5: [u8; 16],
    /// CRC-32, if it was requested (the same holds for all below).
    pub crc32: Option<[u8; 4]>,
    /// CRC-32C.
    pub crc32c: Option<[u8; 4]>,
    /// CRC-64/NVME.
    pub crc64nvme: Option<[u8; 8]>,
    /// SHA-1.
    pub sha1: Option<[u8; 20]>,
    /// SHA-256.
    pub sha256: Option<[u8; 32]>,
}

/// A running computation.
pub struct Hasher {
    md5: Md5,
    crc32: Option<Crc>,
    crc32c: Option<Crc>,
    crc64nvme: Option<Crc>,
    sha1: Option<Sha1>,
    sha256: Option<Sha256>,
}

impl Hasher {
    /// Starts with no bytes.
    #[must_use]
    pub fn new(hashes: Hashes) -> Self {
        let crc = |wanted: bool, algorithm| wanted.then(|| Crc::new(algorithm));
        Self {
            md5: Md5::new(),
            crc32: crc(hashes.crc32, CrcAlgorithm::Crc32IsoHdlc),
            crc32c: crc(hashes.crc32c, CrcAlgorithm::Crc32Iscsi),
            crc64nvme: crc(hashes.crc64nvme, CrcAlgorithm::Crc64Nvme),
            sha1: hashes.sha1.then(Sha1::new),
            sha256: hashes.sha256.then(Sha256::new),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        let crcs = [&mut self.crc32, &mut self.crc32c, &mut self.crc64nvme];
        for crc in crcs.into_iter().flatten() {
            crc.update(bytes);
        }
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
    }

    /// Ends the computation.
    #[must_use]
    pub fn finish(self) -> HashResults {
        let crc32 = |crc: Option<Crc>| crc.map(|crc| low32(crc.finalize()));
        HashResults {
            md5: self.md5.finalize().into(),
            crc32: crc32(self.crc32),
            crc32c: crc32(self.crc32c),
            crc64nvme: self.crc64nvme.map(|crc| crc.finalize().to_be_bytes()),
            sha1: self.sha1.map(|sha| sha.finalize().into()),
            sha256: self.sha256.map(|sha| sha.finalize().into()),
        }
    }
}

/// Returns the low half, in which crc-fast gives 32-bit checksums.
fn low32(crc: u64) -> [u8; 4] {
    (crc as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published check values of "123456789".
    #[test]
    fn known_answers_whatever_the_pieces() {
        let all = Hashes {
            crc32: true,
            crc32c: true,
            crc64nvme: true,
            sha1: true,
            sha256: true,
        };
        let mut hasher = Hasher::new(all);
        hasher.update(b"1234");
        hasher.update(b"");
        hasher.update(b"56789");
        let results = hasher.finish();
        assert_eq!(hex::encode(results.md5), "25f9e794323b453885f5181f1b624d0b");
        assert_eq!(results.crc32, Some(0xCBF4_3926_u32.to_be_bytes()));
        assert_eq!(results.crc32c, Some(0xE306_9283_u32.to_be_bytes()));
        assert_eq!(
            results.crc64nvme,
            Some(0xAE8B_1486_0A79_9888_u64.to_be_bytes())
        );
        assert_eq!(
            results.sha1.map(hex::encode).as_deref(),
            Some("f7c3bc1d808e04732adf679965ccc34ca7ae3441")
        );
        assert_eq!(
            results.sha256.map(hex::encode).as_deref(),
            Some("15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225")
        );
        assert_eq!(Hasher::new(Hashes::default()).finish().sha256, None);
    }
}
