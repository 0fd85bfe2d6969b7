//! The log beside a plain map, with power cuts, kills and reopening among random operations.

use super::super::*;
use super::{contents, entry, fresh, open};
use crate::testing::{Rng, seeds};
use megalith_disk::sim::SimFs;
use megalith_model::ids::NodeId;

/// What the log should hold.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    entries: Vec<LogEntry>,
    hard: HardState,
    conf: Conf,
    prev: Mark,
}

impl Model {
    fn new() -> Self {
        Self {
            entries: Vec::new(),
            hard: HardState::default(),
            conf: Conf::of_voters([NodeId(1), NodeId(2), NodeId(3)]),
            prev: Mark::default(),
        }
    }

    fn last(&self) -> u64 {
        self.prev.index + self.entries.len() as u64
    }

    fn term(&self, index: u64) -> u64 {
        match index.checked_sub(self.prev.index + 1) {
            None => self.prev.term,
            Some(position) => self.entries[position as usize].term,
        }
    }

    fn append(&mut self, append: &Append) {
        if let Some(mark) = append.reset {
            self.entries.clear();
            self.prev = mark;
        }
        if let Some(first) = append.entries.first() {
            self.entries
                .truncate((first.index - self.prev.index - 1) as usize);
            self.entries.extend(append.entries.iter().cloned());
        }
        self.hard = append.hard.unwrap_or(self.hard);
        self.conf = append.conf.clone().unwrap_or_else(|| self.conf.clone());
    }

    /// Purging may keep more than asked for, never less.
    fn purged_to(&mut self, prev: Mark) {
        let count = (prev.index - self.prev.index) as usize;
        self.entries.drain(..count);
        self.prev = prev;
    }

    fn is(&self, log: &MetaLog) -> bool {
        let (entries, hard, conf, prev) = contents(log);
        let found = Self {
            entries,
            hard,
            conf,
            prev,
        };
        found == *self
    }
}

fn random_append(rng: &mut Rng, model: &Model, commit: u64) -> Append {
    let term = model.hard.term + rng.below(2);
    if rng.below(25) == 0 {
        let mark = Mark {
            index: model.last() + 1 + rng.below(50),
            term,
        };
        let hard = HardState {
            term,
            vote: 0,
            commit: mark.index,
        };
        let conf = Conf {
            index: mark.index,
            ..model.conf.clone()
        };
        return Append {
            reset: Some(mark),
            hard: Some(hard),
            conf: Some(conf),
            entries: Vec::new(),
        };
    }
    let from = commit.max(model.prev.index) + 1;
    let first = if rng.below(6) == 0 {
        from + rng.below(model.last() + 2 - from)
    } else {
        model.last() + 1
    };
    let entries: Vec<LogEntry> = (0..rng.below(6))
        .map(|offset| entry(first + offset, term, rng.below(200) as usize))
        .collect();
    let last = entries.last().map_or(model.last(), |entry| entry.index);
    let floor = commit.min(last);
    let commit = floor + rng.below(last - floor + 1);
    Append {
        reset: None,
        hard: Some(HardState {
            term,
            vote: rng.below(4),
            commit,
        }),
        conf: None,
        entries,
    }
}

/// One run; true if some append was cut off by a crash.
fn run(seed: u64) -> bool {
    let mut rng = Rng::new(seed);
    let fs: SimFs = fresh();
    let mut log = open(&fs).expect("open");
    let mut model = Model::new();
    let mut cut = false;
    for step in 0..120 {
        let context = format!("seed {seed} step {step}");
        match rng.below(20) {
            0 => {
                fs.kill();
                log = open(&fs).unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            1 => {
                fs.crash(rng.next());
                log = open(&fs).unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            2 => {
                let _removed = log
                    .purge(model.hard.commit, rng.below(2) * rng.below(8_000))
                    .expect("purge");
                assert!(
                    log.prev().index <= model.hard.commit.max(model.prev.index),
                    "{context}"
                );
                assert_eq!(model.term(log.prev().index), log.prev().term, "{context}");
                model.purged_to(log.prev());
            }
            3 => {
                let append = random_append(&mut rng, &model, model.hard.commit);
                fs.stop_at(1 + rng.below(5));
                let result = log.append(append.clone());
                fs.crash(rng.next());
                log = open(&fs).unwrap_or_else(|error| panic!("{context}: {error}"));
                let mut after = model.clone();
                after.append(&append);
                let there = after.is(&log);
                assert!(
                    there || (result.is_err() && model.is(&log)),
                    "{context}: {append:?}"
                );
                cut |= result.is_err();
                if there {
                    model = after;
                }
            }
            _append => {
                let append = random_append(&mut rng, &model, model.hard.commit);
                log.append(append.clone()).expect("append");
                model.append(&append);
            }
        }
        assert!(
            model.is(&log),
            "{context}:\n{model:?}\n{:?}",
            contents(&log)
        );
    }
    cut
}

#[test]
fn the_log_is_a_map_whatever_is_cut_off() {
    let cut = seeds(300).filter(|&seed| run(seed)).count();
    assert!(cut > 100, "only {cut} runs had an append cut off");
}
