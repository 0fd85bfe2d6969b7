//! The pipeline on a data plane in memory that can delay, fail, flip bytes and lie.

mod again;
mod damage;
mod fake;
mod leftovers;
mod limits;
mod rig;
mod round_trip;
mod writes;
