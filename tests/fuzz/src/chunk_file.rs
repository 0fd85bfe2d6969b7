//! A disk whose files are damaged: scan and recovery of the shard store.
//!
//! Input: which of the good disks (the high bit: with checksums corrected afterwards), then a
//! script for `edit`. Whatever is done to the files: opening ends; what is read is what was
//! written; and a shard is lost only if the script touched a byte of its record, or of what the
//! whole disk needs. The padding of a record is no part of it.

use crate::edit::{Folder, Touched, is_touched};
use bytes::Bytes;
use megalith_disk::FileSystem;
use megalith_disk::sim::SimFs;
use megalith_model::ids::{BlobId, ClusterId, DiskId, Epoch, VolumeId};
use megalith_model::shard::ShardId;
use megalith_store::fuzz::{OpenedDisk, reseal};
use megalith_store::{BLOCK_LEN, CELL_LEN, DiskHandle, StoreSettings};
use megalith_store::{Superblock, crc32c};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock};

const CLUSTER: ClusterId = ClusterId([7; 16]);
const DISK: DiskId = DiskId([9; 16]);
const VOLUME: VolumeId = VolumeId(1);
const ROOT: &str = "/disk";
/// Header and footer of a record, and the checksum of a cell: `docs/formats/disk.md`.
const HEADER_LEN: usize = 64;
const FOOTER_LEN: usize = 48;
const CRC_LEN: usize = 4;

/// A disk as the store left it.
struct Good {
    folder: Folder,
    shards: Vec<(ShardId, Bytes)>,
    settings: StoreSettings,
}

static GOOD: LazyLock<Vec<Good>> = LazyLock::new(|| {
    vec![
        Good::new(&[100], false, short_records()),
        Good::new(&[1, 3000, 5000, 4096], false, short_records()),
        Good::new(&[700, 800, 900], true, short_records()),
        Good::new(&[CELL_LEN * 3 + 17, 50], false, short_records()),
        Good::new(&[9000; 12], false, short_records()),
        // Nearly a block of padding, and hardly any.
        Good::new(
            &[CELL_LEN * 4, CELL_LEN * 4 - 150, 50],
            false,
            long_records(),
        ),
    ]
});

pub fn target(data: &[u8]) {
    let Some((&choice, script)) = data.split_first() else {
        return;
    };
    let good = &GOOD[usize::from(choice & 0x7f) % GOOD.len()];
    let mut folder = good.folder.clone();
    let touched = folder.edit(script);
    let forged = choice & 0x80 != 0;
    if forged {
        for (path, bytes) in &mut folder.0 {
            if let Some(file) = chunk_number(path) {
                reseal(bytes, DISK, file);
            }
        }
    }
    let disk = match open(&folder.disk(), &good.settings) {
        Ok(disk) => disk,
        Err(error) => {
            let all = 0..usize::MAX;
            let is_gone = |name| is_touched(&touched, &format!("{ROOT}/{name}"), &all);
            let known = is_gone("superblock") && is_gone("superblock-2");
            assert!(known || forged, "the disk doesn't open: {error}");
            return;
        }
    };
    let listed = disk.list(VOLUME);
    assert!(
        forged || listed.is_ok() || !touched.is_empty(),
        "{listed:?}"
    );
    for (shard, bytes) in &good.shards {
        match disk.read(*shard) {
            Ok(cells) => {
                assert!(cells.iter().all(|(cell, crc)| crc32c(cell) == *crc));
                let read: Vec<u8> = cells.into_iter().flat_map(|(cell, _)| cell).collect();
                assert!(forged || read == *bytes, "{shard} reads as something else");
            }
            Err(error) => {
                let lost = good.is_touched(&touched, bytes);
                assert!(forged || lost, "{shard} is lost untouched: {error}");
            }
        }
    }
}

fn open(fs: &SimFs, settings: &StoreSettings) -> Result<OpenedDisk, megalith_store::StoreError> {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    OpenedDisk::open(fs, Path::new(ROOT), CLUSTER, DISK, settings.clone())
}

/// Records of 256 KiB and more, several to a file.
fn long_records() -> StoreSettings {
    StoreSettings {
        file_len_max: 1 << 20,
        record_cells: 4,
        ..short_records()
    }
}

fn short_records() -> StoreSettings {
    StoreSettings {
        file_len_max: 64 << 10,
        grow_min: 16 << 10,
        grow_max: 64 << 10,
        reserve: 64 << 10,
        record_cells: 1,
        reader_threads: 1,
        files_open_max: 8,
        ..StoreSettings::default()
    }
}

/// The number of a chunk file.
fn chunk_number(path: &str) -> Option<u32> {
    let name = path.rsplit('/').next()?.strip_suffix(".chunk")?;
    u32::from_str_radix(name, 16).ok()
}

impl Good {
    /// Writes shards of these lengths, one commit each; `stopped` closes the disk cleanly.
    fn new(lens: &[usize], stopped: bool, settings: StoreSettings) -> Self {
        let fs = SimFs::new(64 << 20);
        let root = Path::new(ROOT);
        fs.create_dir(root).expect("root");
        fs.sync_dir(Path::new("/")).expect("sync");
        let superblock = Superblock::new(CLUSTER, DISK, 1, [5; 32]);
        DiskHandle::format(&fs, root, &superblock).expect("format");
        let fs_opened = Arc::new(fs.clone());
        let disk = DiskHandle::open(fs_opened, root, CLUSTER, Some(DISK), settings.clone());
        let disk = disk.expect("open");
        let shards: Vec<_> = (1..)
            .zip(lens)
            .map(|(blob, &len)| shard(blob, len))
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let folder = runtime.expect("a runtime").block_on(async {
            for (shard, bytes) in &shards {
                put(&disk, *shard, bytes).await;
            }
            if stopped {
                disk.stop().await;
            }
            let folder = Folder::read(&fs, ROOT);
            disk.stop().await;
            folder
        });
        Self {
            folder,
            shards,
            settings,
        }
    }

