//! What every engine must do, run over each of them.

use super::*;
use crate::testing::{Rng, seeds};
use megalith_model::table::{MemRows, Overlay};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn batch(changes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Batch {
    let nothing = MemRows::default();
    let mut overlay = Overlay::new(&nothing);
    for (key, change) in changes {
        match change {
            Some(value) => overlay.put(key.clone(), value.clone()),
            None => overlay.delete(key.clone()),
        }
    }
    overlay.into_batch()
}

fn all(rows: &dyn Rows, from: &[u8], to: &[u8]) -> Model {
    let mut found = Vec::new();
    rows.scan(from, to, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        true
    })
    .expect("scan");
    assert!(found.is_sorted(), "rows come in key order");
    found.into_iter().collect()
}

fn random_key(rng: &mut Rng) -> Vec<u8> {
    let mut key = vec![1 + rng.below(30) as u8];
    for _ in 0..rng.below(4) {
        key.push([0, 1, 0x7f, 0xff][rng.below(4) as usize]);
    }
    key
}

fn mark(index: u64) -> Mark {
    Mark {
        index,
        term: index / 7,
    }
}

fn rows_are_an_ordered_map(engines: &dyn Engines, seed: u64) {
    let mut rng = Rng::new(seed);
    let name = format!("engine-{seed}");
    let mut engine = engines.open(&name).expect("open");
    assert_eq!(engine.applied(), Mark::default());
    assert!(all(engine.as_ref(), FIRST_KEY, END_KEY).is_empty());
    let mut model = Model::new();
    for index in 1..200 {
        let changes: Vec<_> = (0..rng.below(8))
            .map(|_| {
                let value = vec![index as u8; rng.below(3_000) as usize];
                (random_key(&mut rng), (rng.below(3) > 0).then_some(value))
            })
            .collect();
        engine.write(&batch(&changes), mark(index)).expect("write");
        for (key, change) in changes {
            match change {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
        assert_eq!(engine.applied(), mark(index));
        let key = random_key(&mut rng);
        assert_eq!(
            engine.get(&key).expect("get"),
            model.get(&key).cloned(),
            "seed {seed}"
        );
        let (one, two) = (random_key(&mut rng), random_key(&mut rng));
        let (from, to) = (one.clone().min(two.clone()), one.max(two));
        let expected: Model = model
            .range(from.clone()..to.clone())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(all(engine.as_ref(), &from, &to), expected, "seed {seed}");
        assert!(all(engine.as_ref(), &to, &from).is_empty());
        if rng.below(40) == 0 {
            engine.checkpoint().expect("checkpoint");
            drop(engine);
            engine = engines.open(&name).expect("reopen");
            assert_eq!(engine.applied(), mark(index), "seed {seed}");
        }
    }
    assert_eq!(
        all(engine.as_ref(), FIRST_KEY, END_KEY),
        model,
        "the mark is no row"
    );
}

fn a_scan_ends_when_told_to(engines: &dyn Engines) {
    let engine = engines.open("engine-scan").expect("open");
    let changes: Vec<_> = (1..50_u8).map(|key| (vec![key], Some(vec![key]))).collect();
    engine.write(&batch(&changes), mark(1)).expect("write");
    let mut seen = 0;
    engine
        .scan(&[3], END_KEY, &mut |_, _| {
            seen += 1;
            seen < 5
        })
        .expect("scan");
    assert_eq!(seen, 5);
}

fn a_snapshot_stands_still(engines: &dyn Engines, seed: u64) {
    let mut rng = Rng::new(seed);
    let engine = engines.open(&format!("engine-s{seed}")).expect("open");
    let mut model = Model::new();
    let mut held: Vec<(Box<dyn EngineView>, Mark, Model)> = Vec::new();
    for index in 1..150 {
        let changes: Vec<_> = (0..1 + rng.below(6))
            .map(|_| {
                let value = vec![index as u8; rng.below(2_000) as usize];
                (random_key(&mut rng), (rng.below(3) > 0).then_some(value))
            })
            .collect();
        engine.write(&batch(&changes), mark(index)).expect("write");
        for (key, change) in changes {
            match change {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
        if rng.below(10) == 0 {
            let snapshot = engine.snapshot().expect("this engine has them");
            held.push((snapshot, mark(index), model.clone()));
        }
        if rng.below(20) == 0 {
            engine.checkpoint().expect("checkpoint");
        }
        for (snapshot, applied, rows) in &held {
            assert_eq!(snapshot.applied(), *applied, "seed {seed}");
            let key = random_key(&mut rng);
            let found = snapshot.get(&key).expect("get");
            assert_eq!(found, rows.get(&key).cloned(), "seed {seed}");
        }
        if held.len() > 4 {
            let (snapshot, _, rows) = held.swap_remove(rng.below(4) as usize);
            let found = all(snapshot.as_ref(), FIRST_KEY, END_KEY);
            assert_eq!(found, rows, "seed {seed}");
            assert!(all(snapshot.as_ref(), END_KEY, FIRST_KEY).is_empty());
        }
    }
}

fn names_are_kept(engines: &dyn Engines) {
    let write = |name: &str, value: u8| {
        let engine = engines.open(name).expect("open");
        engine
            .write(
                &batch(&[(vec![1], Some(vec![value]))]),
                mark(u64::from(value)),
            )
            .expect("write");
        engine.checkpoint().expect("checkpoint");
    };
    write("engine-a", 1);
    write("engine-b", 2);
    engines.rename("engine-a", "engine-c").expect("rename");
    engines.wipe("engine-b").expect("wipe");
    engines.wipe("engine-b").expect("wipe what is gone");
    let names = engines.names().expect("names");
    assert!(names.contains(&"engine-c".to_owned()), "{names:?}");
    assert!(!names.contains(&"engine-a".to_owned()), "{names:?}");
    let renamed = engines.open("engine-c").expect("open");
    assert_eq!(
        (renamed.applied(), renamed.get(&[1]).expect("get")),
        (mark(1), Some(vec![1]))
    );
    let fresh = engines.open("engine-b").expect("open");
    assert_eq!(
        (fresh.applied(), fresh.get(&[1]).expect("get")),
        (Mark::default(), None)
    );
}

fn conforms(engines: &dyn Engines) {
    for seed in seeds(4) {
        rows_are_an_ordered_map(engines, seed);
    }
    a_scan_ends_when_told_to(engines);
    names_are_kept(engines);
}

#[test]
fn memory_conforms() {
    conforms(&MemEngines::default());
    seeds(4).for_each(|seed| a_snapshot_stands_still(&MemEngines::default(), seed));
}

fn on_disk_conforms(kind: EngineKind) {
    let dir = tempfile::tempdir().expect("temporary directory");
    conforms(&disk_engines(dir.path(), kind));
}

fn disk_engines(dir: &Path, kind: EngineKind) -> DiskEngines {
    let settings = EngineSettings {
        kind,
        cache_bytes: 8 << 20,
        ..EngineSettings::default()
    };
    DiskEngines::new(dir, settings)
}

#[test]
fn fjall_conforms() {
    on_disk_conforms(EngineKind::Fjall);
}

#[test]
fn snapshots_of_fjall_stand_still() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let engines = disk_engines(dir.path(), EngineKind::Fjall);
    seeds(4).for_each(|seed| a_snapshot_stands_still(&engines, seed));
}

/// Rows that become files and are merged with newer ones are still there for it.
#[test]
fn a_snapshot_of_fjall_outlives_what_it_shows() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let engines = disk_engines(dir.path(), EngineKind::Fjall);
    let engine = engines.open("engine-0").expect("open");
    let write = |index: u64, keys: std::ops::Range<u8>| {
        let value = vec![index as u8; 256 << 10];
        let changes: Vec<_> = keys
            .map(|key| (vec![1, key], Some(value.clone())))
            .collect();
        engine.write(&batch(&changes), mark(index)).expect("write");
    };
    write(1, 0..100);
    let snapshot = engine.snapshot().expect("snapshot");
    // Several times what is collected in memory before it becomes a file.
    (2..20).for_each(|index| write(index, 0..50));
    let gone: Vec<_> = (50..100).map(|key| (vec![1, key], None)).collect();
    engine.write(&batch(&gone), mark(20)).expect("write");
    (21..30).for_each(|index| write(index, 0..50));
    let values = |rows: &dyn Rows| -> Vec<u8> {
        let rows = all(rows, FIRST_KEY, END_KEY);
        rows.into_values().map(|value| value[0]).collect()
    };
    assert_eq!(values(snapshot.as_ref()), [1; 100]);
    assert_eq!(values(engine.as_ref()), [29; 50]);
    assert_eq!((snapshot.applied(), engine.applied()), (mark(1), mark(29)));
}

#[test]
fn sled_conforms() {
    on_disk_conforms(EngineKind::Sled);
    let dir = tempfile::tempdir().expect("temporary directory");
    let engine = disk_engines(dir.path(), EngineKind::Sled).open("engine-0");
    assert!(engine.expect("open").snapshot().is_none());
}

#[test]
fn memory_forgets_what_was_not_checkpointed() {
    let engines = MemEngines::default();
    let engine = engines.open("engine-0").expect("open");
    engine
        .write(&batch(&[(vec![1], Some(vec![1]))]), mark(1))
        .expect("write");
    engine.checkpoint().expect("checkpoint");
    engine
        .write(&batch(&[(vec![1], None)]), mark(2))
        .expect("write");
    engines.crash();
    let engine = engines.open("engine-0").expect("open");
    assert_eq!(
        (engine.applied(), engine.get(&[1]).expect("get")),
        (mark(1), Some(vec![1]))
    );
}

#[test]
fn sled_with_a_damaged_file_is_an_error_or_whole() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let engines = disk_engines(dir.path(), EngineKind::Sled);
    std::fs::create_dir(dir.path().join("engine-junk")).expect("create");
    std::fs::write(
        dir.path().join("engine-junk").join("conf"),
        b"not a configuration",
    )
    .expect("write");
    assert!(engines.open("engine-junk").is_err());
    engines.wipe("engine-junk").expect("wipe");
    assert_eq!(
        engines.open("engine-junk").expect("open").applied(),
        Mark::default()
    );
}

#[test]
fn an_engine_stays_with_the_database_that_made_it() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (fjall, sled) = (
        disk_engines(dir.path(), EngineKind::Fjall),
        disk_engines(dir.path(), EngineKind::Sled),
    );
    for (first, second, name) in [(&fjall, &sled, "engine-a"), (&sled, &fjall, "engine-b")] {
        let engine = first.open(name).expect("open");
        engine
            .write(&batch(&[(vec![1], Some(vec![2]))]), mark(9))
            .expect("write");
        engine.checkpoint().expect("checkpoint");
        drop(engine);
        let engine = second.open(name).expect("open with other settings");
        assert_eq!(
            (engine.applied(), engine.get(&[1]).expect("get")),
            (mark(9), Some(vec![2])),
            "{name}"
        );
    }
    std::fs::create_dir(dir.path().join("engine-c")).expect("create");
    std::fs::write(dir.path().join("engine-c").join("rows"), b"of whom?").expect("write");
    assert!(fjall.open("engine-c").is_err_and(|error| error.damaged));
}

