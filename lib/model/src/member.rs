//! The members of a Raft group: their state, and how they join and leave.

use crate::ids::NodeId;

/// A change of a group's members that an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberChange {
    /// The node becomes a voter.
    Add(NodeId),
    /// The node is no longer a member.
    Remove(NodeId),
    /// `new` takes the place of `old`; both may be the same node, whose log is lost.
    Replace { old: NodeId, new: NodeId },
}

/// How far a change of members has come, in the leader's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeStanding {
    /// The members are as requested.
    Done(String),
    UnderWay(String),
    /// The change is impossible, or impossible now.
    Refused(String),
}

/// What the leader knows of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    pub node: NodeId,
    /// The id that it uses in Raft; a different one in each life of its log.
    pub id: u64,
    /// `host:port` of its gRPC listener.
    pub address: String,
    pub leader: bool,
    /// Whether it was heard from lately.
    pub alive: bool,
    /// Whether it is a learner, without a vote.
    pub learner: bool,
    /// How far its clock is ahead of the leader's, in milliseconds; 0 if that isn't known.
    pub clock_ahead_ms: i64,
    /// The last log entry that it is known to have.
    pub matched: u64,
    /// The last entry that it knows to be committed.
    pub committed: u64,
    pub losses: Losses,
}

/// What a member's disk has lost. The texts are empty if nothing was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Why the log of an earlier life was lost.
    pub lost: String,
    /// Where the files of that life are.
    pub kept: String,
    /// Why its tables have been rebuilt since its process began.
    pub tables: String,
}
