//! What the rest of the process asks of a metadata member, and the gRPC service `Metadata`.
//!
//! Owns waiting: every call has a deadline here. Decides nothing about rows.

mod denied;
mod grpc;
mod placed;
mod turns;

pub use grpc::MetadataService;

use crate::addresses::AddressBook;
use crate::apply::ProposeError;
use crate::clock::GroupClock;
use crate::engine::EngineView;
use crate::levels::Levels;
use crate::log::{LogIdentity, node_of};
use crate::placement::Leadership;
use crate::raft::{
    Input, Knock, KnockAnswer, NotLeader, PROPOSAL_BYTES_MAX, RaftHandle, RaftRole, RaftStatus,
};
use crate::snapshot::{BACKUP_PEER, CHECK_PEER, SnapshotSource};
use crate::tables::Tables;
use crate::transport::RaftService;
use megalith_client::levels::{range_from_wire, range_to_wire};
use megalith_model::answer;
use megalith_model::codec;
use megalith_model::command::{Answer, Command, Envelope, Refusal};
use megalith_model::denied::DenyList;
use megalith_model::entry;
use megalith_model::freeing::Freeing;
use megalith_model::ids::NodeId;
use megalith_model::level::Process;
use megalith_model::machine::MachineError;
use megalith_model::machine::sizes::check_sizes;
use megalith_model::member::{ChangeStanding, Losses, MemberChange};
use megalith_model::query::{Query, Reply};
use megalith_proto::v1;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::Status;
use turns::Turns;

/// After this time a proposal's fate is unknown.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(10);
/// After this time a question isn't answered any more.
const QUERY_DEADLINE: Duration = Duration::from_secs(5);
/// A stop waits no longer than this for another leader.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(2);
/// A transfer that has not gone through by then is asked for again.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(500);
/// Questions that read rows at a time.
const READERS_MAX: usize = 32;
/// Of them those that read for one storage node.
const READERS_PER_NODE_MAX: usize = 4;

/// All rows, in pieces.
pub type Exported = mpsc::Receiver<Result<v1::SnapshotPiece, Status>>;

/// Why a question has no answer here and now. Another member may answer it.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No leader confirmed the read in time, or this member isn't as far yet.
    #[error("the read could not be confirmed in time")]
    Unavailable,
    /// Only the leader answers this.
    #[error("this member does not lead")]
    NotLeader,
    /// The rows can't be read.
    #[error("read metadata")]
    Machine(#[from] MachineError),
    /// A storage node asks about another's disk.
    #[error("the question is about another node's disks")]
    Foreign,
    /// The member has stopped.
    #[error("the metadata member has stopped")]
    Stopped,
}

/// A running member. Cheap to clone.
#[derive(Clone)]
pub struct MetaHandle {
    inner: Arc<Inner>,
}

struct Inner {
    raft: RaftHandle,
    tables: Arc<Tables>,
    role: watch::Receiver<RaftRole>,
    leadership: watch::Receiver<Leadership>,
    topology_changes: watch::Receiver<u64>,
    denied: watch::Receiver<Arc<DenyList>>,
    source: SnapshotSource,
    addresses: Arc<AddressBook>,
    identity: LogIdentity,
    clock: GroupClock,
    levels: Levels,
    /// What the placement worker says as the leader of a term.
    freeing: watch::Sender<Option<(u64, Freeing)>>,
    readers: Semaphore,
    turns: Turns,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a handle is made of.
pub(super) struct HandleParts {
    pub(super) raft: RaftHandle,
    pub(super) tables: Arc<Tables>,
    pub(super) role: watch::Receiver<RaftRole>,
    pub(super) topology_changes: watch::Receiver<u64>,
    pub(super) source: SnapshotSource,
    pub(super) addresses: Arc<AddressBook>,
    pub(super) identity: LogIdentity,
    pub(super) clock: GroupClock,
    pub(super) levels: Levels,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) runtime: Handle,
}

