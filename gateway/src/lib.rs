//! The gateway: speaks S3 to clients and keeps sealed, coded shards on storage nodes.

pub mod auth;
mod lock;
pub mod ops;
pub mod run;
pub mod s3;
