//! The one error type. Few kinds: opening succeeds or gives [`CryptoError::Unauthentic`].

/// Why a key, a cell or a record could not be made or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CryptoError {
    /// The bytes are not what was sealed under this key and context. Deliberately says no more:
    /// truncated, malformed, moved, edited and foreign bytes all give this error.
    #[error("not authentic")]
    Unauthentic,
    /// The random source failed or is stuck. Nothing was sealed.
    #[error("the random source failed")]
    Random,
    /// A key's text is not 32 bytes in hexadecimal or base64, or is a trivial value.
    #[error("not a usable 256-bit key: expected 64 hexadecimal digits or base64 of 32 bytes")]
    InvalidKey,
    /// Something to be sealed is larger than the format allows.
    #[error("{what} exceeds its limit of {max}")]
    TooLarge {
        what: &'static str,
        /// The limit, in the unit of `what`.
        max: usize,
    },
    /// A byte range or length that no blob of this size has.
    #[error("length or range does not fit the blob")]
    InvalidLength,
    /// The caller used the wrong order of calls; a bug on our side.
    #[error("wrong use: {0}")]
    Misuse(&'static str),
}
