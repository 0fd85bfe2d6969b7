//! Open files beside a simple model of which of them may be given out.

use super::*;
use megalith_disk::FileSystem as _;
use megalith_disk::sim::SimFs;
use megalith_model::ids::VolumeId;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};

const NAMES: u64 = 24;

fn name_of(number: u64) -> FileName {
    let (volume, seq) = (VolumeId(number % 3), (number / 6) as u32);
    if number.is_multiple_of(2) {
        FileName::chunk(volume, seq)
    } else {
        FileName::index(volume, seq)
    }
}

/// Files that hold which of their name's they are: 1 for the first, 2 for what replaced it.
struct Bench {
    fs: SimFs,
    cache: FileCache,
    opens: Arc<AtomicU64>,
    /// All handles that were ever made.
    handles: Arc<Mutex<Vec<Weak<dyn File>>>>,
}

fn path_of(name: FileName) -> PathBuf {
    PathBuf::from(format!("/{}", name_text(name)))
}

fn name_text(name: FileName) -> String {
    format!("{name:?}").replace([' ', '{', '}', '(', ')', ':', ','], "-")
}

fn write(fs: &SimFs, name: FileName, version: u8) {
    let path = path_of(name);
    let _ = fs.remove(&path);
    let file = fs.create(&path).expect("created");
    file.write_at(&[IoSlice::new(&[version])], 0)
        .expect("written");
}

fn version(file: &dyn File) -> u8 {
    let mut bytes = [0];
    assert_eq!(file.read_at(&mut bytes, 0).expect("open"), 1);
    bytes[0]
}

impl Bench {
    fn new(open_max: usize) -> Self {
        let fs = SimFs::new(1 << 20);
        for number in 0..NAMES {
            write(&fs, name_of(number), 1);
        }
        let (opens, handles) = (Arc::default(), Arc::<Mutex<Vec<_>>>::default());
        let (counted, made, from) = (Arc::clone(&opens), Arc::clone(&handles), fs.clone());
        let open = move |name| {
            AtomicU64::fetch_add(&counted, 1, Ordering::Relaxed);
            let file = from.open(&path_of(name))?;
            made.lock().expect("unharmed").push(Arc::downgrade(&file));
            Ok(file)
        };
        Self {
            fs,
            cache: FileCache::new(open_max, open),
            opens,
            handles,
        }
    }

    fn open_now(&self) -> usize {
        let handles = self.handles.lock().expect("unharmed");
        handles.iter().filter(|it| it.strong_count() > 0).count()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A reader that keeps the file for so many steps more.
    Get {
        number: u64,
        keep: usize,
    },
    Replace {
        number: u64,
    },
    Remove {
        number: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = || prop_oneof![0..NAMES, 0..4_u64];
    let step = prop_oneof![
        8 => (number(), 0..6_usize).prop_map(|(number, keep)| Step::Get { number, keep }),
        1 => number().prop_map(|number| Step::Replace { number }),
        1 => number().prop_map(|number| Step::Remove { number }),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn open_files_are_bounded_and_as_the_disk_has_them(open_max in 0..12_usize, steps in steps()) {
        let bench = Bench::new(open_max);
        let mut on_disk: BTreeMap<u64, u8> = (0..NAMES).map(|number| (number, 1)).collect();
        // Until when, what it showed first, and the file.
        let mut readers: Vec<(usize, u8, Arc<dyn File>)> = Vec::new();
        for (at, step) in steps.into_iter().enumerate() {
            readers.retain(|(until, ..)| *until > at);
            match step {
                Step::Get { number, keep } => match bench.cache.get(name_of(number)) {
                    Ok(file) => {
                        let found = version(file.as_ref());
                        prop_assert_eq!(Some(&found), on_disk.get(&number), "of {}", number);
                        readers.push((at + keep, found, file));
                    }
                    Err(error) => {
                        prop_assert_eq!(error.kind(), io::ErrorKind::NotFound);
                        prop_assert!(!on_disk.contains_key(&number));
                    }
                },
                Step::Replace { number } => {
                    let next = on_disk.get(&number).map_or(1, |version| version % 250 + 1);
                    write(&bench.fs, name_of(number), next);
                    on_disk.insert(number, next);
                    bench.cache.forget(name_of(number));
                }
                Step::Remove { number } => {
                    let _ = bench.fs.remove(&path_of(name_of(number)));
                    on_disk.remove(&number);
                    bench.cache.forget(name_of(number));
                }
            }
            for (_, found, file) in &readers {
                prop_assert_eq!(version(file.as_ref()), *found, "closed under a reader");
            }
            // Beside those that readers hold themselves.
            prop_assert!(bench.open_now() <= open_max.max(1) + readers.len());
        }
        readers.clear();
        prop_assert!(bench.open_now() <= open_max.max(1));
    }
}

#[test]
fn as_many_as_there_is_room_for_stay_open() {
    let bench = Bench::new(8);
    for number in [0, 1, 2, 3, 4, 5, 6, 7, 7, 6, 5, 4, 3, 2, 1, 0] {
        bench.cache.get(name_of(number)).expect("there");
    }
    assert_eq!(
        (bench.opens.load(Ordering::Relaxed), bench.open_now()),
        (8, 8)
    );
}

#[test]
fn what_is_read_again_and_again_stays_while_all_others_pass_once() {
    let bench = Bench::new(8);
    let mut opened = HashMap::new();
    for round in 0..4 {
        for number in 4..NAMES {
            bench.cache.get(name_of(number)).expect("there");
            for often in 0..4 {
                let before = bench.opens.load(Ordering::Relaxed);
                bench.cache.get(name_of(often)).expect("there");
                let again = bench.opens.load(Ordering::Relaxed) - before;
                *opened.entry((round, often)).or_insert(0) += again;
            }
        }
    }
    let later: u64 = (1..4)
        .flat_map(|round| (0..4).map(move |often| (round, often)))
        .map(|key| opened[&key])
        .sum();
    assert_eq!(later, 0, "{opened:?}");
}

/// A reader has opened the old file and is late: by then another one has its name.
#[test]
fn a_file_that_is_replaced_while_it_is_opened_is_given_to_nobody_else() {
    let fs = SimFs::new(1 << 20);
    let name = name_of(0);
    write(&fs, name, 1);
    let cache: Arc<OnceLock<FileCache>> = Arc::default();
    let late = Arc::new(AtomicBool::new(true));
    let (inside, from) = (Arc::downgrade(&cache), fs.clone());
    let open = move |name: FileName| {
        let file = from.open(Path::new(&path_of(name)))?;
        if late.swap(false, Ordering::Relaxed) {
            write(&from, name, 2);
            let cache = inside.upgrade().expect("in use");
            cache.get().expect("made").forget(name);
        }
        Ok(file)
    };
    let cache = cache.get_or_init(|| FileCache::new(4, open));
    let first = cache.get(name).expect("there");
    assert_eq!(version(first.as_ref()), 1);
    let second = cache.get(name).expect("there");
    assert_eq!(version(second.as_ref()), 2);
}
