//! The defaults of settings, shared by the files, `init` and `up`.

/// The address on which a gateway serves S3 without TLS.
pub const GATEWAY_LISTEN: &str = "0.0.0.0:9000";
/// The region that signatures must name.
pub const REGION: &str = "us-east-1";
/// Bytes of memory for the bodies that a gateway has in flight.
pub const GATEWAY_MEMORY_BYTES: u64 = 1 << 30;
/// The address on which a node serves gRPC.
pub const RPC_LISTEN: &str = "0.0.0.0:7001";
/// The address on which a node serves shard bytes.
pub const DATA_LISTEN: &str = "0.0.0.0:7002";
/// How many days a certificate is valid.
pub const CERTIFICATE_DAYS: u32 = 3650;
