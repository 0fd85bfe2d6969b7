//! megalith-node.

pub mod crc32c;
pub mod fs;
pub mod meta;
pub mod run;
pub mod server;
pub mod store;
