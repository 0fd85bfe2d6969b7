//! Bodies of sealed records: a version byte, then postcard.
//!
//! Only authenticated bytes are decoded. Nothing may follow the body.

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
    // Sized beforehand: a growing vector would leave copies of secrets behind.
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
