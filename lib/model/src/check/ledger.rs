//! Compares what is counted with what is kept, of any number of things, in memory of one size.
//!
//! Every thing (a blob, a segment, a bucket's counter) has a hash. What is counted of it adds the
//! hash so many times to one of a fixed number of cells; what is kept of it takes it off. A cell in
//! which all things agree ends at zero, in whatever order they came, and one with a difference does
//! not (but for one chance in 2^128: see [`crate::sum`] on such sums). So one pass over the rows
//! says whether there is a difference, and in which cells. A second pass, which keeps the things of
//! those cells only, names it.

use super::finding::{Findings, Rule, Subject};
use std::collections::{BTreeMap, BTreeSet};

/// Cells of each rule: 16 bytes each, 32 MiB for all rules.
pub(super) const CELLS: u32 = 1 << 16;
/// The most cells that one closer look takes in. Of 125 million objects each has about 2,000.
const SUSPECTS_MAX: usize = 256;
/// The most things that a closer look holds at once: about 128 MiB.
const THINGS_MAX: usize = 1 << 20;

/// The cells in which something differs.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Suspects {
    cells: BTreeSet<(Rule, u32)>,
    /// Of how many each rule has.
    of: u32,
    /// How many there are besides.
    pub more: u64,
}

impl Suspects {
    /// Returns true if nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }
}

struct Thing {
    subject: Subject,
    counted: u64,
    kept: u64,
}

enum Look {
    Sums {
        sums: Vec<u128>,
        cells: u32,
    },
    Closer {
        suspects: Suspects,
        /// Those whose sides differ so far.
        things: BTreeMap<(Rule, [u8; 16]), Thing>,
        dropped: bool,
    },
}

pub(super) struct Ledger(Look);

enum Side {
    Counted,
    Kept,
}

impl Ledger {
    /// A first look, with so many cells for each rule.
    pub(super) fn new(cells: u32) -> Self {
        let sums = vec![0; Rule::ALL.len() * cells as usize];
        Self(Look::Sums { sums, cells })
    }

    /// A look at the things in these cells.
    pub(super) fn closer(mut suspects: Suspects) -> Self {
        suspects.of = suspects.of.max(1);
        Self(Look::Closer {
            suspects,
            things: BTreeMap::new(),
            dropped: false,
        })
    }

    /// Adds `amount` to what is counted of the thing that `name` names.
    pub(super) fn counted(&mut self, rule: Rule, subject: Subject, name: &[&[u8]], amount: u64) {
        self.add(rule, subject, name, amount, &Side::Counted);
    }

    /// Adds `amount` to what is kept of the thing that `name` names.
    pub(super) fn kept(&mut self, rule: Rule, subject: Subject, name: &[&[u8]], amount: u64) {
        self.add(rule, subject, name, amount, &Side::Kept);
    }

    fn add(&mut self, rule: Rule, subject: Subject, name: &[&[u8]], amount: u64, side: &Side) {
        if amount == 0 {
            return;
        }
        let (hash, place) = hash(rule, name);
        match &mut self.0 {
            Look::Sums { sums, cells } => {
                let part = u128::from_le_bytes(hash).wrapping_mul(amount.into());
                let at = rule as usize * *cells as usize + (place % *cells) as usize;
                let sum = &mut sums[at];
                *sum = match side {
                    Side::Counted => sum.wrapping_add(part),
                    Side::Kept => sum.wrapping_sub(part),
                };
            }
            Look::Closer {
                suspects,
                things,
                dropped,
            } => {
                if !suspects.cells.contains(&(rule, place % suspects.of)) {
                    return;
                }
                let key = (rule, hash);
                if things.len() >= THINGS_MAX && !things.contains_key(&key) {
                    *dropped = true;
                    return;
                }
                let thing = things.entry(key).or_insert(Thing {
                    subject,
                    counted: 0,
                    kept: 0,
                });
                let to = match side {
                    Side::Counted => &mut thing.counted,
                    Side::Kept => &mut thing.kept,
                };
                *to = to.saturating_add(amount);
                if thing.counted == thing.kept {
                    things.remove(&key);
                }
            }
        }
    }

    /// Names what differs if this was a closer look; else returns where to look closer.
    pub(super) fn finish(self, findings: &mut Findings) -> (Suspects, Reach) {
        match self.0 {
            Look::Sums { sums, cells } => (suspects(&sums, cells), Reach::Whole),
            Look::Closer {
                suspects,
                things,
                dropped,
            } => {
                for ((rule, _), thing) in things {
                    let Thing {
                        subject,
                        counted,
                        kept,
                    } = thing;
                    findings.add(rule, format!("{subject}: kept {kept}, counted {counted}"));
                }
                let part = dropped || suspects.more > 0;
                let reach = if part { Reach::Part } else { Reach::Whole };
                (Suspects::default(), reach)
            }
        }
    }
}

/// Whether everything that differs has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Whole,
    Part,
}

fn suspects(sums: &[u128], of: u32) -> Suspects {
    let mut suspects = Suspects {
        of: of.max(1),
        ..Suspects::default()
    };
    for (rule, cells) in Rule::ALL.iter().zip(sums.chunks(of as usize)) {
        for (cell, sum) in (0..).zip(cells) {
            if *sum == 0 {
                continue;
            }
            if suspects.cells.len() < SUSPECTS_MAX {
                suspects.cells.insert((*rule, cell));
            } else {
                suspects.more += 1;
            }
        }
    }
    suspects
}

/// Returns a thing's hash, and a number that chooses its cell.
fn hash(rule: Rule, name: &[&[u8]]) -> ([u8; 16], u32) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[rule as u8]);
    for part in name {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let whole = *hasher.finalize().as_bytes();
    let (mut hash, mut cell) = ([0; 16], [0; 4]);
    hash.copy_from_slice(&whole[..16]);
    cell.copy_from_slice(&whole[16..20]);
    (hash, u32::from_le_bytes(cell))
}
