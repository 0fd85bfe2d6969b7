//! The inner loop: multiplies a slice by a constant and adds it to another slice, over GF(2^8).
//!
//! `reed-solomon-erasure` compiles its SIMD code for one instruction set, chosen at build time
//! (Haswell on x86-64, unless `RUST_REED_SOLOMON_ERASURE_ARCH` says otherwise), and never asks the
//! processor. We ask once, and fall back to a table loop that gives the same bytes.

use reed_solomon_erasure::galois_8;
use std::sync::OnceLock;

/// Returns true if the SIMD kernel runs on this processor; else coding is about ten times slower.
#[must_use]
pub fn cpu_supported() -> bool {
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(detect)
}

/// What `-march=haswell` lets a C compiler use beyond the x86-64 baseline.
#[cfg(target_arch = "x86_64")]
fn detect() -> bool {
    // Built for another instruction set: whoever chose it must ensure that the processor has it.
    if option_env!("RUST_REED_SOLOMON_ERASURE_ARCH").is_some() {
        return true;
    }
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("movbe")
        && is_x86_feature_detected!("popcnt")
}

/// NEON is part of the aarch64 baseline; on other processors the crate is plain Rust.
#[cfg(not(target_arch = "x86_64"))]
fn detect() -> bool {
    true
}

/// Adds `factor` × `source` to the front of `target`, which is at least as long.
pub(crate) fn mul_add(factor: u8, source: &[u8], target: &mut [u8]) {
    // The crate's kernels take the address of the first byte.
    if factor == 0 || source.is_empty() {
        return;
    }
    let target = &mut target[..source.len()];
    if cpu_supported() {
        galois_8::mul_slice_xor(factor, source, target);
    } else {
        mul_add_portable(factor, source, target);
    }
}

/// The same in plain Rust.
pub(crate) fn mul_add_portable(factor: u8, source: &[u8], target: &mut [u8]) {
    let products: [u8; 256] = std::array::from_fn(|byte| galois_8::mul(factor, byte as u8));
    for (to, from) in target.iter_mut().zip(source) {
        *to ^= products[usize::from(*from)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_kernels_agree(
            factor: u8,
            source in proptest::collection::vec(any::<u8>(), 0..300),
            start: u8,
        ) {
            let mut fast = vec![start; source.len() + 3];
            let mut slow = fast.clone();
            mul_add(factor, &source, &mut fast);
            mul_add_portable(factor, &source, &mut slow);
            prop_assert_eq!(fast, slow);
        }
    }
}
