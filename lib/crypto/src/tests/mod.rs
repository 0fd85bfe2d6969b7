//! Tests across modules: collisions between contexts, and what happens without randomness.

mod collision;
mod entropy;
