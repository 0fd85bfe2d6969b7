//! The defaults of settings, shared by the files, `init` and `up`.

/// The address on which a gateway serves S3 without TLS.
pub const GATEWAY_LISTEN: &str = "0.0.0.0:9000";
/// The region that signatures must name.
pub const REGION: &str = "us-east-1";
/// The most bytes of memory for the bodies that a gateway has in flight, if its file names none.
const GATEWAY_MEMORY_BYTES: u64 = 1 << 30;
/// The address on which a node serves gRPC.
pub const RPC_LISTEN: &str = "0.0.0.0:7001";
/// The address on which a node serves shard bytes.
pub const DATA_LISTEN: &str = "0.0.0.0:7002";
/// How many days a certificate is valid.
pub const CERTIFICATE_DAYS: u32 = 3650;

/// Returns the bytes of memory for the bodies that a gateway has in flight, for a process that may
/// use `limit` bytes: a quarter, so that there is room for all else, and for the other roles of
/// `megalith up`.
#[must_use]
pub fn gateway_memory_bytes(limit: Option<u64>) -> u64 {
    limit.map_or(GATEWAY_MEMORY_BYTES, |limit| {
        GATEWAY_MEMORY_BYTES.min(limit / 4)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_takes_a_quarter_of_what_its_process_may_use() {
        assert_eq!(gateway_memory_bytes(None), 1 << 30);
        assert_eq!(gateway_memory_bytes(Some(u64::MAX)), 1 << 30);
        assert_eq!(gateway_memory_bytes(Some(4 << 30)), 1 << 30);
        assert_eq!(gateway_memory_bytes(Some(512 << 20)), 128 << 20);
    }
}
