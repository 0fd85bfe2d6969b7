//! Who calls: access keys and the accounts behind them.
//!
//! Owns: finding and opening credentials, and how often the metadata group is asked for them
//! (`kept`). Must never print a secret, trust an unsealed copy of a key's account or flag, or keep
//! a credential longer than `kept::KEPT_FOR`. An account's own `enabled` flag is not sealed and is
//! trusted as the metadata group gives it.

#![deny(
    clippy::wildcard_enum_match_arm,
    reason = "a new variant must be judged, not waved through"
)]

pub mod credentials;
mod kept;

pub use credentials::{ActiveKey, CredentialError, Credentials};
