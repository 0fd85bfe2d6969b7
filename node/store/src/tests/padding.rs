//! Records are padded to whole blocks: what the padding holds changes nothing, what lies beside it
//! counts to the last byte, and the space it takes is counted.

use super::{Bench, DISK, cells_of, content, settings, shard};
use crate::error::StoreError;
use crate::record::{
    BLOCK_LEN, CELL_LEN, CRC_LEN, FOOTER_LEN, Footer, HEADER_LEN, Header, Kind, RecordPlace,
    check_record, encode_record,
};
use crate::settings::StoreSettings;
use megalith_disk::FileSystem;
use megalith_model::ids::{Epoch, VolumeId};
use megalith_model::shard::ShardId;
use std::io::IoSlice;
use std::ops::Range;
use std::path::PathBuf;

/// Four cells and a little more than their checksums, header and footer: nearly a block of padding.
const LONG: usize = 4 * CELL_LEN;
const SECTOR: u64 = 512;
const EPOCH: Epoch = Epoch(1);

fn long_records() -> StoreSettings {
    StoreSettings {
        file_len_max: 16 << 20,
        record_cells: 8,
        ..settings()
    }
}

/// Where the only record of a shard lies.
struct Laid {
    path: PathBuf,
    record: Range<u64>,
    padding: Range<u64>,
}

fn laid(bench: &mut Bench, shard: ShardId, len: usize) -> Laid {
    let catalog = &bench.core().catalog;
    let found = catalog.find(shard).expect("looked up").expect("there");
    assert_eq!(found.extent.records.len(), 1, "one record");
    let start = u64::from(found.extent.records[0]) * BLOCK_LEN;
    let end = start + found.extent.disk_len();
    let used = HEADER_LEN + len + len.div_ceil(CELL_LEN) * CRC_LEN;
    Laid {
        path: catalog.paths.chunk(shard.volume, found.seq),
        record: start..end,
        padding: start + used as u64..end - FOOTER_LEN as u64,
    }
}

fn overwrite(bench: &Bench, laid: &Laid, range: Range<u64>, byte: u8) {
    let bytes = vec![byte; (range.end - range.start) as usize];
    let file = bench.fs.open(&laid.path).expect("open");
    file.write_at(&[IoSlice::new(&bytes)], range.start)
        .expect("written");
    file.sync_data().expect("synced");
}

/// Regions and shards that are known to be damaged, and torn pieces.
fn verdict(bench: &mut Bench) -> (u64, u64, u64) {
    let health = bench.core().catalog.health.read();
    let (regions, shards) = (health.damaged_regions, health.damaged_shards);
    (regions, shards, health.torn_pieces)
}

#[test]
fn records_are_whole_blocks_and_padded_with_zeros() {
    let place = RecordPlace {
        disk: DISK,
        file: 1,
        block: 7,
    };
    let edges = [1, 3_900, 3_979, 3_980, 3_981, CELL_LEN - 1, CELL_LEN];
    for (full, tail) in (0..16).flat_map(|full| edges.map(|tail| (full, tail))) {
        let len = full * CELL_LEN + tail;
        let bytes = content(shard(1, 1), 0, len);
        let header = Header {
            cells: full as u16 + 1,
            length: len as u32,
            ..Header::bare(Kind::Cells, VolumeId(1), EPOCH)
        };
        let pieces = encode_record(&header, &cells_of(&bytes), &Footer::BLANK, place);
        let record = pieces.concat();
        assert_eq!(record.len() as u64, header.record_len(), "{len}");
        assert!((record.len() as u64).is_multiple_of(BLOCK_LEN), "{len}");
        let used = HEADER_LEN + len + (full + 1) * CRC_LEN;
        let padding = used..record.len() - FOOTER_LEN;
        assert!(
            padding.len() < BLOCK_LEN as usize,
            "{len}: more than needed"
        );
        assert!(record[padding.clone()].iter().all(|&byte| byte == 0));
        assert!(check_record(&record, &header, place).is_some());
        for at in [used - 1, padding.end] {
            let mut spoilt = record.clone();
            spoilt[at] ^= 1;
            assert!(check_record(&spoilt, &header, place).is_none(), "{len}");
        }
    }
}

