//! What a setting is when nobody sets it, for the files, `init` and `up` alike.

/// Where a gateway listens for S3 without TLS.
pub const GATEWAY_LISTEN: &str = "0.0.0.0:9000";
/// The region that signatures must name.
pub const REGION: &str = "us-east-1";
/// Bytes of memory for the bodies that a gateway has in flight.
pub const GATEWAY_MEMORY_BYTES: u64 = 1 << 30;
/// Where a node listens for gRPC.
pub const RPC_LISTEN: &str = "0.0.0.0:7001";
/// Where a node listens for shard bytes.
pub const DATA_LISTEN: &str = "0.0.0.0:7002";
/// Days that a certificate is valid.
pub const CERTIFICATE_DAYS: u32 = 3650;
