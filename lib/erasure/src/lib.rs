//! Reed-Solomon coding of stripes: k data cells give m parity cells, and any k of the n cells
//! restore the others.
//!
//! Pure: no input or output, no clock, no threads. The coding matrix is part of the stored format
//! (see [`matrix`]). It is that of the `reed-solomon-erasure` crate, whose slice kernels do the
//! work. Cells of a stripe may differ in length: a shorter one counts as padded with zeros, but
//! those zeros are never stored or touched.
//!
//! Must never be given unchecked cells: coding spreads a wrong byte to everything it makes.
//! Checksums come first.

mod encoder;
pub mod kernel;
pub mod matrix;

pub use encoder::{CodeError, Decoder, Encoder};
pub use kernel::cpu_supported;