    /// Returns true if a script touched what a shard needs: one of its records.
    fn is_touched(&self, touched: &[Touched], shard: &Bytes) -> bool {
        let records = shard.chunks(CELL_LEN * usize::from(self.settings.record_cells));
        records.map(|bytes| self.record_of(bytes)).any(|record| {
            let (file, parts) = record;
            parts.iter().any(|part| is_touched(touched, file, part))
        })
    }

    /// Finds the record that holds these bytes of a shard, by its first cell: what lies before its
    /// padding, and what lies behind.
    fn record_of(&self, bytes: &[u8]) -> (&str, [Range<usize>; 2]) {
        let cell = &bytes[..bytes.len().min(CELL_LEN)];
        let find = |(file, bytes): &'_ (String, Vec<u8>)| {
            let blocks = (0..bytes.len()).step_by(BLOCK_LEN as usize);
            let at = blocks
                .into_iter()
                .find(|at| bytes[*at..].get(HEADER_LEN..HEADER_LEN + cell.len()) == Some(cell));
            at.map(|at| (file.clone(), at))
        };
        let (file, start) = self.folder.0.iter().find_map(find).expect("it was stored");
        let used = HEADER_LEN + bytes.len() + bytes.len().div_ceil(CELL_LEN) * CRC_LEN;
        let end = start + (used + FOOTER_LEN).next_multiple_of(BLOCK_LEN as usize);
        let (file, _) = self
            .folder
            .0
            .iter()
            .find(|(name, _)| *name == file)
            .expect("found");
        (file, [start..start + used, end - FOOTER_LEN..end])
    }
}

/// Returns a shard and its bytes, which no other shard has.
fn shard(blob: u64, len: usize) -> (ShardId, Bytes) {
    let shard = ShardId {
        volume: VOLUME,
        blob: BlobId(blob),
        segment: 0,
        slot: 1,
    };
    let mut random = crate::mutate::Random(blob);
    let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
    (shard, bytes.into())
}

async fn put(disk: &DiskHandle, shard: ShardId, bytes: &Bytes) {
    let writer = disk.begin(shard, Epoch(1), bytes.len() as u64).await;
    let mut writer = writer.expect("begin");
    for cell in bytes.chunks(CELL_LEN) {
        let crc = crc32c(cell);
        writer
            .push_cell(Bytes::copy_from_slice(cell), crc)
            .await
            .expect("push");
    }
    let digest = *blake3::hash(bytes).as_bytes();
    writer.finish(digest).await.expect("stored");
}

/// The first inputs. Files are numbered as `Folder::read` sorts them: chunk and index files, then
/// the lock and the superblock's two copies.
#[must_use]
pub fn seeds() -> crate::Seeds {
    crate::named(vec![
        ("untouched", vec![1]),
        ("untouched-after-a-stop", vec![2]),
        ("untouched-long-shard", vec![3]),
        ("untouched-many-files", vec![4]),
        ("bit-in-a-header", vec![1, 0, 0, 10, 16, 0, 1]),
        ("bit-in-a-cell", vec![1, 0, 0, 100, 48, 0, 0x80]),
        ("bit-in-a-footer", vec![3, 0, 0, 250, 31, 1, 4]),
        ("untouched-long-records", vec![5]),
        // 4 × (65,568 + 4) + 64 bytes behind block 1, then zeros to the footer, 48 before block 66.
        ("bit-in-the-padding", vec![5, 0, 0, 0, 20, 4, 1]),
        (
            "padding-overwritten",
            vec![5, 2, 0, 0x50, 0x11, 4, 0x60, 0x0e, 0xff],
        ),
        ("padding-and-footer-torn", vec![5, 2, 0, 0, 24, 4, 0, 8, 0]),
        ("last-of-the-cells-torn", vec![5, 2, 0, 0, 16, 4, 0, 1, 0]),
        ("cut-within-padding", vec![5, 3, 0, 0, 20, 4]),
        ("zeroed-block", vec![3, 2, 0, 0, 16, 1, 0, 16, 0]),
        ("cut-tail", vec![1, 3, 0, 0, 80, 0]),
        ("cut-to-nothing", vec![1, 0xf3, 0, 0, 0, 0]),
        ("garbage-behind", vec![1, 4, 0, 0, 31, 3, 1, 2, 3]),
        ("moved-block", vec![4, 5, 0, 0, 16, 0, 0, 64, 0, 7]),
        ("index-damaged", vec![4, 0, 1, 9, 0, 0, 1]),
        ("index-gone", vec![4, 0xf3, 1, 0, 0, 0]),
        (
            "forged-length",
            vec![0x81, 1, 0, 36, 16, 0, 4, 255, 255, 0, 0],
        ),
        (
            "forged-stream",
            vec![0x83, 1, 0, 48, 16, 0, 8, 255, 0, 0, 0, 1, 0, 0, 0],
        ),
        (
            "forged-synced",
            vec![0x81, 1, 0, 52, 0, 0, 4, 255, 255, 255, 255],
        ),
    ])
}