/// The last commit: two long records of it, never known to be durable. What a torn sector does to
/// each, with the other one good.
#[test]
fn torn_padding_is_judged_by_the_record_around_it() {
    for (target, torn) in [(1, true), (2, true), (1, false), (2, false)] {
        for bytes in [0, 0xa5] {
            let mut bench = Bench::new(64 << 20, long_records());
            let kept = shard(1, 9);
            bench.put(kept, &content(kept, 0, LONG)).expect("stored");
            let batch = [1, 2].map(|blob| (shard(1, blob), content(shard(1, blob), 0, LONG)));
            let answers = bench.put_batch(&batch, EPOCH);
            assert!(answers.iter().all(Result::is_ok));
            let [first, second] = [1, 2].map(|blob| laid(&mut bench, shard(1, blob), LONG));
            assert_eq!(first.record.end, second.record.start, "side by side");
            assert!(first.padding.end - first.padding.start > 7 * SECTOR);
            let hit = if target == 1 { &first } else { &second };
            let last_sector = hit.record.end - SECTOR..hit.record.end;
            // The sector of the footer, or every whole sector of the padding before it.
            let range = if torn {
                last_sector
            } else {
                hit.padding.start.next_multiple_of(SECTOR)..last_sector.start
            };
            bench.drop_core();
            bench.fs.kill();
            overwrite(&bench, hit, range, bytes);
            bench.reopen();
            let place = format!("record {target}, torn {torn}, {bytes}");
            for (shard, bytes) in &batch {
                match bench.get(*shard) {
                    Ok(found) => assert!(found == bytes, "{place}: {shard}"),
                    Err(StoreError::NotFound { .. }) => {
                        assert!(torn && shard.blob.0 == target, "{place}: {shard} is lost");
                    }
                    Err(error) => panic!("{place}: {shard}: {error}"),
                }
            }
            let lost = bench.get(batch[target as usize - 1].0).is_err();
            assert_eq!(lost, torn, "{place}");
            assert_eq!(verdict(&mut bench), (0, 0, u64::from(torn)), "{place}");
            assert_eq!(super::scrub::scrub_whole(&mut bench).found_shards, 0);
            // What comes next lies behind it, and stays.
            let later = shard(1, 3);
            bench.put(later, &content(later, 0, LONG)).expect("stored");
            bench.crash(7);
            bench.reopen();
            for shard in [kept, later] {
                assert_eq!(bench.get(shard).expect("kept"), content(shard, 0, LONG));
            }
            let (regions, shards, _) = verdict(&mut bench);
            assert_eq!((regions, shards), (0, 0), "{place}");
        }
    }
}

#[test]
fn file_that_ends_within_padding_has_a_torn_end() {
    let mut bench = Bench::new(64 << 20, long_records());
    let shards = [1, 2].map(|blob| shard(1, blob));
    for shard in shards {
        bench.put(shard, &content(shard, 0, LONG)).expect("stored");
    }
    let last = laid(&mut bench, shards[1], LONG);
    bench.drop_core();
    bench.fs.kill();
    let file = bench.fs.open(&last.path).expect("open");
    file.set_len(last.padding.start + 1000).expect("cut");
    file.sync_data().expect("synced");
    drop(file);
    bench.reopen();
    let kept = bench.get(shards[0]).expect("kept");
    assert_eq!(kept, content(shards[0], 0, LONG));
    let error = bench.get(shards[1]).expect_err("cut");
    assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    assert_eq!(verdict(&mut bench), (0, 0, 1));
}

/// Below the durable mark: the scrub tells padding from what has a checksum, to the byte.
#[test]
fn rot_in_padding_is_no_damage_and_rot_beside_it_is() {
    type Spot = fn(&Laid) -> Range<u64>;
    let spots: [(&str, Spot, bool); 6] = [
        (
            "first of the padding",
            |l| l.padding.start..l.padding.start + 1,
            false,
        ),
        (
            "last of the padding",
            |l| l.padding.end - 1..l.padding.end,
            false,
        ),
        ("all of the padding", |l| l.padding.clone(), false),
        (
            "last of the cells",
            |l| l.padding.start - 1..l.padding.start,
            true,
        ),
        (
            "first of the footer",
            |l| l.padding.end..l.padding.end + 1,
            true,
        ),
        // Damage that looks like padding or like space that was never written.
        (
            "last block",
            |l| l.record.end - BLOCK_LEN..l.record.end,
            true,
        ),
    ];
    for (what, spot, is_damage) in spots {
        for byte in [0, 0x3c] {
            let mut bench = Bench::new(64 << 20, long_records());
            let shards = [1, 2].map(|blob| shard(1, blob));
            for shard in shards {
                bench.put(shard, &content(shard, 0, LONG)).expect("stored");
            }
            let target = laid(&mut bench, shards[0], LONG);
            overwrite(&bench, &target, spot(&target), byte);
            let found = super::scrub::scrub_whole(&mut bench).found_shards;
            assert_eq!(found, u64::from(is_damage), "{what}, {byte}");
            // Nor is it taken for anything when the disk is opened.
            bench.drop_core();
            bench.fs.kill();
            bench.reopen();
            let good = bench.get(shards[0]);
            assert!(is_damage || good.is_ok(), "{what}, {byte}: {good:?}");
            let after = bench.get(shards[1]).expect("kept");
            assert_eq!(after, content(shards[1], 0, LONG));
            let (_, _, torn) = verdict(&mut bench);
            assert_eq!(torn, 0, "{what}, {byte}: damage was cut");
        }
    }
}

#[test]
fn dead_bytes_are_those_on_the_disk() {
    // A file for each shard; the first ones are finished.
    for (len, on_disk) in [(10, BLOCK_LEN), (LONG, LONG as u64 + BLOCK_LEN)] {
        let on_disk = on_disk / BLOCK_LEN * BLOCK_LEN;
        for (tidy_after, tidied) in [(4 * on_disk, true), (4 * on_disk + 1, false)] {
            let settings = StoreSettings {
                file_len_max: BLOCK_LEN,
                tidy_after,
                ..long_records()
            };
            let mut bench = Bench::new(64 << 20, settings);
            let shards: Vec<ShardId> = (0..6).map(|blob| shard(1, blob)).collect();
            for shard in &shards {
                bench.put(*shard, &content(*shard, 0, len)).expect("stored");
                let laid = laid(&mut bench, *shard, len);
                assert_eq!(laid.record.end - laid.record.start, on_disk);
            }
            bench.housekeep_all();
            bench.delete(&shards[..4]).expect("deleted");
            bench.housekeep_all();
            let gone = !bench.names(1).contains(&"00000001.chunk".to_owned());
            assert_eq!(gone, tidied, "{len} bytes, {tidy_after}");
        }
    }
}
