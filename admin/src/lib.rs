//! The operator's library: used by the `megalith` command, later also by the console.
//!
//! Owns: accounts and access keys (`accounts`), the comparison of rows and disks (`check`), changes
//! of the metadata group's members (`members`), the deny list of certificates (`denied`), the
//! disks' scrub (`scrub`), the proof that a root key opens the cluster (`root_key`), rotations of
//! key-encryption keys (`rotation`), the cluster's settings (`settings`), and the verdict on a
//! cluster's health with its reasons (`verdict`, shown as a `report`). Needs an operator's
//! certificate, and for accounts the root key.
//! Must never print anything or read a file: callers do that.

pub mod accounts;
pub mod check;
pub mod denied;
pub mod members;
pub mod report;
pub mod root_key;
pub mod rotation;
pub mod scrub;
pub mod settings;
pub mod verdict;
