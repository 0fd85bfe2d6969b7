//! The directory of a damaged Raft log: opens and salvages it.
//!
//! Input: which of the good logs (the high bit: with checksums corrected afterwards), then a script
//! for `edit`. A log either opens with what it held after one of its appends, or is refused; no
//! entry comes out that never went in; a log that opens can be appended to and opens again.

use crate::edit::Folder;
use bytes::Bytes;
use megalith_disk::FileSystem;
use megalith_disk::sim::SimFs;
use megalith_metadata::log::fuzz::reseal;
use megalith_metadata::log::{
    Append, Conf, EntryKind, HardState, LogEntry, LogError, LogIdentity, LogSettings, Mark, MetaLog,
};
use megalith_model::ids::{ClusterId, GroupId, NodeId};
use std::path::Path;
use std::sync::{Arc, LazyLock};

const DIR: &str = "/log";
const IDENTITY: LogIdentity = LogIdentity {
    cluster: ClusterId([7; 16]),
    member: NodeId(1),
    group: GroupId(0),
    incarnation: 0,
};

/// The contents of a log.
#[derive(Clone, Debug, PartialEq)]
struct Contents {
    entries: Vec<LogEntry>,
    hard: HardState,
    conf: Conf,
    prev: Mark,
}

/// A log as it was left, and what it held after each of its appends.
struct Good {
    folder: Folder,
    history: Vec<Contents>,
}

