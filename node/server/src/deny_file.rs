//! The deny list on the disks of a node, so that it is in force from the first moment of a start,
//! also while no metadata member can be reached.
//!
//! Each disk has a copy, the file `denied`: a crc32c of the rest (4 bytes, little-endian), and the
//! list as it travels. A file that is missing or bad is skipped: another disk has one, or the map
//! brings the list. A disk that can't be written keeps its older copy.

use megalith_disk::crc32c::crc32c;
use megalith_disk::{File, FileSystem, read_exact_at, replace_file};
use megalith_identity::Denials;
use megalith_model::codec;
use megalith_model::denied::DenyList;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE: &str = "denied";
/// What every mounted disk has.
const HOME: &str = "chunks";
const CRC_LEN: usize = 4;
/// More than the longest list has.
const LEN_MAX: u64 = 64 * 1024;

/// Reads the newest copy; None if there is none.
pub(super) fn load(fs: &dyn FileSystem, disks: &[PathBuf]) -> Option<DenyList> {
    let read = |disk: &PathBuf| {
        let path = disk.join(FILE);
        let file = fs.open(&path).ok()?;
        let list = read_list(file.as_ref());
        if list.is_none() {
            tracing::warn!(path = %path.display(), "a copy of the deny list is bad: skipped");
        }
        list
    };
    disks
        .iter()
        .filter_map(read)
        .max_by_key(|list| list.revision)
}

fn read_list(file: &dyn File) -> Option<DenyList> {
    let len = file.len().ok().filter(|len| *len <= LEN_MAX)?;
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    read_exact_at(file, &mut bytes, 0).ok()?;
    decode(&bytes)
}

/// Writes every list that is heard to all disks; never ends.
pub(super) async fn keep(fs: Arc<dyn FileSystem>, disks: Vec<PathBuf>, denials: Denials) {
    let mut lists = denials.subscribe();
    lists.mark_changed();
    while lists.changed().await.is_ok() {
        let list = lists.borrow_and_update().clone();
        let (fs, disks) = (fs.clone(), disks.clone());
        let written = tokio::task::spawn_blocking(move || {
            for disk in &disks {
                save(fs.as_ref(), disk, &list);
            }
        });
        // Only a stop breaks it off.
        let _ = written.await;
    }
}

fn save(fs: &dyn FileSystem, disk: &Path, list: &DenyList) {
    let path = disk.join(FILE);
    // An unmounted disk has no home here: nothing is left in its place.
    let home = fs.identity(&disk.join(HOME));
    if list.revision == 0 || home.is_err() {
        return;
    }
    if let Err(error) = replace_file(fs, &path, &encode(list)) {
        tracing::warn!(path = %path.display(), %error, "the deny list is not kept on this disk");
    }
}

fn encode(list: &DenyList) -> Vec<u8> {
    let body = codec::encode(list);
    let mut bytes = crc32c(&body).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> Option<DenyList> {
    let (crc, body) = bytes.split_at_checked(CRC_LEN)?;
    (crc == crc32c(body).to_le_bytes()).then_some(())?;
    let list: DenyList = codec::decode(body).ok()?;
    list.check().is_ok().then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_disk::RealFs;
    use megalith_model::denied::{DeniedCertificate, Serial};
    use megalith_model::role::Role;

    fn list(revision: u64) -> DenyList {
        let serial = Serial::from_bytes(&[0xab; 20]);
        let mut list = DenyList {
            revision,
            ..DenyList::default()
        };
        list.deny(DeniedCertificate {
            role: Role::Gateway,
            id: 300,
            serial,
        });
        list
    }

    #[test]
    fn a_deny_file_is_read_as_it_was_always_written() {
        let bytes = encode(&list(7));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = "42ed38d601070102ac0201abababababababababababababababababababab";
        assert_eq!(hex, golden);
        assert_eq!(decode(&bytes), Some(list(7)));
        for place in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[place] ^= 1;
            assert_eq!(decode(&bad), None, "byte {place}");
            assert_eq!(decode(&bytes[..place]), None, "cut at {place}");
        }
    }

    #[test]
    fn a_list_that_no_cluster_can_have_is_no_copy() {
        let mut long = list(1);
        for id in 0..256 {
            long.deny(DeniedCertificate {
                role: Role::Storage,
                id,
                serial: None,
            });
        }
        assert_eq!(decode(&encode(&long)), None);
        long.denied.truncate(256);
        assert_eq!(decode(&encode(&long)), Some(long));
    }

    #[test]
    fn the_newest_good_copy_counts_and_no_unmounted_disk_is_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let disks: Vec<PathBuf> = ["a", "b", "c"].map(|name| dir.path().join(name)).to_vec();
        for disk in &disks {
            std::fs::create_dir(disk).expect("made");
        }
        for disk in &disks[..2] {
            std::fs::create_dir(disk.join(HOME)).expect("made");
        }
        assert_eq!(load(&RealFs, &disks), None);
        for disk in &disks {
            save(&RealFs, disk, &list(1));
        }
        assert!(!disks[2].join(FILE).exists());
        save(&RealFs, &disks[1], &list(2));
        assert_eq!(load(&RealFs, &disks), Some(list(2)));
        std::fs::write(disks[1].join(FILE), "torn").expect("written");
        assert_eq!(load(&RealFs, &disks), Some(list(1)));
    }
}
