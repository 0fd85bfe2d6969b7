//! The S3 face: requests in, answers out.
//!
//! [`edge`] deals with HTTP, XML, signatures and bodies, and hands each signed request to one
//! operation. An operation is one small file below [`bucket`], [`object`], [`listing`] or
//! [`upload`]: its route, what it takes, its call into [`crate::ops`], its answer. [`operations`]
//! lists them all. What several of them share is in [`fields`] (for requests) and [`show`] (for
//! answers).
//!
//! Must never decide what an operation does ([`crate::ops`] does), answer an unsigned request,
//! or log a secret, a signature, a path or a presigned URL's query.

mod bucket;
mod edge;
mod fields;
mod listing;
mod object;
mod operations;
mod show;
mod upload;

#[cfg(feature = "fuzz")]
pub use edge::fuzz;
pub use edge::{AnswerBody, Cut, Face, FaceParts, PeerAddress, Window};

#[cfg(test)]
pub(crate) mod tests;
