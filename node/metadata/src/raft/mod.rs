//! The Raft driver of one member, on a thread of its own; the only module that names raft's types.
//!
//! Owns the log: what rounds of Raft must make durable is one append and one sync, on a thread of
//! its own. Hands committed entries to the apply thread and never waits for it: what it can't take
//! now is read from the log later. Must never: send a message that promises what isn't durable;
//! apply what isn't durable here; go on after a failed sync; wait for a peer, an apply or a
//! snapshot.
//!
//! `inbox` is what waits for the driver, `driver` takes it and time, `ready` does what raft says,
//! `append` knows what is on its way to the disk and `sync` writes it, `follow` brings a member
//! back whose log or rows are too old, `lead` and `pace` say who should lead, `standing` who is
//! alive, `reads` and `waiters` know who waits, `convert` keeps raft's types in.

mod append;
mod change;
mod convert;
mod driver;
mod follow;
mod inbox;
mod lead;
mod logger;
mod membership;
mod pace;
mod reads;
mod ready;
mod standing;
mod storage;
mod sync;
mod waiters;

pub use change::NotLeader;
pub(super) use change::{Knock, KnockAnswer};
pub(crate) use convert::{ticket, ticket_parts};
pub(super) use driver::{Driver, DriverParts};
pub(super) use inbox::Inbox;
pub(super) use reads::Alone;
pub(super) use sync::{SyncQueue, Syncer, sync_queue};

use crate::apply::{ApplyReport, ProposeError, Waiter};
use crate::clock::ClockStanding;
use crate::log::{Conf, LogError, Mark, MetaLog};
use crate::snapshot::Fetched;
use crate::transport::weight;
use megalith_model::ids::NodeId;
use megalith_model::level::OutOfRange;
use megalith_model::member::{ChangeStanding, Losses, MemberChange, MemberStatus};
use megalith_proto::v1;
use std::time::Duration;
use tokio::sync::oneshot;

/// The longest command, encoded.
pub const PROPOSAL_BYTES_MAX: usize = 8 << 20;

/// What one process may choose about its driver. All members of a group should agree on the ticks.
#[derive(Clone, Copy, Debug)]
pub struct RaftSettings {
    /// Raft's unit of time. Default 50 ms.
    pub tick: Duration,
    /// A follower that hears no leader for one to two times this many ticks stands for election.
    /// Default 20: 1–2 s.
    pub election_ticks: usize,
    /// How many ticks pass between two heartbeats of a leader. Default 2: 100 ms.
    pub heartbeat_ticks: usize,
    /// Entries of one message, in bytes. Default 1 MiB.
    pub message_bytes_max: u64,
    /// Messages to one follower without an answer. Default 256.
    pub inflight_max: usize,
    /// Entries that are not committed yet, in bytes. Default 64 MiB.
    pub uncommitted_bytes_max: u64,
    /// Entries handed to apply at once, in bytes. Default 4 MiB.
    pub committed_bytes_max: u64,
    /// Entries that wait for apply in memory, in bytes. Default 32 MiB; more are read again.
    pub apply_queue_bytes: u64,
    /// Proposals, reads and the like that may wait for the driver. Default 8,192.
    pub inbox_len: usize,
    /// Bytes of proposals and the like that may wait for the driver. Default 128 MiB.
    pub inbox_bytes: usize,
    /// Messages of other members that may wait for the driver, ahead of all those. Default 4,096.
    pub messages_len: usize,
    /// Bytes of messages that may wait for the driver. Default 64 MiB.
    pub messages_bytes: usize,
    /// Log kept behind a checkpoint, in bytes, so that a member that was away for a while needs no
    /// snapshot. Default 256 MiB.
    pub log_keep_bytes: u64,
    /// Log kept for a follower that is alive and behind, in bytes. Default 1 GiB.
    pub log_behind_bytes: u64,
    /// A follower that was told to fetch a snapshot and takes no piece for this long is told again.
    /// Default 10 s.
    pub snapshot_patience: Duration,
    /// Entries that wait for the log's disk, in bytes; a follower takes no more. Default 64 MiB.
    pub unsynced_bytes_max: usize,
    /// A leader whose log's disk has not answered for this long hands the lead over, if a majority
    /// of others have quicker ones. Default 500 ms.
    pub disk_hangs: Duration,
    /// So does one whose syncs take this long as a rule. Default 100 ms.
    pub disk_slow: Duration,
    /// The least time between two such hand-overs by one member. Default 5 s.
    pub hand_over_pause: Duration,
}

