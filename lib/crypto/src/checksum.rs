//! How a checksum is kept inside sealed records: the algorithm as one byte and the value as bytes,
//! so that a CRC-64 takes 11 bytes and not 25.
//!
//! A [`Checksum`] is text, as S3 writes it. Every one comes back as it was.
//!
//! ```text
//! 0  algorithm ‖ value                        of the whole object or part: the value is base64
//! 1  algorithm ‖ value ‖ count of parts       over the parts' checksums: base64, "-", count
//! 2  algorithm ‖ text ‖ what it covers        any other
//! algorithm = 1: CRC32, 2: CRC32C, 3: CRC64NVME, 4: SHA1, 5: SHA256, 0 and text: any other
//! ```

use crate::manifest::{Checksum, ChecksumType};
use crate::texts::Algorithm;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The order of the variants is stored.
#[derive(Serialize, Deserialize)]
enum Stored {
    Whole(Algorithm, Vec<u8>),
    Parts(Algorithm, Vec<u8>, u32),
    Other(Algorithm, String, ChecksumType),
}

/// Reads a number that is written in the only way that it can be.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

impl Stored {
    fn of(checksum: &Checksum) -> Self {
        let Checksum {
            algorithm,
            value,
            covers,
        } = checksum;
        let algorithm = || Algorithm::from(algorithm.clone());
        // Base64 is read in the one way in which it is written.
        let known = match covers {
            ChecksumType::FullObject => {
                let bytes = STANDARD.decode(value).ok();
                bytes.map(|bytes| Self::Whole(algorithm(), bytes))
            }
            ChecksumType::Composite => value.split_once('-').and_then(|(value, count)| {
                let bytes = STANDARD.decode(value).ok()?;
                Some(Self::Parts(algorithm(), bytes, number(count)?))
            }),
        };
        known.unwrap_or_else(|| Self::Other(algorithm(), value.clone(), *covers))
    }

    fn checksum(self) -> Checksum {
        let (algorithm, value, covers) = match self {
            Self::Whole(algorithm, bytes) => {
                (algorithm, STANDARD.encode(bytes), ChecksumType::FullObject)
            }
            Self::Parts(algorithm, bytes, count) => {
                let value = format!("{}-{count}", STANDARD.encode(bytes));
                (algorithm, value, ChecksumType::Composite)
            }
            Self::Other(algorithm, value, covers) => (algorithm, value, covers),
        };
        Checksum {
            algorithm: algorithm.into(),
            value,
            covers,
        }
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Stored::of(self).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Stored::deserialize(from).map(Stored::checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checksum(algorithm: &str, value: &str, covers: ChecksumType) -> Checksum {
        Checksum {
            algorithm: algorithm.to_owned(),
            value: value.to_owned(),
            covers,
        }
    }

    fn len(checksum: &Checksum) -> usize {
        let bytes = postcard::to_allocvec(checksum).unwrap();
        assert_eq!(&postcard::from_bytes::<Checksum>(&bytes).unwrap(), checksum);
        bytes.len()
    }

    #[test]
    fn values_are_bytes() {
        for (algorithm, value_len) in [("CRC32", 4), ("CRC64NVME", 8), ("SHA256", 32)] {
            let value = STANDARD.encode(vec![7; value_len]);
            let whole = checksum(algorithm, &value, ChecksumType::FullObject);
            assert_eq!(len(&whole), 3 + value_len, "{algorithm}");
            let value = format!("{value}-10000");
            let parts = checksum(algorithm, &value, ChecksumType::Composite);
            assert_eq!(len(&parts), 5 + value_len, "{algorithm}");
        }
        let unknown = checksum("MD5", "AAAAAA==", ChecksumType::FullObject);
        assert_eq!(len(&unknown), 1 + 5 + 5);
    }

    #[test]
    fn values_that_would_come_back_otherwise_are_text() {
        for (value, covers) in [
            ("AAAAAA", ChecksumType::FullObject),
            ("AAAAAB==", ChecksumType::FullObject),
            ("AAAAAA==-2", ChecksumType::FullObject),
            ("AAAAAA==", ChecksumType::Composite),
            ("AAAAAA==-02", ChecksumType::Composite),
        ] {
            let other = checksum("CRC32", value, covers);
            assert_eq!(len(&other), 4 + value.len(), "{value}");
        }
    }

    proptest! {
        #[test]
        fn every_checksum_comes_back(
            algorithm in "CRC32|SHA256|.*",
            value in "[A-Za-z0-9+/]{6}==(-[0-9]{1,6})?|.*",
            composite in any::<bool>(),
        ) {
            let covers = match composite {
                true => ChecksumType::Composite,
                false => ChecksumType::FullObject,
            };
            len(&checksum(&algorithm, &value, covers));
        }
    }
}
