//! What concerns more than one module: collisions between contexts, and what happens
//! without randomness.

mod collision;
mod entropy;
