//! megalith-node.

pub mod fs;
pub mod meta;
pub mod run;
pub mod server;
pub mod store;