static GOOD: LazyLock<Vec<Good>> = LazyLock::new(|| {
    vec![
        Good::new(Vec::new()),
        Good::new((1..6).map(|index| entries(index, 1, 1)).collect()),
        Good::new(vec![
            entries(1, 10, 1),
            entries(11, 30, 1),
            entries(35, 3, 2),
            conf(37),
            entries(38, 20, 2),
        ]),
        Good::new(vec![entries(1, 4, 1), reset(100, 3), entries(101, 5, 3)]),
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
        for (_, bytes) in folder
            .0
            .iter_mut()
            .filter(|(path, _)| path.ends_with(".log"))
        {
            reseal(bytes);
        }
    }
    let fs = folder.disk();
    salvage(good, &fs, forged);
    match open(&fs) {
        Ok(mut log) => {
            let found = contents(&log);
            assert!(forged || good.held(&found), "never held: {found:?}");
            if touched.is_empty() && !forged {
                assert_eq!(Some(&found), good.history.last());
            }
            go_on(&fs, &mut log, found, forged);
        }
        Err(error) => assert!(forged || !touched.is_empty(), "a good log: {error}"),
    }
}

/// Checks that an opened log takes another append, and that it is unchanged when it is opened
/// again.
fn go_on(fs: &SimFs, log: &mut MetaLog, mut found: Contents, forged: bool) {
    if forged {
        return;
    }
    found.hard.term += 1;
    let hard = Some(found.hard);
    log.append(Append {
        hard,
        ..Append::default()
    })
    .expect("an opened log takes appends");
    fs.crash(1);
    let again = open(fs).expect("what was appended opens again");
    assert_eq!(contents(&again), found);
}

fn salvage(good: &Good, fs: &SimFs, forged: bool) {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    let runs = MetaLog::salvage(&fs, Path::new(DIR), IDENTITY, settings()).expect("readable");
    for run in runs {
        for entry in contents(&run).entries {
            let known = |held: &Contents| held.entries.contains(&entry);
            assert!(forged || good.history.iter().any(known), "{entry:?}");
        }
    }
}

fn open(fs: &SimFs) -> Result<MetaLog, LogError> {
    MetaLog::open(Arc::new(fs.clone()), Path::new(DIR), IDENTITY, settings())
}

fn settings() -> LogSettings {
    LogSettings {
        file_bytes: 1024,
        cache_bytes: 300,
        preallocate_bytes: 512,
    }
}

fn contents(log: &MetaLog) -> Contents {
    let (first, end) = (log.first_index(), log.last_index() + 1);
    let entries = if first < end {
        log.entries(first, end, u64::MAX)
            .expect("what was scanned reads back")
    } else {
        Vec::new()
    };
    for (entry, index) in entries.iter().zip(first..) {
        assert_eq!((entry.index, Some(entry.term)), (index, log.term(index)));
    }
    Contents {
        entries,
        hard: log.hard_state(),
        conf: log.conf().clone(),
        prev: log.prev(),
    }
}

impl Good {
    fn new(appends: Vec<Append>) -> Self {
        let fs = SimFs::new(16 << 20);
        fs.create_dir(Path::new(DIR)).expect("create");
        fs.sync_dir(Path::new("/")).expect("sync");
        let conf = Conf::of_voters([NodeId(1), NodeId(2), NodeId(3)]);
        MetaLog::init(Arc::new(fs.clone()), Path::new(DIR), IDENTITY, conf).expect("init");
        let mut log = open(&fs).expect("open");
        let mut history = vec![contents(&log)];
        for append in appends {
            log.append(append).expect("append");
            history.push(contents(&log));
        }
        let folder = Folder::read(&fs, DIR);
        Self { folder, history }
    }

    /// Returns true if the log once held this. Its oldest log files may be gone, as after a purge:
    /// nothing shows that they existed.
    fn held(&self, found: &Contents) -> bool {
        self.history.iter().any(|held| {
            let hard = HardState {
                commit: held.hard.commit.max(found.prev.index),
                ..held.hard
            };
            held.entries.ends_with(&found.entries)
                && (held.prev == found.prev || found.prev.index > held.prev.index)
                && (hard, &held.conf) == (found.hard, &found.conf)
        })
    }
}

fn entries(from: u64, count: u64, term: u64) -> Append {
    let entry = |index: u64| LogEntry {
        kind: EntryKind::Normal,
        term,
        index,
        data: vec![index as u8; 20 + index as usize % 50].into(),
        context: Bytes::from_static(b"c"),
    };
    Append {
        hard: Some(HardState {
            term,
            vote: 1,
            commit: from - 1,
        }),
        entries: (from..from + count).map(entry).collect(),
        ..Append::default()
    }
}

fn conf(index: u64) -> Append {
    let mut conf = Conf::of_voters([NodeId(1), NodeId(2), NodeId(4)]);
    conf.index = index;
    conf.addresses.insert(4, "four:9000".into());
    Append {
        conf: Some(conf),
        ..Append::default()
    }
}

fn reset(index: u64, term: u64) -> Append {
    Append {
        reset: Some(Mark { index, term }),
        hard: Some(HardState {
            term,
            vote: 0,
            commit: index,
        }),
        conf: Some(Conf::of_voters([NodeId(1), NodeId(2)])),
        entries: Vec::new(),
    }
}

/// The first inputs. Files are numbered in sorted order: log files, then the file `reached`.
#[must_use]
pub fn seeds() -> crate::Seeds {
    crate::named(vec![
        ("fresh", vec![0]),
        ("short", vec![1]),
        ("segments", vec![2]),
        ("after-a-snapshot", vec![3]),
        ("bit-in-a-segment-header", vec![2, 0, 1, 9, 0, 0, 1]),
        ("bit-in-a-first-record", vec![2, 0, 1, 70, 0, 0, 1]),
        ("bit-in-the-last-append", vec![1, 0, 1, 0, 2, 0, 1]),
        ("cut-newest", vec![2, 3, 3, 100, 1, 0]),
        ("cut-oldest", vec![2, 3, 0, 100, 0, 0]),
        ("newest-gone", vec![2, 0xf3, 3, 0, 0, 0]),
        ("oldest-gone", vec![2, 0xf3, 0, 0, 0, 0]),
        ("reached-gone", vec![1, 0xf3, 2, 0, 0, 0]),
        (
            "reached-gone-newest-cut",
            vec![1, 0xf3, 2, 0, 0, 0, 3, 1, 200, 1, 0],
        ),
        ("garbage-behind", vec![1, 4, 1, 0, 4, 3, 1, 2, 3]),
        ("moved-sector", vec![2, 5, 1, 0, 0, 0, 0, 2, 0, 0]),
        (
            "forged-length",
            vec![0x81, 1, 1, 68, 0, 0, 4, 255, 255, 255, 3],
        ),
        (
            "forged-prev",
            vec![
                0x82, 1, 1, 88, 0, 0, 8, 255, 255, 255, 255, 255, 255, 255, 255,
            ],
        ),
        (
            "forged-conf",
            vec![
                0x82, 1, 1, 152, 0, 0, 8, 255, 255, 255, 255, 255, 255, 255, 255,
            ],
        ),
    ])
}
