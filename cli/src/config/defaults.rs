//! The defaults of settings, shared by the files, `init` and `up`.

use megalith_store::StoreSettings;

/// The address on which a gateway serves S3 without TLS.
pub const GATEWAY_LISTEN: &str = "0.0.0.0:9000";
/// The region that signatures must name.
pub const REGION: &str = "us-east-1";
/// The most bytes of memory for the bodies that a gateway has in flight, if its file names none.
const GATEWAY_MEMORY_BYTES: u64 = 1 << 30;
/// The most bytes of memory for the caches and queues of a metadata member, if its file names none.
const MEMBER_MEMORY_BYTES: u64 = 512 << 20;
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

/// Returns the bytes of memory for the caches and queues of a metadata member, for a process that
/// may use `limit` bytes: a quarter, as above.
#[must_use]
pub fn member_memory_bytes(limit: Option<u64>) -> u64 {
    limit.map_or(MEMBER_MEMORY_BYTES, |limit| {
        MEMBER_MEMORY_BYTES.min(limit / 4)
    })
}

/// Returns the bytes that may wait for the writer of one of `disks` disks, for a process that may
/// use `limit` bytes: 64 MiB, or this disk's part of an eighth, but never less than one commit.
#[must_use]
pub fn disk_queue_bytes(limit: Option<u64>, disks: usize) -> u32 {
    let StoreSettings {
        queue_bytes,
        commit_bytes,
        ..
    } = StoreSettings::default();
    let disks = disks.max(1) as u64;
    let part = limit.map_or(u64::MAX, |limit| limit / 8 / disks);
    u32::try_from(part.max(commit_bytes)).map_or(queue_bytes, |part| part.min(queue_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_disks_is_an_eighth_of_what_the_process_may_use() {
        assert_eq!(disk_queue_bytes(None, 6), 64 << 20);
        assert_eq!(disk_queue_bytes(Some(u64::MAX), 6), 64 << 20);
        assert_eq!(disk_queue_bytes(Some(512 << 20), 1), 64 << 20);
        assert_eq!(disk_queue_bytes(Some(512 << 20), 4), 16 << 20);
        // One commit at least.
        assert_eq!(disk_queue_bytes(Some(512 << 20), 60), 4 << 20);
        assert_eq!(disk_queue_bytes(Some(0), 0), 4 << 20);
    }

    #[test]
    fn a_member_takes_a_quarter_of_what_its_process_may_use() {
        assert_eq!(member_memory_bytes(None), 512 << 20);
        assert_eq!(member_memory_bytes(Some(u64::MAX)), 512 << 20);
        assert_eq!(member_memory_bytes(Some(2 << 30)), 512 << 20);
        assert_eq!(member_memory_bytes(Some(512 << 20)), 128 << 20);
    }

    #[test]
    fn a_gateway_takes_a_quarter_of_what_its_process_may_use() {
        assert_eq!(gateway_memory_bytes(None), 1 << 30);
        assert_eq!(gateway_memory_bytes(Some(u64::MAX)), 1 << 30);
        assert_eq!(gateway_memory_bytes(Some(4 << 30)), 1 << 30);
        assert_eq!(gateway_memory_bytes(Some(512 << 20)), 128 << 20);
    }
}
