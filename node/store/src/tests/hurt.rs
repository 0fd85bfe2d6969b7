//! One damaged file in a disk's directory, of every kind and in every way: the disk opens (or says
//! at once that its superblock is bad), never gives a wrong byte, and names what is lost.

use super::scrub::scrub_whole;
use super::{Bench, Random, content, root, settings, shard};
use crate::error::StoreError;
use megalith_disk::FileSystem;
use megalith_model::shard::ShardId;
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Flip,
    Zero,
    Halve,
    Empty,
    Grow,
    Remove,
}

const HARMS: [Harm; 6] = [
    Harm::Flip,
    Harm::Zero,
    Harm::Halve,
    Harm::Empty,
    Harm::Grow,
    Harm::Remove,
];

const COUNT: u64 = 60;
const GONE: u64 = 6;

fn len_of(blob: u64) -> usize {
    300 + (blob as usize * 7919) % 50_000
}

/// A disk with finished and open files, tombstones, index files and a scrub's ledger.
fn disk(clean: bool) -> (Bench, Vec<ShardId>) {
    let mut bench = Bench::new(64 << 20, settings());
    let shards: Vec<ShardId> = (0..COUNT).map(|blob| shard(1 + blob % 2, blob)).collect();
    for shard in &shards {
        let bytes = content(*shard, 0, len_of(shard.blob.0));
        bench.put(*shard, &bytes).expect("stored");
        bench.core().housekeep();
    }
    bench.delete(&shards[..GONE as usize]).expect("deleted");
    bench.housekeep_all();
    scrub_whole(&mut bench);
    if clean {
        bench.core().close();
    }
    bench.drop_core();
    bench.fs.kill();
    (bench, shards)
}

/// Every file below a directory.
fn files(bench: &Bench, dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in bench.fs.list(dir).expect("list") {
        let path = dir.join(&entry.name);
        match entry.is_dir {
            true => found.extend(files(bench, &path)),
            false => found.push(path),
        }
    }
    found
}

fn harm(bench: &Bench, path: &Path, harm: Harm, random: &mut Random) {
    if harm == Harm::Remove {
        bench.fs.remove(path).expect("remove");
        return;
    }
    let file = bench.fs.open(path).expect("open");
    let len = file.len().expect("len");
    match harm {
        Harm::Flip => {
            let at = random.below(len.max(1));
            bench.fs.flip(path, at, 1 << random.below(8)).expect("flip");
        }
        Harm::Zero => {
            let at = random.below(len.max(1)) / 4096 * 4096;
            file.write_at(&[IoSlice::new(&[0; 4096])], at)
                .expect("write");
        }
        Harm::Halve => file.set_len(len / 2).expect("cut"),
        Harm::Empty => file.set_len(0).expect("cut"),
        Harm::Grow => {
            let garbage: Vec<u8> = (0..9000).map(|_| random.next() as u8).collect();
            file.write_at(&[IoSlice::new(&garbage)], len)
                .expect("write");
        }
        Harm::Remove => {}
    }
    file.sync_data().expect("sync");
}

/// Reads everything; returns what can't be read any more.
fn lost(bench: &mut Bench, shards: &[ShardId], case: &str) -> BTreeSet<ShardId> {
    let mut lost = BTreeSet::new();
    for shard in shards {
        match bench.get(*shard) {
            Ok(bytes) => {
                let expected = content(*shard, 0, len_of(shard.blob.0));
                assert_eq!(bytes, expected, "{case}: {shard}: wrong bytes");
            }
            Err(StoreError::NotFound { .. } | StoreError::Damaged { .. }) => {
                lost.insert(*shard);
            }
            Err(error) => panic!("{case}: {shard}: {error}"),
        }
    }
    lost
}

/// The shards that neither are known to be damaged nor lie in a volume that is in doubt.
fn unnamed(bench: &mut Bench, lost: &BTreeSet<ShardId>) -> Vec<ShardId> {
    let health = &bench.core().catalog.health;
    let (damaged, doubtful) = (health.damaged(), health.doubtful());
    let named = |shard: &&ShardId| damaged.contains(shard) || doubtful.contains(&shard.volume);
    lost.iter().filter(|shard| !named(shard)).copied().collect()
}

