//! The trash is a list that survives power cuts, and never more than a list.

use super::{DISK, shard};
use crate::trash::{Trash, TrashList, TrashedShard, decode, encode};
use megalith_disk::sim::SimFs;
use megalith_model::ids::{BlobId, DiskId, VolumeId};
use megalith_model::shard::ShardId;
use proptest::prelude::*;
use std::path::Path;

fn path() -> &'static Path {
    Path::new("/trash")
}

fn trash(blobs: &[u64]) -> Trash {
    let entry = |blob: &u64| {
        let (since_ms, len) = (*blob + 1, 5);
        (shard(1, *blob), TrashedShard { since_ms, len })
    };
    blobs.iter().map(entry).collect()
}

proptest! {
    #[test]
    fn the_list_comes_back_as_it_was_and_no_other_is_taken_for_it(
        entries in prop::collection::vec(any::<(u64, u64, u32, u8, u64, u64)>(), 0..20),
        flip in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let entry = |(volume, blob, segment, slot, since_ms, len)| {
            let (volume, blob) = (VolumeId(volume), BlobId(blob));
            (ShardId { volume, blob, segment, slot }, TrashedShard { since_ms, len })
        };
        let trash: Trash = entries.into_iter().map(entry).collect();
        let mut bytes = encode(&trash, DISK);
        prop_assert_eq!(decode(&bytes, DISK), Some(trash));
        prop_assert_eq!(decode(&bytes, DiskId([1; 16])), None);
        let at = flip.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(decode(&bytes, DISK), None);
        bytes[at] ^= 1 << bit;
        bytes.truncate(at);
        prop_assert_eq!(decode(&bytes, DISK), None);
    }
}

#[test]
fn the_list_is_laid_out_as_documented() {
    let shard = shard(0x0102_0304, 0x1112_1314_1516_1718);
    let entry = TrashedShard {
        since_ms: 14,
        len: 15,
    };
    let bytes = encode(&Trash::from([(shard, entry)]), DISK);
    assert_eq!(bytes.len(), 32 + 40 + 4);
    assert_eq!(bytes[..8], *b"MGRt\x01\0\0\0");
    assert_eq!(bytes[8..24], DISK.0);
    assert_eq!(bytes[24..32], 1_u64.to_le_bytes());
    assert_eq!(bytes[32..40], [4, 3, 2, 1, 0, 0, 0, 0]);
    assert_eq!(
        bytes[40..53],
        [
            0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0, 0, 0, 0, 1
        ]
    );
    assert_eq!(bytes[56..64], 14_u64.to_le_bytes());
    assert_eq!(bytes[64..72], 15_u64.to_le_bytes());
}

#[test]
fn the_list_survives_a_power_cut_and_a_bad_one_is_empty() {
    let fs = SimFs::new(1 << 20);
    let (list, bad) = TrashList::open(&fs, path(), DISK);
    assert!(!bad && list.read().is_empty());
    let replace = |entries: &[u64]| list.replace(&fs, path(), DISK, trash(entries));
    replace(&[1, 2]).expect("written");
    replace(&[2]).expect("written");
    fs.crash(1);
    let (list, bad) = TrashList::open(&fs, path(), DISK);
    assert!(!bad);
    assert_eq!(*list.read(), trash(&[2]));

    fs.flip(path(), 30, 4).expect("there");
    let (list, bad) = TrashList::open(&fs, path(), DISK);
    assert!(bad && list.read().is_empty());
}
