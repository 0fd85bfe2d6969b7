//! Checksums as S3 clients send and request them: names, values, composition over parts.
//!
//! Owns: which algorithms there are, how part checksums become an object's, and the comparison of a
//! client's claims with what was computed. Never computes over data: the pipeline does that.

use super::error::OpError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use md5::Digest as _;
use megalith_crypto::manifest::{Checksum, ChecksumType};

/// How the names of headers begin that carry checksums.
const PREFIX: &str = "x-amz-checksum-";

/// A checksum algorithm of the `x-amz-checksum-*` family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// CRC-32C (iSCSI).
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// Returns the name as S3 writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// Reads a name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// Returns the name of the header or trailer that carries the value, in lower case.
    #[must_use]
    pub fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// Returns the algorithm that this header belongs to.
    #[must_use]
    pub fn of_header(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.header().eq_ignore_ascii_case(name))
    }

    /// Returns whether this header or trailer carries a checksum that we can't compute. It must be
    /// refused: if it were passed over, a wrong value would be stored without a word.
    #[must_use]
    pub fn is_foreign_header(name: &str) -> bool {
        let named = name.get(..PREFIX.len()).zip(name.get(PREFIX.len()..));
        named.is_some_and(|(prefix, rest)| {
            // These say something about a checksum, and are none.
            let about = ["algorithm", "mode", "type"];
            prefix.eq_ignore_ascii_case(PREFIX)
                && Self::of_header(name).is_none()
                && !about.iter().any(|about| rest.eq_ignore_ascii_case(about))
        })
    }

    /// Returns the value's length in bytes.
    #[must_use]
    pub fn value_len(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Returns what a multipart object's checksum covers if the client doesn't say.
    #[must_use]
    pub fn default_type(self) -> ChecksumType {
        match self {
            Self::Crc64Nvme => ChecksumType::FullObject,
            Self::Crc32 | Self::Crc32c | Self::Sha1 | Self::Sha256 => ChecksumType::Composite,
        }
    }

    /// Returns whether a multipart object's checksum may cover that.
    #[must_use]
    pub fn allows(self, covers: ChecksumType) -> bool {
        match (self, covers) {
            (Self::Crc64Nvme, ChecksumType::Composite)
            | (Self::Sha1 | Self::Sha256, ChecksumType::FullObject) => false,
            (Self::Crc32 | Self::Crc32c, _)
            | (Self::Crc64Nvme, ChecksumType::FullObject)
            | (Self::Sha1 | Self::Sha256, ChecksumType::Composite) => true,
        }
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }
}

/// A checksum's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub algorithm: Algorithm,
    /// Its value, [`Algorithm::value_len`] bytes.
    pub bytes: Vec<u8>,
}

impl Value {
    /// Reads a header's base64 text.
    ///
    /// # Errors
    /// [`OpError::InvalidRequest`] if it is not a value of the algorithm.
    pub fn parse(algorithm: Algorithm, text: &str) -> Result<Self, OpError> {
        match STANDARD.decode(text.trim()) {
            Ok(bytes) if bytes.len() == algorithm.value_len() => Ok(Self { algorithm, bytes }),
            Ok(_) | Err(_) => Err(OpError::InvalidRequest(format!(
                "Value for {} header is invalid.",
                algorithm.header()
            ))),
        }
    }

    /// Returns the value as S3 writes it.
    #[must_use]
    pub fn text(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    /// Returns the value as it is kept in a manifest.
    #[must_use]
    pub fn sealed(&self) -> Checksum {
        Checksum {
            algorithm: self.algorithm.name().to_owned(),
            value: self.text(),
            covers: ChecksumType::FullObject,
        }
    }
}

/// The client's claims about the hashes of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// `Content-MD5`.
    pub md5: Option<[u8; 16]>,
    /// `x-amz-checksum-*`, from headers or trailers.
    pub checksums: Vec<Value>,
}