impl MetaHandle {
    pub(super) fn new(parts: HandleParts) -> Self {
        let leadership = placed::watch_leadership(
            &parts.runtime,
            parts.role.clone(),
            parts.tables.applied(),
            parts.addresses.clone(),
        );
        let denied = denied::watch_list(&parts.runtime, &parts.tables, &parts.topology_changes);
        let inner = Inner {
            raft: parts.raft,
            tables: parts.tables,
            role: parts.role,
            leadership,
            topology_changes: parts.topology_changes,
            denied,
            source: parts.source,
            addresses: parts.addresses,
            identity: parts.identity,
            clock: parts.clock,
            levels: parts.levels,
            freeing: watch::Sender::new(None),
            readers: Semaphore::new(READERS_MAX),
            turns: Turns::new(READERS_PER_NODE_MAX),
            threads: Mutex::new(parts.threads),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Puts a command through the log; answers after it is applied here. After
    /// [`ProposeError::Unknown`] the caller proposes the same again.
    pub async fn propose(&self, envelope: &Envelope) -> Result<Answer, ProposeError> {
        self.propose_encoded(
            envelope,
            &codec::encode_at(envelope, self.inner.levels.level()),
        )
        .await
    }

    /// As [`Self::propose`], for an envelope of which `bytes` are the encoded form.
    pub(super) async fn propose_encoded(
        &self,
        envelope: &Envelope,
        bytes: &[u8],
    ) -> Result<Answer, ProposeError> {
        let data = entry::unstamped(bytes);
        let reset = envelope.command == Command::ResetClock;
        if data.len() > PROPOSAL_BYTES_MAX {
            return Err(ProposeError::TooLarge);
        }
        let role = *self.inner.role.borrow();
        if !role.leads {
            return Err(ProposeError::NotLeader { hint: role.leader });
        }
        let (needs, level) = (envelope.command.level(), self.inner.levels.level());
        if needs > level {
            // Not into the log: older members could not read it.
            return Ok(Err(Refusal::Level { needs, level }));
        }
        if let Err(refusal) = check_sizes(&envelope.command) {
            return Ok(Err(refusal));
        }
        let (waiter, answer) = oneshot::channel();
        self.inner.raft.send(Input::Propose {
            data,
            reset,
            waiter,
        })?;
        match timeout(PROPOSE_DEADLINE, answer).await {
            Ok(Ok(answer)) => answer,
            // The member stopped with the command on its way, or it takes too long.
            Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// The group's time in milliseconds since 1970; 0 if this member doesn't lead, or its clock is
    /// wrong.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let leads = self.inner.role.borrow().leads;
        let told = self.inner.clock.now_ms().filter(|_| leads);
        told.unwrap_or(0)
    }

    /// Answers a question, linearizably: it sees every command answered before it was asked.
    pub async fn query(&self, query: Query) -> Result<Reply, QueryError> {
        self.query_of(query, None).await.map(|(reply, _)| reply)
    }

    /// As [`Self::query`], for a storage node: the question must concern it, and it is told no more
    /// than what does. Also says after which entry of the log the rows were read.
    pub(super) async fn query_of(
        &self,
        query: Query,
        node: Option<NodeId>,
    ) -> Result<(Reply, u64), QueryError> {
        let asked = async {
            self.reach_now().await?;
            let _turn = match node {
                Some(node) => Some(self.inner.turns.take(node).await),
                None => None,
            };
            // Judged after the leader was asked how far the log is: whoever led before that may
            // not know of later reads.
            let freeing = match (query.is_for_leader(), node) {
                (true, Some(_)) => self.freeing()?,
                // Who is no storage node only looks, and deletes nothing for what it is shown.
                (true, None) => self.freeing()?.or(Some(Freeing::ALL)),
                (false, _) => None,
            };
            self.read(move |engine| {
                let freeing = freeing.as_ref();
                let reply = match node {
                    Some(node) => answer::answer_node(engine, &query, freeing, node)?,
                    None => Some(answer::answer(engine, &query, freeing)?),
                };
                let reply = reply.ok_or(QueryError::Foreign)?;
                Ok((reply, engine.applied().index))
            })
            .await
        };
        match timeout(QUERY_DEADLINE, asked).await {
            Ok(reply) => reply?,
            Err(_) => Err(QueryError::Unavailable),
        }
    }

    /// What this leader knows of readers; None if it has not heard all gateways yet.
    fn freeing(&self) -> Result<Option<Freeing>, QueryError> {
        let term = self.inner.leadership.borrow().term;
        let term = term.ok_or(QueryError::NotLeader)?;
        let told = *self.inner.freeing.borrow();
        Ok(told.and_then(|(then, freeing)| (then == term).then_some(freeing)))
    }

    /// Waits until this member has applied everything that was answered before the call; the
    /// index of the last entry that this takes.
    pub(super) async fn catch_up(&self) -> Result<u64, QueryError> {
        let caught_up = timeout(QUERY_DEADLINE, self.reach_now()).await;
        caught_up.unwrap_or(Err(QueryError::Unavailable))
    }

    /// As [`Self::catch_up`], for a caller that keeps a deadline.
    async fn reach_now(&self) -> Result<u64, QueryError> {
        let index = self.read_index().await?;
        self.wait_applied(index).await?;
        Ok(index)
    }

    /// Asks the leader from which entry on a read sees everything that was answered before.
    async fn read_index(&self) -> Result<u64, QueryError> {
        if self.inner.raft.alone().get() {
            // Nothing was answered but by this member, after it was applied.
            return Ok(self.applied());
        }
        let (waiter, index) = oneshot::channel();
        match self.inner.raft.send(Input::Read(waiter)) {
            Ok(()) => {}
            Err(ProposeError::Stopped) => return Err(QueryError::Stopped),
            Err(_busy) => return Err(QueryError::Unavailable),
        }
        index.await.map_err(|_| QueryError::Stopped)
    }

    async fn wait_applied(&self, index: u64) -> Result<(), QueryError> {
        let mut applied = self.inner.tables.applied();
        let reached = applied.wait_for(|applied| applied.index >= index).await;
        reached.map(|_| ()).map_err(|_| QueryError::Stopped)
    }

    /// Reads rows at one point of the log, on a thread that may block.
    async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn EngineView) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        let permit = self
            .inner
            .readers
            .acquire()
            .await
            .map_err(|_| QueryError::Stopped)?;
        let tables = self.inner.tables.clone();
        let done = spawn_blocking(move || tables.read(read)).await;
        drop(permit);
        done.map_err(|_| QueryError::Stopped)?
            .ok_or(QueryError::Unavailable)
    }

    /// The cluster's level here, and what other processes can run.
    #[must_use]
    pub fn levels(&self) -> &Levels {
        &self.inner.levels
    }

    /// The deny list as this member has applied it.
    #[must_use]
    pub fn denied(&self) -> watch::Receiver<Arc<DenyList>> {
        self.inner.denied.clone()
    }

    /// The member's standing. None after it has stopped.
    pub async fn status(&self) -> Option<RaftStatus> {
        let (asker, status) = oneshot::channel();
        self.inner.raft.send(Input::Status(asker)).ok()?;
        timeout(QUERY_DEADLINE, status).await.ok()?.ok()
    }

    /// Who leads, as this member sees it: for tests and measurements, which wait for a leader.
    #[must_use]
    pub fn leader_changes(&self) -> watch::Receiver<RaftRole> {
        self.inner.role.clone()
    }

    /// The last entry applied here.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.inner.tables.applied().borrow().index
    }

