//! Names, faults and the power cut of the simulated disk.

use super::inode::{BLOCK, Inode};
use super::{SimFault, SimOp, SimRule};
use crate::DirEntry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathEntry {
    /// Has its own number: a directory that is created again is a different one.
    Dir(u64),
    File(u64),
}

/// Calls that a test makes slow.
pub(super) struct HeldCalls {
    op: SimOp,
    path: String,
    pub(super) waiting: usize,
}

/// The whole simulated disk, behind one lock.
pub(super) struct SimDisk {
    pub(super) capacity: u64,
    /// Counts power cuts and kills; handles from an earlier life are void.
    pub(super) life: u64,
    pub(super) changes: u64,
    pub(super) syncs: u64,
    pub(super) stop_at: Option<u64>,
    pub(super) rules: Vec<SimRule>,
    stopped: bool,
    seen: BTreeMap<PathBuf, PathEntry>,
    platter: BTreeMap<PathBuf, PathEntry>,
    inodes: BTreeMap<u64, Inode>,
    inode_next: u64,
    locks: BTreeSet<PathBuf>,
    /// Calls that wait, by the number of their hold.
    pub(super) holds: BTreeMap<u64, HeldCalls>,
    hold_next: u64,
}

impl SimDisk {
    pub(super) fn new(capacity: u64) -> Self {
        let root = BTreeMap::from([(PathBuf::from("/"), PathEntry::Dir(0))]);
        Self {
            capacity,
            life: 0,
            changes: 0,
            syncs: 0,
            stop_at: None,
            rules: Vec::new(),
            stopped: false,
            seen: root.clone(),
            platter: root,
            inodes: BTreeMap::new(),
            inode_next: 1,
            locks: BTreeSet::new(),
            holds: BTreeMap::new(),
            hold_next: 1,
        }
    }

    pub(super) fn hold(&mut self, op: SimOp, path: &str) -> u64 {
        let number = self.hold_next;
        self.hold_next += 1;
        let held = HeldCalls {
            op,
            path: path.to_owned(),
            waiting: 0,
        };
        self.holds.insert(number, held);
        number
    }

    /// Returns the hold that stops such a call, if there is one.
    pub(super) fn held(&self, op: SimOp, path: &Path) -> Option<u64> {
        let path = path.to_string_lossy();
        let matches = |held: &HeldCalls| held.op == op && path.contains(held.path.as_str());
        let mut holds = self.holds.iter();
        holds
            .find(|(_, held)| matches(held))
            .map(|(&number, _)| number)
    }

    pub(super) fn count_waiting(&mut self, number: u64, more: isize) {
        if let Some(held) = self.holds.get_mut(&number) {
            held.waiting = held.waiting.saturating_add_signed(more);
        }
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        if self.stopped {
            Err(io::Error::other("stopped by the test"))
        } else {
            Ok(())
        }
    }

    /// Counts a change; fails if the test stops here or a rule says so.
    pub(super) fn change(&mut self, op: SimOp, path: &Path) -> io::Result<()> {
        self.count()?;
        match self.fault(op, path) {
            None | Some(SimFault::Flip | SimFault::Misdirect) => Ok(()),
            Some(SimFault::Io) => Err(io::Error::from_raw_os_error(EIO)),
            Some(SimFault::Full) => Err(io::Error::from_raw_os_error(ENOSPC)),
        }
    }

    pub(super) fn fault(&mut self, op: SimOp, path: &Path) -> Option<SimFault> {
        let path = path.to_string_lossy();
        let at = self
            .rules
            .iter()
            .position(|rule| rule.op == op && path.contains(rule.path.as_str()))?;
        let rule = &mut self.rules[at];
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        let fault = rule.fault;
        rule.times = rule.times.saturating_sub(1);
        if rule.times == 0 {
            self.rules.remove(at);
        }
        Some(fault)
    }