/// The computed hashes of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Computed {
    /// MD5: the ETag.
    pub md5: [u8; 16],
    /// The checksums that were requested.
    pub checksums: Vec<Value>,
}

/// Reads `Content-MD5`.
///
/// # Errors
/// [`OpError::InvalidDigest`] if it isn't base64 of 16 bytes.
pub fn parse_content_md5(text: &str) -> Result<[u8; 16], OpError> {
    let bytes = STANDARD
        .decode(text.trim())
        .map_err(|_| OpError::InvalidDigest)?;
    bytes.try_into().map_err(|_| OpError::InvalidDigest)
}

impl Claims {
    /// Compares the claims with what was computed.
    ///
    /// # Errors
    /// [`OpError::BadDigest`] if a claim is false, or if a claimed algorithm wasn't computed: a
    /// claim is never passed over.
    pub fn verify(&self, computed: &Computed) -> Result<(), OpError> {
        if self.md5.is_some_and(|claimed| claimed != computed.md5) {
            return Err(OpError::BadDigest("Content-MD5"));
        }
        for claim in &self.checksums {
            if !computed.checksums.contains(claim) {
                return Err(OpError::BadDigest(claim.algorithm.name()));
            }
        }
        Ok(())
    }
}

/// Returns a multipart object's ETag: the MD5 of its parts' MD5s, a dash and their count.
#[must_use]
pub fn multipart_etag(parts: &[[u8; 16]]) -> String {
    let mut all = md5::Md5::new();
    for part in parts {
        all.update(part);
    }
    format!("{}-{}", hex::encode(all.finalize()), parts.len())
}

/// Returns a multipart object's checksum from those of its parts (value, plaintext length).
///
/// # Errors
/// [`OpError::InvalidRequest`] for a type of checksum that the algorithm doesn't have.
pub fn compose(
    algorithm: Algorithm,
    covers: ChecksumType,
    parts: &[(Vec<u8>, u64)],
) -> Result<Checksum, OpError> {
    let value = match covers {
        ChecksumType::Composite => {
            let all: Vec<u8> = parts
                .iter()
                .flat_map(|(value, _)| value.iter().copied())
                .collect();
            format!(
                "{}-{}",
                STANDARD.encode(digest(algorithm, &all)),
                parts.len()
            )
        }
        ChecksumType::FullObject => {
            let crc = algorithm.crc().ok_or_else(|| {
                OpError::InvalidRequest(format!(
                    "The FULL_OBJECT checksum type cannot be used with the {} checksum algorithm.",
                    algorithm.name()
                ))
            })?;
            let mut parts = parts.iter();
            let first = parts.next().map_or(0, |(value, _)| number(value));
            let sum = parts.fold(first, |sum, (value, len)| {
                crc_fast::checksum_combine(crc, sum, number(value), *len)
            });
            STANDARD.encode(&sum.to_be_bytes()[8 - algorithm.value_len()..])
        }
    };
    Ok(Checksum {
        algorithm: algorithm.name().to_owned(),
        value,
        covers,
    })
}

