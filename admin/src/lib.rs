//! What operates a cluster: the library behind the `megalith` command, and later behind the
//! console.
//!
//! Owns: accounts and access keys (`accounts`), and the verdict on a cluster's health with its
//! reasons (`verdict`, told as a `report`). Needs an operator's certificate, and for accounts the
//! root key. Must never print anything or read a file: whoever calls it does.

pub mod accounts;
pub mod report;
pub mod verdict;
