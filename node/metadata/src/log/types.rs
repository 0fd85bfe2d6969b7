//! The log's words as types.

use bytes::Bytes;
use megalith_model::ids::{ClusterId, GroupId, NodeId};
use std::collections::BTreeMap;

/// Whose log it is. A log of any other is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    pub cluster: ClusterId,
    pub member: NodeId,
    pub group: GroupId,
    /// Which of the member's lives: one that has lost its log comes back as another voter. 0 for
    /// a group's first members, and in settings, which don't know it: the directory does.
    pub incarnation: u32,
}

impl LogIdentity {
    /// The id by which Raft knows this life of the member.
    #[must_use]
    pub fn raft_id(&self) -> u64 {
        u64::from(self.incarnation) << 32 | u64::from(self.member.0)
    }
}

/// The node of a Raft id, whichever of its lives; None if it is no node's.
#[must_use]
pub fn node_of(id: u64) -> Option<NodeId> {
    let node = u32::try_from(id & u64::from(u32::MAX)).expect("32 bits");
    (node != 0).then_some(NodeId(node))
}

/// What one process may choose about its log.
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// When a log file has this many bytes, the next append begins a new one. Default 64 MiB: the
    /// purge works by whole files, and opening reads one at a time.
    pub file_bytes: u64,
    /// Newest entries kept in memory, in bytes. Default 32 MiB: followers that keep up and the
    /// apply thread never read a file.
    pub cache_bytes: usize,
    /// Space reserved ahead of the writer, in bytes. Default 8 MiB: fewer allocations in syncs.
    pub preallocate_bytes: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
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
    pub term: u64,
}

/// What Raft must not forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    /// Whom this member voted for in it; 0 for none.
    pub vote: u64,
    /// The last entry known to be committed. May be older than the truth.
    pub commit: u64,
}

/// The group's members as of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// The entry that made it so; 0 for the first members.
    pub index: u64,
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
    /// Voters of the configuration that is being left.
    pub voters_outgoing: Vec<u64>,
    /// Voters of the old configuration that become learners.
    pub learners_next: Vec<u64>,
    /// The joint configuration is left by itself.
    pub auto_leave: bool,
    /// `host:port` of the members that came later; the first ones' are in the settings.
    pub addresses: BTreeMap<u64, String>,
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

    /// Every id under which a node is a member.
    #[must_use]
    pub fn ids_of(&self, node: NodeId) -> Vec<u64> {
        let mut members = self.members();
        members.retain(|&id| node_of(id) == Some(node));
        members
    }

    /// True while the group is on its way from one configuration to another.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EntryKind {
    /// A command; empty if a new leader made its term known.
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
    pub kind: EntryKind,
    /// The term of the leader that made it.
    pub term: u64,
    pub index: u64,
    pub data: Bytes,
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
    pub conf: Option<Conf>,
    /// Entries without gaps. The first may be one that is there already: it and all after it are
    /// replaced.
    pub entries: Vec<LogEntry>,
}

impl Append {
    /// True if there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reset.is_none()
            && self.hard.is_none()
            && self.conf.is_none()
            && self.entries.is_empty()
    }
}