    /// Whose member this is.
    #[must_use]
    pub fn identity(&self) -> LogIdentity {
        self.inner.identity
    }

    /// Hands the lead to another voter before a planned stop, which spares the group an election
    /// timeout. Returns when this member leads no more, or no other could be found in time.
    pub async fn hand_over(&self) {
        if self.inner.addresses.alone() {
            return;
        }
        let mut role = self.inner.role.clone();
        let handed = async {
            while role.borrow_and_update().leads {
                // Asked again: a transfer is given up if its target doesn't answer.
                // If it is too busy now, it is asked again, too.
                if let Err(ProposeError::Stopped) = self.inner.raft.send(Input::HandOver) {
                    return;
                }
                if let Ok(Err(_)) = timeout(HAND_OVER_PAUSE, role.changed()).await {
                    return;
                }
            }
        };
        if timeout(HAND_OVER_DEADLINE, handed).await.is_err() {
            tracing::warn!("no other member took the lead over; the others will elect one");
        }
    }

    /// Takes the next step of a change of members, and says how far it is.
    pub async fn change_members(&self, change: MemberChange) -> Result<ChangeStanding, NotLeader> {
        let (asker, standing) = oneshot::channel();
        if self
            .inner
            .raft
            .send(Input::Change { change, asker })
            .is_err()
        {
            return Err(NotLeader { hint: None });
        }
        match timeout(QUERY_DEADLINE, standing).await {
            Ok(Ok(standing)) => standing,
            Ok(Err(_)) | Err(_) => Err(NotLeader { hint: None }),
        }
    }

