//! The log's words as types.

use bytes::Bytes;
use megalith_model::ids::{ClusterId, GroupId, NodeId};

/// Whose log it is. A log of any other is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: NodeId,
    /// The group.
    pub group: GroupId,
}

/// What one process may choose about its log.
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// A segment of at least so many bytes is followed by a new one. Default 64 MiB: the purge
    /// works by whole segments, and opening reads one at a time.
    pub segment_bytes: u64,
    /// Newest entries kept in memory, in bytes. Default 32 MiB: followers that keep up and the
    /// apply thread never read a file.
    pub cache_bytes: usize,
    /// Space reserved ahead of the writer, in bytes. Default 8 MiB: fewer allocations in syncs.
    pub preallocate_bytes: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            cache_bytes: 32 << 20,
            preallocate_bytes: 8 << 20,
        }
    }
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The entry's index; 0 is before the first one.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// What Raft must not forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The current term.
    pub term: u64,
    /// Whom this member voted for in it; 0 for nobody.
    pub vote: u64,
    /// The last entry known to be committed. May be older than the truth.
    pub commit: u64,
}

/// The group's members as of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// The entry that made it so; 0 for the first members.
    pub index: u64,
    /// Voters.
    pub voters: Vec<u64>,
    /// Learners.
    pub learners: Vec<u64>,
    /// Voters of the configuration that is being left.
    pub voters_outgoing: Vec<u64>,
    /// Voters of the old configuration that become learners.
    pub learners_next: Vec<u64>,
    /// The joint configuration is left by itself.
    pub auto_leave: bool,
}

impl Conf {
    /// The first members of a group.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        let mut voters: Vec<u64> = voters.into_iter().map(|node| u64::from(node.0)).collect();
        voters.sort_unstable();
        voters.dedup();
        Self {
            voters,
            ..Self::default()
        }
    }

    /// Every member once, ascending.
    #[must_use]
    pub fn members(&self) -> Vec<u64> {
        let sets = [
            &self.voters,
            &self.learners,
            &self.voters_outgoing,
            &self.learners_next,
        ];
        let mut members: Vec<u64> = sets.into_iter().flatten().copied().collect();
        members.sort_unstable();
        members.dedup();
        members
    }
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EntryKind {
    /// A command; empty where a new leader made its term known.
    Normal = 0,
    /// A change of one member.
    ConfChange = 1,
    /// A change of several members.
    ConfChangeV2 = 2,
}

impl EntryKind {
    /// The kind of that number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Normal, Self::ConfChange, Self::ConfChangeV2]
            .into_iter()
            .find(|&kind| kind as u32 == number)
    }
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// What it holds.
    pub kind: EntryKind,
    /// The term of the leader that made it.
    pub term: u64,
    /// Its place.
    pub index: u64,
    /// The command.
    pub data: Bytes,
    /// Raft's own.
    pub context: Bytes,
}

impl LogEntry {
    /// What it costs in memory and, nearly, on disk.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len() + self.context.len() + 48
    }
}

/// All that one round of Raft makes durable; whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Append {
    /// Replaces the whole log by a snapshot at this place.
    pub reset: Option<Mark>,
    /// The new hard state.
    pub hard: Option<HardState>,
    /// The new members.
    pub conf: Option<Conf>,
    /// Entries without gaps. The first may be one that is there already: it and all after it are
    /// replaced.
    pub entries: Vec<LogEntry>,
}

impl Append {
    /// True where there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reset.is_none()
            && self.hard.is_none()
            && self.conf.is_none()
            && self.entries.is_empty()
    }
}
