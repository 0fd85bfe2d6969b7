//! Bodies of sealed records: a version byte, then postcard.
//!
//! Only authenticated bytes are decoded. No byte may follow the body.

use crate::error::CryptoError;
use serde::Serialize;
use serde::de::Deserialize;
use zeroize::Zeroizing;

/// Encodes `body` behind its version byte, in memory that is wiped.
pub(crate) fn encode<T: Serialize>(
    version: u8,
    body: &T,
) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let size = postcard::experimental::serialized_size(body)
        .map_err(|_| CryptoError::Misuse("body can't be encoded"))?;
    // The size is fixed beforehand: a growing vector would leave copies of secrets behind.
    let mut bytes = Zeroizing::new(vec![0; 1 + size]);
    bytes[0] = version;
    let written = postcard::to_slice(body, &mut bytes[1..])
        .map_err(|_| CryptoError::Misuse("body can't be encoded"))?
        .len();
    debug_assert_eq!(written, size);
    Ok(bytes)
}

/// Decodes an authenticated body of the given version.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    version: u8,
    bytes: &'a [u8],
) -> Result<T, CryptoError> {
    let (found, body) = bytes.split_first().ok_or(CryptoError::Unauthentic)?;
    if *found != version {
        return Err(CryptoError::Unauthentic);
    }
    let (value, rest) = postcard::take_from_bytes(body).map_err(|_| CryptoError::Unauthentic)?;
    if !rest.is_empty() {
        return Err(CryptoError::Unauthentic);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_bodies_of_the_right_version_decode() {
        let bytes = encode(1, &(7_u32, "text")).unwrap();
        assert_eq!(decode::<(u32, &str)>(1, &bytes), Ok((7, "text")));
        let refused = |version, bytes: &[u8]| {
            let decoded = decode::<(u32, &str)>(version, bytes);
            assert_eq!(decoded, Err(CryptoError::Unauthentic), "{bytes:?}");
        };
        refused(2, &bytes);
        refused(1, &[&bytes[..], &[0]].concat());
        for kept in 0..bytes.len() {
            refused(1, &bytes[..kept]);
        }
        // A list that claims more entries than there are bytes causes no allocation for them.
        let claims_much = [1, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F];
        let decoded = decode::<Vec<String>>(1, &claims_much);
        assert_eq!(decoded, Err(CryptoError::Unauthentic));
    }
}
