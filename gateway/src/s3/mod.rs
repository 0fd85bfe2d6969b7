//! The S3 face: translation between s3s and our operations, and what s3s leaves open.
//!
//! Owns: the gate before signatures ([`gate`]), bodies under guard ([`guard`]), the errors' words,
//! ids of requests. Must never decide what an operation does ([`crate::ops`] does), answer an
//! unsigned request, or log a secret, a signature or a presigned URL's query.
//!
//! **s3s itself logs signatures, headers and bodies**: [`LOG_DIRECTIVE`] must be part of every
//! log filter.

mod api;
mod buckets;
pub mod chunked;
mod convert;
mod error;
pub mod gate;
pub mod guard;
pub mod host;
mod lists;
mod objects;
mod read;
mod refuse;
mod service;
mod uploads;

pub use api::Api;
pub use service::{Face, FaceParts};

/// Must stand in every log filter, in the form of `tracing_subscriber`'s `EnvFilter`: s3s logs
/// the signature that it expected, and requests with their headers, at debug level, and the
/// caller's every mistake as an error.
pub const LOG_DIRECTIVE: &str = "s3s=off";

#[cfg(test)]
pub(crate) mod tests;
