//! A member's way into its group: the first members find out that they are the first, later ones
//! ask the leader to be let in, and go on asking until they vote.
//!
//! Owns the asking. Decides nothing: the driver does, here and at the leader.

use super::card::Lost;
use crate::addresses::AddressBook;
use crate::levels::Levels;
use crate::raft::{Input, Phase, Presence, RaftHandle};
use crate::transport::Transport;
use futures::future::join_all;
use megalith_client::levels::{range_from_wire, range_to_wire};
use megalith_disk::FileSystem;
use megalith_model::ids::{GroupId, NodeId};
use megalith_model::level::Process;
use megalith_proto::v1;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// One knock takes at most this long.
const KNOCK_DEADLINE: Duration = Duration::from_secs(2);
/// How often leaders are followed that members name, before a pause.
const ROUNDS_MAX: usize = 3;
/// Between two reports of a voter whose disk has lost something.
const REPORT_PAUSE: Duration = Duration::from_secs(5);

/// Asks for one member.
pub(super) struct Asker {
    pub(super) raft: RaftHandle,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) group: GroupId,
    pub(super) book: Arc<AddressBook>,
    pub(super) presence: watch::Receiver<Presence>,
    pub(super) lost: Arc<Mutex<Option<Lost>>>,
    /// Why the tables were made again, if they were.
    pub(super) tables: Option<String>,
    pub(super) levels: Levels,
    pub(super) fs: Arc<dyn FileSystem>,
    /// The other first members, for one that is new.
    pub(super) founders: Vec<NodeId>,
    pub(super) pause: Duration,
}

impl Asker {
    /// Asks until the member ends.
    pub(super) async fn run(mut self) {
        let mut seen = BTreeSet::new();
        let (mut said, mut warned) = (None, false);
        loop {
            let presence = *self.presence.borrow_and_update();
            let pause = match presence.phase {
                Phase::Fresh => {
                    self.look_around(presence.id, &mut seen).await;
                    self.pause
                }
                Phase::Joining | Phase::Learner | Phase::Removed => {
                    let heard = Some(self.ask(presence.id).await);
                    // What is said once is how every start begins.
                    if heard != said {
                        (said, warned) = (heard, false);
                    } else if !warned {
                        tracing::warn!(id = presence.id, answer = heard, "not a voter yet");
                        warned = true;
                    }
                    self.pause
                }
                Phase::Voter => {
                    said = None;
                    if self.tables.is_some() || self.keeps_files() {
                        self.ask(presence.id).await;
                    }
                    REPORT_PAUSE
                }
            };
            tokio::select! {
                changed = self.presence.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Asks the other first members whether they have ever taken part. What each has said since
    /// this process began counts: had this member taken part before, so had one of them.
    async fn look_around(&self, id: u64, seen: &mut BTreeSet<NodeId>) {
        let unseen = self.founders.iter().filter(|node| !seen.contains(node));
        let request = v1::KnockRequest {
            fresh: true,
            ..self.request(id)
        };
        let ask = |&node: &NodeId| {
            let asked = self.transport.knock(node, request.clone());
            async move { (node, timeout(KNOCK_DEADLINE, asked).await) }
        };
        for (node, reply) in join_all(unseen.map(ask)).await {
            match reply {
                Ok(Ok(reply)) if reply.fresh => {
                    let levels = range_from_wire(reply.levels.as_ref());
                    self.levels.hear(Process::Member(node.0), levels);
                    seen.insert(node);
                }
                Ok(Ok(_formed)) => {
                    tracing::warn!(%node, "the group was formed before, and this member is new");
                    // Refused if the driver is busy or gone: then it is told again, or not at
                    // all.
                    let _ = self.raft.send(Input::Founded { first: false });
                    return;
                }
                Ok(Err(status)) => tracing::info!(%node, %status, "a first member does not answer"),
                Err(_) => tracing::info!(%node, "a first member does not answer"),
            }
        }
        if seen.len() == self.founders.len() {
            let _ = self.raft.send(Input::Founded { first: true });
        }
    }

    /// Knocks at all that may be members, and at the leader that one of them names; returns what
    /// the leader said, or why there is none.
    async fn ask(&self, id: u64) -> String {
        let mut heard = "no member of the group answers".to_owned();
        for _ in 0..ROUNDS_MAX {
            let mut news = false;
            for reply in self.knock_at_all(id).await {
                if let Err(level) = self.levels.check_told(reply.level) {
                    // Told again if the driver is busy.
                    let _ = self.raft.send(Input::OutOfRange(level));
                    return level.to_string();
                }
                if let Some(other) = &reply.not_leader {
                    let leader = NodeId(other.leader);
                    news |= self.book.named_leader(leader, &other.address);
                }
                match reply.standing() {
                    _ if reply.not_leader.is_some() || reply.fresh => {
                        heard = "no leader answers: the group has lost its majority, or elects"
                            .to_owned();
                    }
                    v1::KnockStanding::Stranger => {
                        return "this node is no member: an operator lets it in by `megalith meta \
                                add` or `replace`"
                            .to_owned();
                    }
                    v1::KnockStanding::Voter => {
                        return "the leader counts it as a voter: it has yet to catch up"
                            .to_owned();
                    }
                    v1::KnockStanding::UnderWay | v1::KnockStanding::Unspecified => {
                        return reply.reason;
                    }
                }
            }
            if !news {
                break;
            }
        }
        heard
    }

    async fn knock_at_all(&self, id: u64) -> Vec<v1::KnockReply> {
        let request = self.request(id);
        let knock = |node| timeout(KNOCK_DEADLINE, self.transport.knock(node, request.clone()));
        let replies = join_all(self.book.others().into_iter().map(knock)).await;
        replies.into_iter().flatten().flatten().collect()
    }

    fn request(&self, id: u64) -> v1::KnockRequest {
        let lost = self.lost().unwrap_or_default();
        let kept = Some(lost.kept).filter(|kept| is_dir(self.fs.as_ref(), kept));
        v1::KnockRequest {
            group: self.group.0,
            id,
            address: self.book.own(),
            fresh: false,
            lost: lost.reason,
            kept: kept.unwrap_or_default(),
            tables: self.tables.clone().unwrap_or_default(),
            levels: Some(range_to_wire(self.levels.known())),
        }
    }

    fn keeps_files(&self) -> bool {
        self.lost()
            .is_some_and(|lost| is_dir(self.fs.as_ref(), &lost.kept))
    }

    fn lost(&self) -> Option<Lost> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.clone()
    }
}

/// True if the files of a lost life are still there.
pub(super) fn is_dir(fs: &dyn FileSystem, path: &str) -> bool {
    !path.is_empty() && fs.list(Path::new(path)).is_ok()
}