impl Default for RaftSettings {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(50),
            election_ticks: 20,
            heartbeat_ticks: 2,
            message_bytes_max: 1 << 20,
            inflight_max: 256,
            uncommitted_bytes_max: 64 << 20,
            committed_bytes_max: 4 << 20,
            apply_queue_bytes: 32 << 20,
            inbox_len: 8192,
            inbox_bytes: 128 << 20,
            messages_len: 4096,
            messages_bytes: 64 << 20,
            log_keep_bytes: 256 << 20,
            log_behind_bytes: 1 << 30,
            snapshot_patience: Duration::from_secs(10),
            unsynced_bytes_max: 64 << 20,
            disk_hangs: Duration::from_millis(500),
            disk_slow: Duration::from_millis(100),
            hand_over_pause: Duration::from_secs(5),
        }
    }
}

/// Why a driver ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// The log failed. Never tried again: what it holds isn't known any more.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log is whole and yet lacks what this member has promised. It must not be used again.
    #[error("{0}")]
    Lost(String),
    /// The member could not begin another life.
    #[error("put the lost raft log aside")]
    NewLife(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The cluster's level is none that this program can run.
    #[error(transparent)]
    Level(OutOfRange),
    /// raft refuses its state or a change of members.
    #[error("raft: {0}")]
    Raft(String),
}

/// Who leads, as one member sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RaftRole {
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// True if it is this member.
    pub leads: bool,
}

/// A member's place in its group, as it knows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Presence {
    /// Under which it speaks.
    pub(super) id: u64,
    pub(super) phase: Phase,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// One of the first members, that may not act before all of them were heard.
    Fresh,
    /// It knows of no group and waits to be let in.
    Joining,
    Learner,
    Voter,
    /// It was a member once.
    Removed,
}

/// One member's standing, as it sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// Under which this member speaks.
    pub id: u64,
    pub role: RaftRole,
    /// The last entry known to be committed.
    pub committed: u64,
    /// The last entry applied here.
    pub applied: u64,
    /// The first and last entry of the log.
    pub log: (u64, u64),
    /// How many entries behind those wait for the log's disk.
    pub unsynced: usize,
    /// Bytes of the log's files.
    pub log_bytes: u64,
    /// The rows are being fetched from a peer.
    pub rebuilding: bool,
    /// Whether its clock agrees with the others'.
    pub clock: ClockStanding,
    /// How long syncs of its log take, or for how long its disk has not answered, in milliseconds:
    /// the longer of the two.
    pub sync_ms: u32,
    /// The group's members; progress is known to the leader only.
    pub members: Vec<MemberStatus>,
}

/// What the driver is told.
pub(super) enum Input {
    /// Puts a command into the log.
    Propose {
        /// The entry, not stamped yet.
        data: Vec<u8>,
        /// True for the command that sets the group's clock back.
        reset: bool,
        waiter: Waiter,
    },
    /// Asks from which entry on a read is linearizable.
    Read(oneshot::Sender<u64>),
    Message(v1::RaftMessage),
    /// From the apply thread.
    Report(ApplyReport),
    /// A snapshot was fetched, or couldn't be.
    Fetched(Option<Fetched>),
    /// A peer has said that the cluster's level is none that this program can run.
    OutOfRange(OutOfRange),
    /// Asks for the standing.
    Status(oneshot::Sender<RaftStatus>),
    /// A member knocks, perhaps this one's leader-to-be.
    Knock {
        knock: Knock,
        asker: oneshot::Sender<KnockAnswer>,
    },
    /// An operator's change of members, its next step.
    Change {
        change: MemberChange,
        asker: oneshot::Sender<Result<ChangeStanding, NotLeader>>,
    },
    /// Whether this is the first time that the first members meet.
    Founded {
        first: bool,
    },
    /// Hands the lead to another member.
    HandOver,
    Stop,
}

