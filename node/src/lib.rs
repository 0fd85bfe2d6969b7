//! megalith-node.

pub mod fs;
pub mod meta;
pub mod server;
pub mod store;