/// A byte anywhere in the files of a closed engine: it doesn't open, or a read fails, or the rows
/// are those that belong to its mark. Never wrong rows.
#[test]
fn fjall_with_a_flipped_byte_never_gives_wrong_rows() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let engines = disk_engines(dir.path(), EngineKind::Fjall);
    let engine = engines.open("engine-0").expect("open");
    let mut rng = Rng::new(5);
    let mut models = vec![Model::new()];
    for index in 1..=60 {
        let value = vec![index as u8; 200 + rng.below(3_000) as usize];
        let key = random_key(&mut rng);
        engine
            .write(&batch(&[(key.clone(), Some(value.clone()))]), mark(index))
            .expect("write");
        let mut model = models.last().expect("the first").clone();
        model.insert(key, value);
        models.push(model);
    }
    engine.checkpoint().expect("checkpoint");
    drop(engine);
    let (mut seen, mut harmless) = (0, 0);
    for turn in 0..60 {
        let name = format!("engine-{}", turn + 1);
        let copy = dir.path().join(&name);
        copy_below(&dir.path().join("engine-0"), &copy);
        let mut files = files_below(&copy);
        files.retain(|path| std::fs::metadata(path).is_ok_and(|file| file.len() > 0));
        let path = &files[turn % files.len()];
        let mut bytes = std::fs::read(path).expect("read");
        let written = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0) + 1;
        let at = rng.below(written as u64) as usize;
        bytes[at] ^= 1 << rng.below(8);
        std::fs::write(path, &bytes).expect("write");
        match read_all(&engines, &name) {
            Some((applied, rows)) => {
                assert!(
                    rows == models[applied.index as usize],
                    "{}, byte {at}, {applied:?}",
                    path.display()
                );
                match applied == mark(60) {
                    true => harmless += 1,
                    false => seen += 1,
                }
            }
            None => seen += 1,
        }
        engines.wipe(&name).expect("wipe");
    }
    assert!(seen > 10, "{seen} seen, {harmless} harmless");
}

/// All that an engine gives; None if it says that something is wrong.
fn read_all(engines: &DiskEngines, name: &str) -> Option<(Mark, Model)> {
    let engine = engines.open(name).ok()?;
    let mut rows = Model::new();
    let read = engine.scan(FIRST_KEY, END_KEY, &mut |key, value| {
        rows.insert(key.to_vec(), value.to_vec());
        true
    });
    read.ok().map(|()| (engine.applied(), rows))
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("list").flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files_below(&path)),
            path => found.push(path),
        }
    }
    found.sort();
    found
}

fn copy_below(source: &Path, target: &Path) {
    for file in files_below(source) {
        let copy = target.join(file.strip_prefix(source).expect("below"));
        std::fs::create_dir_all(copy.parent().expect("a directory")).expect("create");
        std::fs::copy(&file, &copy).expect("copy");
    }
}
