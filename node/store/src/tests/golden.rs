//! The stored forms, byte by byte: a change here means disks that can't be read any more.

use super::{CLUSTER, DISK};
use crate::record::{
    Cell, Footer, HEADER_LEN, Header, HeaderFault, Kind, RecordPlace, check_record,
    decode_deletions, encode_deletions, encode_record,
};
use crate::superblock::Superblock;
use bytes::Bytes;
use megalith_disk::crc32c::crc32c;
use megalith_model::ids::{BlobId, DiskId, Epoch, VolumeId};
use megalith_model::shard::ShardKey;
use proptest::prelude::*;

const PLACE: RecordPlace = RecordPlace {
    disk: DISK,
    file: 3,
    block: 17,
};

fn header() -> Header {
    Header {
        kind: Kind::Cells,
        last: true,
        volume: VolumeId(0x0102_0304),
        epoch: Epoch(5),
        key: ShardKey {
            blob: BlobId(0x1112_1314_1516_1718),
            segment: 6,
            slot: 7,
        },
        first_cell: 16,
        cells: 1,
        length: 5,
        lsn: 0x21,
        stream: 9,
        synced: 12,
    }
}

fn record() -> Vec<u8> {
    let cell = Bytes::from_static(b"hello");
    let cells: [Cell; 1] = [(cell.clone(), crc32c(&cell))];
    let footer = Footer {
        digest: [0xab; 32],
        total: 16 * 65_568 + 5,
    };
    encode_record(&header(), &cells, &footer, PLACE).concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn record_is_laid_out_as_documented() {
    let bytes = record();
    assert_eq!(bytes.len(), 4096);
    assert_eq!(
        hex(&bytes[..60]),
        "4d4752680302010704030201000000000500000018171615141312110600000010000000\
         0100000005000000210000000000000009000000 0c000000"
            .replace(' ', "")
    );
    assert_eq!(hex(&bytes[64..73]), "68656c6c6f".to_owned() + "4cbb719a");
    assert!(bytes[73..4048].iter().all(|&byte| byte == 0));
    assert_eq!(hex(&bytes[4048..4080]), "ab".repeat(32));
    assert_eq!(
        hex(&bytes[4080..4092]),
        "0502100000000000".to_owned() + "4d475266"
    );
    assert_eq!(crc32c(b"123456789"), 0xe306_9283, "crc32c is Castagnoli's");
    // The checksums cover the place: disk, file, block.
    let placed = |bytes: &[u8]| {
        let mut covered = DISK.0.to_vec();
        covered.extend_from_slice(&3u32.to_le_bytes());
        covered.extend_from_slice(&17u32.to_le_bytes());
        covered.extend_from_slice(bytes);
        crc32c(&covered).to_le_bytes()
    };
    assert_eq!(bytes[60..64], placed(&bytes[..60]));
    let mut footer = bytes[4048..4092].to_vec();
    footer.extend_from_slice(&[0; 4]);
    footer.extend_from_slice(&0x21u64.to_le_bytes());
    footer.truncate(44);
    let mut padded = [0; 52];
    padded[..44].copy_from_slice(&footer);
    padded[44..].copy_from_slice(&0x21u64.to_le_bytes());
    assert_eq!(bytes[4092..], placed(&padded));
}

#[test]
fn superblock_is_laid_out_as_documented() {
    let superblock = Superblock::new(CLUSTER, DISK, 0x0102_0304_0506, [0x5a; 32]);
    let bytes = superblock.encode();
    assert_eq!(bytes.len(), 128);
    assert_eq!(&bytes[..8], b"MEGALITH");
    assert_eq!(hex(&bytes[8..16]), "0300000000000000");
    assert_eq!(hex(&bytes[16..32]), "07".repeat(16));
    assert_eq!(hex(&bytes[32..48]), "09".repeat(16));
    assert_eq!(hex(&bytes[48..64]), "06050403020100000100000000000000");
    assert_eq!(hex(&bytes[64..96]), "5a".repeat(32));
    assert_eq!(hex(&bytes[96..124]), "00".repeat(28));
    assert_eq!(bytes[124..], crc32c(&bytes[..124]).to_le_bytes());
}

#[test]
fn the_proof_of_a_superblock_stays_as_it_is_and_does_not_show_the_secret() {
    let superblock = |disk, secret| Superblock::new(CLUSTER, disk, 1, [secret; 32]);
    let proof = superblock(DISK, 0x5a).proof();
    let mut material = [7; 80];
    material[16..32].fill(9);
    material[32..64].fill(0x5a);
    let context = "megalith 2026 proof of having a disk's superblock v1";
    assert_eq!(proof.0, blake3::derive_key(context, &material[..64]));
    assert_ne!(proof, superblock(DISK, 0x5b).proof());
    assert_ne!(proof, superblock(DiskId([8; 16]), 0x5a).proof());
    let shown = format!("{:?} {proof:?}", superblock(DISK, 0x5a));
    assert_eq!(shown.matches("(not shown)").count(), 2, "{shown}");
}

#[test]
fn header_of_another_format_is_told_from_a_bad_one() {
    for version in [1, 2, 4] {
        let mut bytes = header().encode(PLACE);
        bytes[4] = version;
        assert_eq!(Header::decode(&bytes, PLACE), Err(HeaderFault::Bad));
        let crc = PLACE.crc(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        let other = Err(HeaderFault::OtherFormat(version));
        assert_eq!(Header::decode(&bytes, PLACE), other);
    }
}

#[test]
fn a_record_that_calls_what_lies_behind_it_durable_is_bad() {
    let decoded = |synced| {
        let header = Header { synced, ..header() };
        Header::decode(&header.encode(PLACE), PLACE)
    };
    for synced in [0, PLACE.block] {
        assert!(decoded(synced).is_ok(), "{synced}");
    }
    for synced in [PLACE.block + 1, u32::MAX] {
        assert_eq!(decoded(synced), Err(HeaderFault::Bad), "{synced}");
    }
}

#[test]
fn every_flipped_byte_of_a_record_is_noticed() {
    let good = record();
    let intact = |bytes: &[u8]| {
        let head = bytes.first_chunk::<HEADER_LEN>().expect("a whole record");
        match Header::decode(head, PLACE) {
            Ok(header) => check_record(bytes, &header, PLACE).is_some(),
            Err(_) => false,
        }
    };
    assert!(intact(&good));
    // What lies between the last checksum and the footer is padding and means nothing.
    for at in (0..73).chain(4048..4096) {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            assert!(!intact(&bytes), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn record_is_not_taken_for_one_of_another_place() {
    let bytes = header().encode(PLACE);
    for other in [
        RecordPlace { block: 18, ..PLACE },
        RecordPlace { file: 4, ..PLACE },
        RecordPlace {
            disk: megalith_model::ids::DiskId([8; 16]),
            ..PLACE
        },
    ] {
        assert_eq!(Header::decode(&bytes, other), Err(HeaderFault::Bad));
    }
}

proptest! {
    #[test]
    fn headers_survive_the_round_trip(
        (volume, epoch, blob, segment) in any::<(u64, u32, u64, u32)>(),
        (slot, lsn, last) in any::<(u8, u64, bool)>(),
        (first, cells, tail) in (0u32..8192, 1u16..=16, 1u32..=65_568),
    ) {
        let header = Header {
            last,
            volume: VolumeId(volume),
            epoch: Epoch(epoch),
            key: ShardKey { blob: BlobId(blob), segment, slot },
            first_cell: first,
            cells,
            length: (u32::from(cells) - 1) * 65_568 + tail,
            lsn,
            ..header()
        };
        prop_assert_eq!(Header::decode(&header.encode(PLACE), PLACE), Ok(header));
    }

    #[test]
    fn arbitrary_bytes_never_make_a_header(bytes in any::<[u8; 32]>(), at in 0usize..28) {
        let mut head = header().encode(PLACE);
        let changed = head[at..at + 32] != bytes;
        head[at..at + 32].copy_from_slice(&bytes);
        prop_assert_eq!(Header::decode(&head, PLACE).is_err(), changed);
    }

    #[test]
    fn graves_survive_the_round_trip(
        deletions in proptest::collection::vec(any::<(u64, u32, u8, u64)>(), 1..50)
    ) {
        let deletions: Vec<(ShardKey, u64)> = deletions
            .into_iter()
            .map(|(blob, segment, slot, lsn)| {
                (ShardKey { blob: BlobId(blob), segment, slot }, lsn)
            })
            .collect();
        prop_assert_eq!(decode_deletions(&encode_deletions(&deletions)).collect::<Vec<_>>(), deletions);
    }
}
