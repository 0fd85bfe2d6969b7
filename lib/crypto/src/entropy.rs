//! Where randomness comes in, and the checks it passes before any of it is used.
//!
//! A draw that fails, or that looks like a stuck source, makes sealing fail: a repeated nonce under
//! one key would give both plaintexts away.

use crate::error::CryptoError;
use aws_lc_rs::rand::SecureRandom;
use zeroize::Zeroizing;

/// A source of cryptographically strong random bytes.
///
/// Tests and simulations bring their own; everything else uses [`SystemEntropy`].
pub trait Entropy: Send + Sync {
    /// Fills `target` completely.
    ///
    /// # Errors
    /// If the source can't deliver; the content of `target` is then not used.
    fn fill(&self, target: &mut [u8]) -> Result<(), EntropyError>;
}

/// The random source could not deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("random source unavailable")]
pub struct EntropyError;

/// The operating system's source, through aws-lc's generator.
///
/// Every draw mixes in fresh system randomness, so a forked or cloned process diverges at once. For
/// the same reason draws are not buffered here.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, target: &mut [u8]) -> Result<(), EntropyError> {
        #[expect(
            clippy::disallowed_types,
            reason = "the one place that draws from the system"
        )]
        let source = aws_lc_rs::rand::SystemRandom::new();
        source.fill(target).map_err(|_| EntropyError)
    }
}

/// The source that is used if none is passed in.
pub(crate) static SYSTEM: SystemEntropy = SystemEntropy;

/// Draws `N` (≥ 12) random bytes.
///
/// A draw of one repeated byte means a stuck source: a good one gives it with a chance of 2^-88.
pub(crate) fn draw<const N: usize>(
    entropy: &dyn Entropy,
) -> Result<Zeroizing<[u8; N]>, CryptoError> {
    const { assert!(N >= 12) };
    let mut bytes = Zeroizing::new([0; N]);
    entropy
        .fill(bytes.as_mut_slice())
        .map_err(|EntropyError| CryptoError::Random)?;
    if bytes.iter().all(|byte| *byte == bytes[0]) {
        return Err(CryptoError::Random);
    }
    Ok(bytes)
}
