//! Who calls: access keys and the accounts behind them.
//!
//! Owns: finding and opening credentials, and the operator's verbs about accounts and keys
//! ([`admin`]). Must never print a secret, trust an unsealed copy of an account or flag, or keep
//! a credential longer than [`credentials::KEPT_FOR`].

#![deny(
    clippy::wildcard_enum_match_arm,
    reason = "a new variant must be judged, not waved through"
)]

pub mod credentials;

pub use credentials::{CredentialError, Credentials, Known};