fn number(value: &[u8]) -> u64 {
    value
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Hashes a short text, such as the joined checksums of parts.
#[must_use]
pub fn digest(algorithm: Algorithm, data: &[u8]) -> Vec<u8> {
    match (algorithm, algorithm.crc()) {
        (_, Some(crc)) => {
            let sum = crc_fast::checksum(crc, data);
            sum.to_be_bytes()[8 - algorithm.value_len()..].to_vec()
        }
        (Algorithm::Sha1, None) => sha1::Sha1::digest(data).to_vec(),
        (_, None) => sha2::Sha256::digest(data).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from S3's documentation and RFC 3720, 9 digits as input.
    #[test]
    fn known_answers() {
        let check = |algorithm, hexed: &str| {
            assert_eq!(hex::encode(digest(algorithm, b"123456789")), hexed);
        };
        check(Algorithm::Crc32, "cbf43926");
        check(Algorithm::Crc32c, "e3069283");
        check(Algorithm::Crc64Nvme, "ae8b14860a799888");
        check(Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
    }

    #[test]
    fn full_object_crc_of_parts_is_that_of_the_whole() {
        let whole: Vec<u8> = (0..100_000_u32).map(|i| (i * 31 / 8) as u8).collect();
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let parts: Vec<_> = [&whole[..1], &whole[1..70_001], &whole[70_001..]]
                .iter()
                .map(|part| (digest(algorithm, part), part.len() as u64))
                .collect();
            let composed = compose(algorithm, ChecksumType::FullObject, &parts).unwrap();
            assert_eq!(composed.value, STANDARD.encode(digest(algorithm, &whole)));
        }
    }

    #[test]
    fn composite_hashes_the_parts_values() {
        let parts = [
            (digest(Algorithm::Sha256, b"a"), 1),
            (digest(Algorithm::Sha256, b"b"), 1),
        ];
        let composed = compose(Algorithm::Sha256, ChecksumType::Composite, &parts).unwrap();
        let all = [parts[0].0.clone(), parts[1].0.clone()].concat();
        let expected = format!("{}-2", STANDARD.encode(digest(Algorithm::Sha256, &all)));
        assert_eq!(composed.value, expected);
        assert!(compose(Algorithm::Sha1, ChecksumType::FullObject, &[]).is_err());
    }

    #[test]
    fn multipart_etag_is_md5_of_md5s_and_count() {
        let md5 = |data: &[u8]| md5::Md5::digest(data).into();
        let etag = multipart_etag(&[md5(b"hello"), md5(b"world")]);
        let joined = [md5::Md5::digest(b"hello"), md5::Md5::digest(b"world")].concat();
        assert_eq!(etag, format!("{}-2", hex::encode(md5::Md5::digest(joined))));
    }

    #[test]
    fn a_false_or_uncomputed_claim_is_refused() {
        let value = |text: &[u8]| Value {
            algorithm: Algorithm::Crc32,
            bytes: digest(Algorithm::Crc32, text),
        };
        let computed = Computed {
            md5: [7; 16],
            checksums: vec![value(b"x")],
        };
        let claims = |md5, checksums| Claims { md5, checksums };
        assert!(
            claims(Some([7; 16]), vec![value(b"x")])
                .verify(&computed)
                .is_ok()
        );
        assert!(claims(Some([8; 16]), vec![]).verify(&computed).is_err());
        assert!(claims(None, vec![value(b"y")]).verify(&computed).is_err());
        let none = Computed {
            md5: [7; 16],
            checksums: vec![],
        };
        assert!(claims(None, vec![value(b"x")]).verify(&none).is_err());
    }

    #[test]
    fn foreign_checksums_are_known_as_such() {
        let foreign = Algorithm::is_foreign_header;
        for algorithm in Algorithm::ALL {
            assert!(!foreign(algorithm.header()));
        }
        for name in ["algorithm", "mode", "TYPE"] {
            assert!(!foreign(&format!("x-amz-checksum-{name}")), "{name}");
        }
        for name in ["x-amz-meta-a", "x-amz-checksum", "content-md5", "", "ü"] {
            assert!(!foreign(name), "{name}");
        }
        for name in ["md5", "sha512", "xxhash3", "xxhash64", "XXHASH128", "", "ü"] {
            assert!(foreign(&format!("X-Amz-Checksum-{name}")), "{name}");
        }
    }

    #[test]
    fn malformed_values_are_refused() {
        assert!(Value::parse(Algorithm::Crc32, "AAAA").is_err());
        assert!(Value::parse(Algorithm::Crc32, "not base64").is_err());
        assert_eq!(
            Value::parse(Algorithm::Crc32, "y/Q5Jg==").unwrap().text(),
            "y/Q5Jg=="
        );
        assert!(parse_content_md5("YWJj").is_err());
    }
}