    /// Answers a member that knocks; `peer` is who its certificate says it is.
    pub async fn knock(
        &self,
        peer: NodeId,
        request: v1::KnockRequest,
    ) -> Result<v1::KnockReply, Status> {
        if request.group != self.inner.identity.group.0 {
            return Err(Status::invalid_argument("another group's member"));
        }
        if node_of(request.id) != Some(peer) {
            return Err(Status::permission_denied(
                "a knock in another member's name",
            ));
        }
        let known = range_from_wire(request.levels.as_ref());
        self.inner.levels.hear(Process::Member(peer.0), known);
        let mut reply = v1::KnockReply {
            level: self.inner.levels.told(),
            levels: Some(range_to_wire(self.inner.levels.known())),
            ..v1::KnockReply::default()
        };
        if self.inner.levels.check_process(known).is_err() {
            return Ok(reply);
        }
        let knock = Knock {
            id: request.id,
            address: request.address,
            fresh: request.fresh,
            losses: Losses {
                lost: request.lost,
                kept: request.kept,
                tables: request.tables,
            },
        };
        let gone = || Status::unavailable("the member is busy or stops");
        let (asker, answer) = oneshot::channel();
        let asked = self.inner.raft.send(Input::Knock { knock, asker });
        asked.map_err(|_| gone())?;
        let answer = timeout(QUERY_DEADLINE, answer).await.map_err(|_| gone())?;
        match answer.map_err(|_| gone())? {
            KnockAnswer::Fresh => reply.fresh = true,
            KnockAnswer::NotLeader(hint) => reply.not_leader = Some(self.not_leader(hint)),
            KnockAnswer::Voter => reply.set_standing(v1::KnockStanding::Voter),
            KnockAnswer::UnderWay(how) => {
                reply.set_standing(v1::KnockStanding::UnderWay);
                reply.reason = how;
            }
            KnockAnswer::Stranger => reply.set_standing(v1::KnockStanding::Stranger),
        }
        Ok(reply)
    }

    /// Names the leader to somebody who should have asked it.
    fn not_leader(&self, hint: Option<NodeId>) -> v1::NotLeader {
        let known = hint.or(self.inner.role.borrow().leader);
        known.map_or_else(v1::NotLeader::default, |leader| v1::NotLeader {
            leader: leader.0,
            address: self.inner.addresses.told(leader),
        })
    }

    /// Makes the service by which other members reach this one.
    #[must_use]
    pub fn raft_service(&self) -> RaftService {
        RaftService::new(self.clone())
    }

    /// Hands a raft message on; dropped if the driver has too much to do: raft sends again.
    pub(super) fn take_message(&self, peer: NodeId, message: v1::RaftMessage) {
        let known = range_from_wire(message.levels.as_ref());
        self.inner.levels.hear(Process::Member(peer.0), known);
        let _ = self.inner.raft.send(Input::Message(message));
    }

    /// Sends this member's rows to others.
    pub(super) fn source(&self) -> &SnapshotSource {
        &self.inner.source
    }

    /// Streams all rows as they are at one point of the log, at or behind everything that was
    /// answered before; the last piece names it. If the engine has no snapshots, rows that change
    /// meanwhile come again, behind those that they replace. A request that names a session goes on
    /// with it.
    pub async fn export(
        &self,
        mut request: v1::SnapshotRequest,
    ) -> Result<Result<Exported, Status>, QueryError> {
        let index = self.catch_up().await?;
        request.index = request.index.max(index);
        let peer = if request.still {
            CHECK_PEER
        } else {
            BACKUP_PEER
        };
        Ok(self.inner.source.stream(peer, &request))
    }

    /// Makes the service for clients.
    #[must_use]
    pub fn metadata_service(&self) -> MetadataService {
        MetadataService::new(self.clone())
    }

    /// Stops the member: no more rounds, a last checkpoint. Returns when its threads have ended.
    pub async fn stop(&self) {
        let raft = self.inner.raft.clone();
        let threads = {
            let mut threads = self
                .inner
                .threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *threads)
        };
        let stop = move || {
            raft.send_blocking(Input::Stop);
            for thread in threads {
                // A panic was reported by the thread itself.
                let _ = thread.join();
            }
        };
        // Fails only if the runtime is going down, and the threads with it.
        let _ = spawn_blocking(stop).await;
    }
}

#[cfg(test)]
impl MetaHandle {
    pub(super) fn raft_for_tests(&self) -> &RaftHandle {
        &self.inner.raft
    }

    pub(super) fn tables_for_tests(&self) -> &Tables {
        &self.inner.tables
    }
}
