//! The members of a Raft group: how they stand, and how they come and go.

use crate::ids::NodeId;

/// A change of a group's members that an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberChange {
    /// The node becomes a voter.
    Add(NodeId),
    /// The node is no member any more.
    Remove(NodeId),
    /// `new` takes the place of `old`; both may be the same node, whose log is lost.
    Replace { old: NodeId, new: NodeId },
}

/// How far a change of members is, in the leader's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeStanding {
    /// The members are as was asked for.
    Done(String),
    UnderWay(String),
    /// It can't be, or not now.
    Refused(String),
}

/// What the leader knows of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    pub node: NodeId,
    /// The id under which it speaks; another one in each life of its log.
    pub id: u64,
    /// `host:port` of its gRPC listener.
    pub address: String,
    pub leader: bool,
    /// It was heard from lately.
    pub alive: bool,
    /// It has no vote.
    pub learner: bool,
    /// The last entry known to be on it.
    pub matched: u64,
    /// The last entry that it knows to be committed.
    pub committed: u64,
    /// What befell its disk.
    pub losses: Losses,
}

/// What befell a member's disk. Empty texts if nothing did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Why the log of an earlier life was lost.
    pub lost: String,
    /// Where the files of that life are.
    pub kept: String,
    /// Why its tables were made again since its process began.
    pub tables: String,
}
