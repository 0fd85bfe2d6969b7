//! Random histories of a cluster beside the judge of one disk: whatever happens and whenever disk
//! and rows are compared, no shard is deleted that a row names then or later.

use super::*;
use megalith_model::ids::{BlobId, LeaseId, VolumeId};
use proptest::prelude::*;

const TRASH_MS: u64 = 1_000;
const LIMITS: TrashLimits = TrashLimits {
    kept_ms: TRASH_MS,
    full_percent: 90,
};
const EMPTY: Fill = Fill {
    used: 0,
    capacity: 100,
};
const PRESSED: Fill = Fill {
    used: 95,
    capacity: 100,
};

fn shard(blob: u64) -> ShardId {
    ShardId {
        volume: VolumeId(1),
        blob: BlobId(blob),
        segment: 0,
        slot: 0,
    }
}

/// What the rows say.
#[derive(Clone, Default)]
struct Rows {
    open: BTreeSet<LeaseId>,
    next: u64,
    named: BTreeSet<u64>,
    queued: BTreeSet<u64>,
    /// Their command was accepted or given up: it is not accepted again.
    spent: BTreeSet<u64>,
    restored: bool,
}

impl Rows {
    fn witness(&self, blob: u64) -> Witness {
        let lease = BlobId(blob).lease();
        if self.named.contains(&blob) {
            Witness::Row
        } else if self.open.contains(&lease) || lease.0 >= self.next {
            Witness::Lease
        } else if self.queued.contains(&blob) {
            Witness::Delete
        } else if self.restored {
            Witness::Restore
        } else {
            Witness::Nobody
        }
    }
}

/// What may happen; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
    OpenLease,
    CloseLease(u8),
    /// A gateway takes an id.
    Take,
    /// A shard of an id that was taken reaches the disk, however late.
    Write(u8),
    Commit(u8),
    Discard(u8),
    Delete(u8),
    /// The node works off its delete queue.
    Ack,
    Backup,
    Restore(u8),
    Release,
    Later(u16),
    /// The node asks about all it has; it hears the answers at the next `Hear`.
    Ask,
    Hear,
    /// Asks about what is due; the answers are taken up at the next `Free`.
    AskDue(bool),
    Free,
    /// What is in the trash becomes durable.
    Save,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let n = any::<u8>;
    prop_oneof![
        2 => Just(Op::OpenLease),
        3 => n().prop_map(Op::CloseLease),
        6 => Just(Op::Take),
        6 => n().prop_map(Op::Write),
        4 => n().prop_map(Op::Commit),
        2 => n().prop_map(Op::Discard),
        2 => n().prop_map(Op::Delete),
        2 => Just(Op::Ack),
        1 => Just(Op::Backup),
        1 => n().prop_map(Op::Restore),
        1 => Just(Op::Release),
        3 => (0_u16..900).prop_map(Op::Later),
        8 => Just(Op::Ask),
        8 => Just(Op::Hear),
        6 => any::<bool>().prop_map(Op::AskDue),
        6 => Just(Op::Free),
        2 => Just(Op::Save),
        1 => Just(Op::Crash),
    ]
}

struct Cluster {
    rows: Rows,
    backups: Vec<Rows>,
    taken: Vec<u64>,
    disk: BTreeSet<u64>,
    judge: Judge,
    saved: Trash,
    now_ms: u64,
    asked: Option<Vec<(u64, Witness)>>,
    due: Option<Vec<(u64, Witness)>>,
    /// Deleted out of the trash.
    freed: BTreeSet<u64>,
}

impl Cluster {
    fn new() -> Self {
        Self {
            rows: Rows::default(),
            backups: Vec::new(),
            taken: Vec::new(),
            disk: BTreeSet::new(),
            judge: Judge::new(LIMITS, Trash::new()),
            saved: Trash::new(),
            now_ms: 0,
            asked: None,
            due: None,
            freed: BTreeSet::new(),
        }
    }

    fn taken(&self, n: u8) -> Option<u64> {
        let count = self.taken.len().max(1);
        self.taken.get(usize::from(n) % count).copied()
    }

