//! The gateway: S3 in front, sealed and coded shards behind.

pub mod auth;
mod lock;
pub mod ops;
pub mod run;
pub mod s3;
