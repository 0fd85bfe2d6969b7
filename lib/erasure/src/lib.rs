//! Reed-Solomon coding of stripes: k data cells give m parity cells, any k of the n bring back
//! the rest.
//!
//! Pure: no input or output, no clock, no threads. The coding matrix is part of the stored
//! format (see [`matrix`]); it is that of the `reed-solomon-erasure` crate, whose slice kernels do
//! the work. Cells of a stripe may differ in length: a shorter one counts as filled up with
//! zeros, and none of those zeros is ever stored or touched.
//!
//! Must never be handed unchecked cells: coding spreads a wrong byte over everything it makes.
//! Checksums come first.

mod encoder;
pub mod kernel;
pub mod matrix;

pub use encoder::{CodeError, Decoder, Encoder};
pub use kernel::cpu_supported;