fn check(clean: bool, kind: &Path, how: Harm, seed: u64) -> usize {
    let case = format!("clean {clean} {} {how:?} seed {seed}", kind.display());
    let (mut bench, shards) = disk(clean);
    harm(&bench, kind, how, &mut Random(seed));
    bench
        .open()
        .unwrap_or_else(|error| panic!("{case}: {error}"));
    let living = &shards[GONE as usize..];
    // Half of the time the scrub is there before the first reader.
    if seed.is_multiple_of(2) {
        scrub_whole(&mut bench);
    }
    let gone = lost(&mut bench, living, &case);
    // A chunk file that grows and has no index yet leaves no trace when it is removed: that is
    // found by comparing with the metadata, which is done at every start.
    let traceless = how == Harm::Remove
        && !bench
            .fs
            .list(kind.parent().expect("a directory"))
            .expect("list")
            .iter()
            .any(|entry| {
                Some(entry.name.as_str())
                    == kind
                        .with_extension("index")
                        .file_name()
                        .and_then(|n| n.to_str())
            });
    if !traceless {
        assert_eq!(
            unnamed(&mut bench, &gone),
            [],
            "{case}: nothing says that they are lost"
        );
    }
    let _ = lost(&mut bench, &shards, &case);
    // The disk goes on: new shards, and the lost ones again.
    bench
        .put(shard(1, 900), &content(shard(1, 900), 0, 5000))
        .expect("stored");
    for lost in &gone {
        let bytes = content(*lost, 0, len_of(lost.blob.0));
        bench
            .put(*lost, &bytes)
            .unwrap_or_else(|error| panic!("{case}: {lost}: {error}"));
    }
    scrub_whole(&mut bench);
    bench.crash(seed);
    bench.reopen();
    assert_eq!(
        lost(&mut bench, living, &case),
        BTreeSet::new(),
        "{case}: after the repair"
    );
    bench.core().tidy_all();
    bench.housekeep_all();
    assert_eq!(
        lost(&mut bench, living, &case),
        BTreeSet::new(),
        "{case}: after tidying"
    );
    gone.len()
}

#[test]
fn one_damaged_file_gives_no_wrong_byte_and_names_what_is_lost() {
    let (mut cases, mut harmful) = (0, 0);
    for clean in [true, false] {
        let (bench, _) = disk(clean);
        let kinds = files(&bench, root());
        for name in ["superblock", "superblock-2", "scrub"] {
            assert!(
                kinds.iter().any(|path| path.ends_with(name)),
                "no {name} in {kinds:?}"
            );
        }
        let with = |extension: &str| {
            let has = |path: &&PathBuf| path.extension().is_some_and(|found| found == extension);
            kinds.iter().filter(has).count()
        };
        assert!(
            with("index") >= 2 && with("chunk") > with("index"),
            "{kinds:?}"
        );
        for kind in &kinds {
            for how in HARMS {
                let seeds = if matches!(how, Harm::Flip | Harm::Zero) {
                    4
                } else {
                    2
                };
                for seed in 0..seeds {
                    cases += 1;
                    harmful += usize::from(check(clean, kind, how, seed) > 0);
                }
            }
        }
    }
    assert!(
        cases >= 200 && harmful >= 40,
        "{cases} cases, {harmful} with a loss"
    );
}

#[test]
fn damage_known_before_a_restart_is_known_after_it() {
    let (mut bench, shards) = disk(true);
    bench.reopen();
    let target = shards[20];
    bench.flip_in_record(target, 200, 1);
    bench.get(target).expect_err("damaged");
    super::scrub::save_ledger(&mut bench);
    bench.crash(3);
    bench.reopen();
    assert_eq!(
        bench.core().catalog.health.damaged(),
        [],
        "nothing was read yet"
    );
    super::scrub::scrubber(&mut bench);
    assert_eq!(bench.core().catalog.health.damaged(), [target]);
    // Once written again it is no longer known as damaged, not even by the ledger.
    bench
        .put(target, &content(target, 0, len_of(target.blob.0)))
        .expect("repaired");
    bench.crash(4);
    bench.reopen();
    super::scrub::scrubber(&mut bench);
    assert_eq!(bench.core().catalog.health.damaged(), []);
}