    fn witnesses(&self, blobs: impl IntoIterator<Item = u64>) -> Vec<(u64, Witness)> {
        let blobs = blobs.into_iter();
        blobs.map(|blob| (blob, self.rows.witness(blob))).collect()
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::OpenLease => {
                self.rows.open.insert(LeaseId(self.rows.next));
                self.rows.next += 1;
            }
            Op::CloseLease(n) => {
                let count = self.rows.open.len().max(1);
                let lease = self.rows.open.iter().nth(usize::from(*n) % count).copied();
                lease.map(|lease| self.rows.open.remove(&lease));
            }
            Op::Take => {
                let lease = self.rows.open.last().copied();
                let (count, blobs) = (self.taken.len() as u64, LeaseId::BLOBS);
                self.taken
                    .extend(lease.map(|lease| lease.0 * blobs + count));
            }
            Op::Write(n) => {
                // A name that was deleted is not written again: the write has ended.
                let blob = self
                    .taken(*n)
                    .filter(|blob| !self.rows.spent.contains(blob));
                self.disk.extend(blob);
            }
            Op::Later(ms) => self.now_ms += u64::from(*ms),
            Op::Commit(n) | Op::Discard(n) | Op::Delete(n) => {
                if let Some(blob) = self.taken(*n) {
                    self.command(op, blob);
                }
            }
            Op::Ack => {
                for blob in std::mem::take(&mut self.rows.queued) {
                    self.disk.remove(&blob);
                }
            }
            Op::Backup | Op::Restore(_) | Op::Release => self.backups(op),
            Op::Ask | Op::Hear | Op::AskDue(_) | Op::Free | Op::Save | Op::Crash => self.node(op),
        }
        let lost = self.rows.named.intersection(&self.freed).next();
        assert_eq!(lost, None, "a row names what was deleted");
    }

    /// What apply makes of a client's command.
    fn command(&mut self, op: &Op, blob: u64) {
        let leased = self.rows.open.contains(&BlobId(blob).lease());
        let first = leased && !self.rows.spent.contains(&blob);
        match op {
            // No receipt, no commit.
            Op::Commit(_) if first && self.disk.contains(&blob) => {
                self.rows.named.insert(blob);
                self.rows.spent.insert(blob);
            }
            Op::Discard(_) if first => {
                self.rows.queued.insert(blob);
                self.rows.spent.insert(blob);
            }
            Op::Delete(_) if self.rows.named.remove(&blob) => {
                self.rows.queued.insert(blob);
            }
            _ => {}
        }
    }

    fn backups(&mut self, op: &Op) {
        match op {
            Op::Backup => self.backups.push(self.rows.clone()),
            Op::Restore(n) if !self.backups.is_empty() => {
                let next = self.rows.next;
                self.rows = self.backups[usize::from(*n) % self.backups.len()].clone();
                self.rows.open.clear();
                self.rows.next = next + 1;
                self.rows.restored = true;
                // Answers of the lost group are too old by now.
                (self.asked, self.due) = (None, None);
            }
            Op::Release if self.rows.restored => {
                // The operator has said that these rows stay.
                self.rows.restored = false;
                self.backups.clear();
            }
            _ => {}
        }
    }

    fn node(&mut self, op: &Op) {
        match op {
            Op::Ask => self.asked = Some(self.witnesses(self.disk.iter().copied())),
            Op::Hear => {
                if let Some(answers) = self.asked.take() {
                    self.judge.begin();
                    for (blob, witness) in answers {
                        self.judge.hear(self.now_ms, shard(blob), 10, witness);
                    }
                    self.judge.end();
                }
            }
            Op::AskDue(pressed) => {
                let fill = if *pressed { PRESSED } else { EMPTY };
                let due = self.judge.due(self.now_ms, fill);
                self.due = Some(self.witnesses(due.into_iter().map(|shard| shard.blob.0)));
            }
            Op::Free => {
                for (blob, witness) in self.due.take().into_iter().flatten() {
                    if self.judge.may_delete(shard(blob), witness) {
                        self.judge.deleted(&[shard(blob)]);
                        self.freed.extend(self.disk.take(&blob));
                    }
                }
            }
            Op::Save => self.saved = self.judge.trash().clone(),
            Op::Crash => {
                self.judge = Judge::new(LIMITS, self.saved.clone());
                (self.asked, self.due) = (None, None);
            }
            _ => {}
        }
    }

    /// Lets everything come to its end: no lease stays open, nothing is in doubt.
    fn come_to_rest(&mut self) {
        self.rows.open.clear();
        for op in [Op::Release, Op::Ack] {
            self.step(&op);
        }
        for _ in 0..2 {
            for op in [Op::Ask, Op::Hear] {
                self.step(&op);
            }
        }
        self.now_ms += TRASH_MS;
        while !self.judge.trash().is_empty() {
            for op in [Op::AskDue(false), Op::Free] {
                self.step(&op);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_shard_is_deleted_that_a_row_names_then_or_later(
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let mut cluster = Cluster::new();
        for op in &ops {
            cluster.step(op);
        }
        cluster.come_to_rest();
        // And what nothing names is gone in the end.
        prop_assert_eq!(&cluster.disk & &cluster.rows.named, cluster.disk);
    }
}

fn trash(since: &[(u64, u64)]) -> Trash {
    let entry = |(blob, since_ms): &(u64, u64)| {
        let (since_ms, len) = (*since_ms, 10);
        (shard(*blob), TrashedShard { since_ms, len })
    };
    since.iter().map(entry).collect()
}

#[test]
fn a_shard_is_asked_about_in_two_rounds() {
    let mut judge = Judge::new(LIMITS, Trash::new());
    let mut round = |witness| {
        judge.begin();
        judge.hear(5, shard(1), 10, witness);
        judge.end();
        judge.trash().len()
    };
    assert_eq!(round(Witness::Nobody), 0);
    assert_eq!(round(Witness::Restore), 0);
    assert_eq!(round(Witness::Nobody), 0);
    assert_eq!(round(Witness::Nobody), 1);
    assert_eq!(round(Witness::Delete), 1);
    assert_eq!(round(Witness::Row), 0);
}

#[test]
fn a_round_that_is_cut_off_proves_nothing() {
    let mut judge = Judge::new(LIMITS, trash(&[(7, 1)]));
    for _ in 0..3 {
        judge.begin();
        judge.hear(5, shard(1), 10, Witness::Nobody);
    }
    assert_eq!(*judge.trash(), trash(&[(7, 1)]));
}

#[test]
fn the_oldest_go_first_and_only_as_far_as_a_full_disk_needs() {
    let judge = Judge::new(LIMITS, trash(&[(1, 300), (2, 100), (3, 200)]));
    let blobs = |now_ms, used| {
        let capacity = 100;
        let due = judge.due(now_ms, Fill { used, capacity });
        due.iter().map(|shard| shard.blob.0).collect::<Vec<_>>()
    };
    assert!(blobs(1_099, 90).is_empty());
    assert_eq!(blobs(1_100, 90), [2]);
    assert_eq!(blobs(1_250, 0), [2, 3]);
    assert_eq!(blobs(0, 91), [2]);
    assert_eq!(blobs(0, 101), [2, 3]);
    // A clock that runs back keeps everything.
    assert!(blobs(0, 0).is_empty());
}

#[test]
fn at_a_hundred_percent_only_time_deletes() {
    let limits = TrashLimits {
        kept_ms: TRASH_MS,
        full_percent: 100,
    };
    let judge = Judge::new(limits, trash(&[(1, 100)]));
    let full = Fill {
        used: 100,
        capacity: 100,
    };
    assert!(judge.due(1_099, full).is_empty());
    assert_eq!(judge.due(1_100, full), [shard(1)]);
}

#[test]
fn what_is_due_stays_if_somebody_speaks_for_it() {
    let mut judge = Judge::new(LIMITS, trash(&[(1, 1), (2, 1), (3, 1)]));
    assert!(!judge.may_delete(shard(1), Witness::Restore));
    assert!(!judge.may_delete(shard(2), Witness::Row));
    assert!(judge.may_delete(shard(3), Witness::Nobody));
    assert!(!judge.may_delete(shard(4), Witness::Nobody));
    assert_eq!(*judge.trash(), trash(&[(1, 1), (3, 1)]));
}
