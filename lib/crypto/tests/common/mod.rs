//! Shared by the record tests: a ring, and one example of every sealed kind.

use megalith_crypto::manifest::{Checksum, ChecksumType, ContentHeaders};
use megalith_crypto::{
    AccessSecret, CellSealer, Credential, DataKey, Entropy, KeyRing, ListingContext, ListingEntry,
    Manifest, ManifestPart, ObjectContext, PartContext, PartManifest, RecordKind, RootKey,
    StreamContext, StreamIv, UploadContext,
};

pub const CLUSTER: [u8; 16] = [0xC1; 16];
pub const VERSION: [u8; 16] = [0x5E; 16];
pub const BUCKET: u64 = 77;
pub const KEY: &[u8] = b"photos/2026/canary.jpg";
pub const OBJECT: ObjectContext<'static> = ObjectContext {
    cluster: CLUSTER,
    bucket: BUCKET,
    key: KEY,
    version: VERSION,
};
pub const UPLOAD: UploadContext<'static> = UploadContext {
    cluster: CLUSTER,
    bucket: BUCKET,
    key: KEY,
    upload: [0xAB; 16],
};
pub const PART: PartContext<'static> = PartContext {
    upload: UPLOAD,
    number: 2,
};
pub const LISTED: ListingContext<'static> = ListingContext {
    key: KEY,
    version: VERSION,
    plain_len: (5 << 20) + 123_456,
};
pub const POLICY: RecordKind = RecordKind::new("policy");

pub fn root() -> RootKey {
    RootKey::parse(&"0123456789abcdef".repeat(4)).unwrap()
}

pub fn ring(entropy: &'static dyn Entropy) -> KeyRing {
    let kek = KeyRing::new_kek_with(&root(), CLUSTER, 1, entropy).unwrap();
    KeyRing::open(&root(), CLUSTER, &[(1, &kek)])
        .unwrap()
        .with_entropy(entropy)
}

pub fn iv(key: &DataKey, blob: u64, entropy: &'static dyn Entropy) -> StreamIv {
    let context = StreamContext {
        cluster: CLUSTER,
        blob,
        part: 0,
    };
    CellSealer::with_entropy(key, context, entropy).unwrap().1
}

pub fn checksum(value: &str, covers: ChecksumType) -> Checksum {
    Checksum {
        algorithm: "CRC64NVME".into(),
        value: value.into(),
        covers,
    }
}

pub fn manifest(ivs: [StreamIv; 2]) -> Manifest {
    let part = |number, plain_len, iv| ManifestPart {
        number,
        plain_len,
        blob: 1000 + u64::from(number),
        iv,
        checksums: vec![checksum("rosUhgp5mIg=", ChecksumType::FullObject)],
        key: None,
    };
    Manifest {
        parts: vec![part(1, 5 << 20, ivs[0]), part(2, 123_456, ivs[1])],
        checksums: vec![checksum("AAAAAAAAAAA=", ChecksumType::FullObject)],
        headers: ContentHeaders {
            content_type: Some("image/jpeg".into()),
            cache_control: Some("max-age=60".into()),
            ..ContentHeaders::default()
        },
        user_metadata: vec![("taken-at".into(), "Zürich".into())],
        tags: vec![("album".into(), "summer".into())],
    }
}

pub fn part_manifest(iv: StreamIv) -> PartManifest {
    PartManifest {
        plain_len: 123_456,
        written_ms: 1_700_000_000_000,
        blob: 1002,
        iv,
        md5: *b"0123456789abcdef",
        checksums: vec![checksum("rosUhgp5mIg=", ChecksumType::FullObject)],
    }
}

pub fn listing_entry() -> ListingEntry {
    ListingEntry {
        etag: "9b2cf535f27731c974343645a3985328-2".into(),
        checksum_algorithms: vec!["CRC64NVME".into()],
        checksum_type: Some(ChecksumType::FullObject),
        storage_class: "STANDARD".into(),
    }
}

pub fn credential() -> Credential {
    Credential {
        secret: AccessSecret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
        account: 12,
        enabled: true,
        account_enabled: true,
        name: "backup job".into(),
    }
}