impl Input {
    /// True for other members' messages and this member's own affairs; false for what anybody may
    /// ask for, however often.
    fn is_urgent(&self) -> bool {
        match self {
            Self::Propose { .. }
            | Self::Read(_)
            | Self::Status(_)
            | Self::Knock { .. }
            | Self::Change { .. } => false,
            Self::Message(_)
            | Self::Report(_)
            | Self::Fetched(_)
            | Self::OutOfRange(_)
            | Self::Founded { .. }
            | Self::HandOver
            | Self::Stop => true,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Propose { data, .. } => data.len() + 128,
            Self::Message(message) => weight(message),
            Self::Knock { knock, .. } => 128 + knock.address.len() + knock.losses.lost.len(),
            Self::Read(_)
            | Self::Report(_)
            | Self::Fetched(_)
            | Self::OutOfRange(_)
            | Self::Status(_)
            | Self::Change { .. }
            | Self::Founded { .. }
            | Self::HandOver
            | Self::Stop => 64,
        }
    }
}

/// Talks to the driver. Cheap to clone; never blocks unless it says so.
#[derive(Clone)]
pub struct RaftHandle {
    inbox: inbox::Outside,
    alone: Alone,
}

impl RaftHandle {
    /// Makes the handle, and the driver's end of it.
    pub(super) fn new(settings: &RaftSettings) -> (Self, Inbox) {
        let (inbox, inside) = inbox::inbox(settings);
        let alone = Alone::default();
        (Self { inbox, alone }, inside)
    }

    /// Whether a read needs no other member.
    pub(super) fn alone(&self) -> &Alone {
        &self.alone
    }

    /// Hands an input over, unless too many of its kind wait already: of what is urgent, or of the
    /// rest.
    pub(super) fn send(&self, input: Input) -> Result<(), ProposeError> {
        self.inbox.send(input)
    }

    /// Hands an input over that must not be lost; blocks while too many wait. For threads that the
    /// driver never waits for. After the driver's end nothing happens.
    pub(super) fn send_blocking(&self, input: Input) {
        self.inbox.send_blocking(input);
    }
}

/// What the driver asks of the rest of the member.
pub(super) trait Surroundings: Send {
    /// Fetches the rows of `peer`, at entry `index_min` or later, and reports by
    /// [`Input::Fetched`].
    fn fetch(&self, peer: NodeId, index_min: u64);

    /// Drops a staged snapshot that is of no use.
    fn discard(&self, staged: &Fetched);

    /// Notes who the members are now.
    fn members_are(&self, conf: &Conf);

    /// Puts the log aside and makes an empty one for another life. Returns it with its new id.
    fn begin_life(&self, reason: &str) -> Result<(MetaLog, u64), RaftError>;

    /// Where a node's listener is, as far as is known.
    fn address(&self, node: NodeId) -> String;

    /// What befell this member's disk.
    fn losses(&self) -> Losses;

    /// When `peer` last took a piece of a snapshot from this member.
    fn snapshot_used(&self, peer: NodeId) -> Option<std::time::Instant>;

    /// The entry behind which the log must stay for members that fetch a snapshot from this one.
    fn log_needed_after(&self) -> Option<u64>;
}

/// A mark's place among what the tables hold.
fn newest(one: Mark, two: Mark) -> Mark {
    one.max(two)
}