    pub(super) fn write(
        &mut self,
        path: &Path,
        inode: u64,
        mut bytes: Vec<u8>,
        mut offset: u64,
    ) -> io::Result<()> {
        // A write that the power cut interrupts may have reached the cache in part or in whole: the
        // crash decides.
        let stopped = self.count();
        let mut outcome = Ok(());
        match self.fault(SimOp::Write, path) {
            None => {}
            Some(SimFault::Full) => return Err(io::Error::from_raw_os_error(ENOSPC)),
            Some(SimFault::Io) => {
                bytes.truncate(bytes.len() / 2);
                outcome = Err(io::Error::from_raw_os_error(EIO));
            }
            Some(SimFault::Flip) => {
                let middle = bytes.len() / 2;
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 1;
                }
            }
            Some(SimFault::Misdirect) => offset += BLOCK,
        }
        self.make_room(inode, offset, bytes.len() as u64)?;
        self.inode(inode)?.write(&bytes, offset);
        stopped.and(outcome)
    }

    pub(super) fn make_room(&mut self, inode: u64, offset: u64, len: u64) -> io::Result<()> {
        let missing = self.inode(inode)?.missing(offset, len) * BLOCK;
        if missing > 0 && self.used() + missing > self.capacity {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    pub(super) fn used(&self) -> u64 {
        let seen = self.inodes.values().filter(|inode| inode.seen_links > 0);
        seen.map(Inode::blocks).sum::<u64>() * BLOCK
    }

    pub(super) fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes
            .get_mut(&inode)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn opened(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.handles += 1;
        }
    }

    pub(super) fn closed(&mut self, inode: u64) {
        if let Some(found) = self.inodes.get_mut(&inode) {
            found.handles -= 1;
            self.bury(inode);
        }
    }

    pub(super) fn file_at(&self, path: &Path) -> io::Result<u64> {
        match self.seen.get(path) {
            Some(PathEntry::File(inode)) => Ok(*inode),
            Some(PathEntry::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn number_of(&self, path: &Path) -> io::Result<u64> {
        match self.seen.get(path) {
            Some(PathEntry::File(number) | PathEntry::Dir(number)) => Ok(*number),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn add_dir(&mut self, path: &Path) -> io::Result<()> {
        let number = self.inode_next;
        self.inode_next += 1;
        self.add_name(path, PathEntry::Dir(number))
    }

    fn is_dir(&self, path: &Path) -> bool {
        matches!(self.seen.get(path), Some(PathEntry::Dir(_)))
    }

    pub(super) fn add_file(&mut self, path: &Path) -> io::Result<u64> {
        let inode = self.inode_next;
        self.inode_next += 1;
        self.add_name(path, PathEntry::File(inode))?;
        let fresh = self.inodes.entry(inode).or_default();
        (fresh.links, fresh.seen_links) = (1, 1);
        Ok(inode)
    }

    pub(super) fn add_name(&mut self, path: &Path, entry: PathEntry) -> io::Result<()> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        if !self.is_dir(parent) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if self.seen.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.seen.insert(path.to_path_buf(), entry);
        Ok(())
    }

    pub(super) fn remove_name(&mut self, path: &Path) -> io::Result<()> {
        match self.seen.remove(path).ok_or(io::ErrorKind::NotFound)? {
            PathEntry::Dir(_) => {}
            PathEntry::File(inode) => {
                if let Some(found) = self.inodes.get_mut(&inode) {
                    found.links -= 1;
                    found.seen_links -= 1;
                }
                self.bury(inode);
            }
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        let inode = self.file_at(source)?;
        if self.seen.contains_key(target) {
            self.remove_name(target)?;
        }
        self.seen.remove(source);
        self.add_name(target, PathEntry::File(inode))
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        if !self.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let children = self
            .seen
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir));
        Ok(children
            .map(|(path, entry)| DirEntry {
                name: path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                is_dir: matches!(entry, PathEntry::Dir(_)),
            })
            .collect())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        if !self.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for path in self.differing(Some(dir)) {
            self.settle_name(&path);
        }
        Ok(())
    }

    pub(super) fn lock(&mut self, path: &Path) -> io::Result<()> {
        if !self.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    pub(super) fn unlock(&mut self, path: &Path) {
        self.locks.remove(path);
    }

    pub(super) fn flip(&mut self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        let inode = self.file_at(path)?;
        self.inode(inode)?.flip(offset, mask);
        Ok(())
    }

    pub(super) fn kill(&mut self) {
        self.life += 1;
        self.stopped = false;
        self.stop_at = None;
        self.locks.clear();
        for inode in self.inodes.values_mut() {
            inode.handles = 0;
        }
        self.inodes.retain(|_, inode| inode.links > 0);
    }

    pub(super) fn crash(&mut self, seed: u64) {
        let mut random = Random(seed);
        for path in self.differing(None) {
            if random.coin() {
                self.settle_name(&path);
            }
        }
        // A lost directory takes its contents with it.
        let platter = std::mem::take(&mut self.platter);
        for (path, entry) in platter {
            let parent = path.parent().map(Path::to_path_buf);
            if parent.is_none_or(|parent| self.platter.contains_key(&parent)) {
                self.platter.insert(path, entry);
            }
        }
        self.seen = self.platter.clone();
        for inode in self.inodes.values_mut() {
            inode.crash(|| random.next());
            (inode.links, inode.seen_links) = (0, 0);
        }
        for entry in self.seen.values() {
            if let PathEntry::File(inode) = entry
                && let Some(inode) = self.inodes.get_mut(inode)
            {
                inode.links += 2;
                inode.seen_links += 1;
            }
        }
        self.kill();
    }

    fn count(&mut self) -> io::Result<()> {
        self.alive()?;
        self.changes += 1;
        if self.stop_at.is_some_and(|at| self.changes >= at) {
            self.stopped = true;
        }
        self.alive()
    }

    /// Returns the paths whose entry differs between what programs see and the platter.
    fn differing(&self, dir: Option<&Path>) -> Vec<PathBuf> {
        let both: BTreeSet<&PathBuf> = self.seen.keys().chain(self.platter.keys()).collect();
        both.into_iter()
            .filter(|path| dir.is_none() || path.parent() == dir)
            .filter(|path| self.seen.get(*path) != self.platter.get(*path))
            .cloned()
            .collect()
    }

    /// Writes one name to the platter.
    fn settle_name(&mut self, path: &Path) {
        if let Some(PathEntry::File(inode)) = self.platter.remove(path) {
            if let Some(found) = self.inodes.get_mut(&inode) {
                found.links -= 1;
            }
            self.bury(inode);
        }
        if let Some(entry) = self.seen.get(path) {
            self.platter.insert(path.to_path_buf(), *entry);
            if let PathEntry::File(inode) = entry
                && let Some(found) = self.inodes.get_mut(inode)
            {
                found.links += 1;
            }
        }
    }

    fn bury(&mut self, inode: u64) {
        let dead = |found: &Inode| found.links == 0 && found.handles == 0;
        if self.inodes.get(&inode).is_some_and(dead) {
            self.inodes.remove(&inode);
        }
    }
}

/// SplitMix64: the only source of randomness here, from a seed.
struct Random(u64);

impl Random {
    fn coin(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
