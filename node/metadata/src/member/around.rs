//! The member around its driver: what the driver asks of the rest, without knowing it.

use super::card::{self, Lost};
use super::rebuild::MemberDir;
use super::{StartError, join};
use crate::addresses::AddressBook;
use crate::engine::Engines;
use crate::levels::Levels;
use crate::log::{Conf, LogSettings, MetaLog};
use crate::raft::{Input, RaftError, RaftHandle, Surroundings};
use crate::snapshot::{FetchError, Fetched, SnapshotSource, fetch};
use crate::transport::Transport;
use megalith_model::ids::{GroupId, NodeId};
use megalith_model::member::Losses;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::runtime::Handle;

/// The rest of the member, as the driver needs it.
pub(super) struct Around {
    pub(super) raft: RaftHandle,
    pub(super) engines: Arc<dyn Engines>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) source: SnapshotSource,
    pub(super) group: GroupId,
    pub(super) runtime: Handle,
    pub(super) member_dir: MemberDir,
    pub(super) settings: LogSettings,
    pub(super) book: Arc<AddressBook>,
    pub(super) lost: Arc<Mutex<Option<Lost>>>,
    /// Why the tables were made again, if they were.
    pub(super) tables: Option<String>,
    pub(super) levels: Levels,
}

impl Surroundings for Around {
    fn fetch(&self, peer: NodeId, index_min: u64) {
        let (engines, transport) = (self.engines.clone(), self.transport.clone());
        let (raft, group, known) = (self.raft.clone(), self.group, self.levels.known());
        self.runtime.spawn(async move {
            let fetching = fetch(engines, transport, group, peer, index_min, known);
            let input = match fetching.await {
                Ok(fetched) => Input::Fetched(Some(fetched)),
                Err(FetchError::Level(level)) => Input::OutOfRange(level),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(%peer, error, "no snapshot of the metadata");
                    Input::Fetched(None)
                }
            };
            let send = move || raft.send_blocking(input);
            // The runtime ends only after the member.
            let _ = tokio::task::spawn_blocking(send).await;
        });
    }

    fn discard(&self, staged: &Fetched) {
        let (engines, name) = (self.engines.clone(), staged.name.clone());
        self.runtime.spawn_blocking(move || {
            if let Err(error) = engines.wipe(&name) {
                tracing::warn!(%error, "a staged snapshot stays behind");
            }
        });
    }

    fn members_are(&self, conf: &Conf) {
        self.book.learn(conf);
        if let Err(error) = card::write_peers(
            self.member_dir.fs.as_ref(),
            &self.member_dir.dir,
            &self.book,
        ) {
            let dir = self.member_dir.dir.display();
            tracing::warn!(%dir, %error, "the members' addresses are not written down");
        }
    }

    fn begin_life(&self, reason: &str) -> Result<(MetaLog, u64), RaftError> {
        let failed = |error: StartError| RaftError::NewLife(error.into());
        let card = self
            .member_dir
            .begin_life(reason, None, &self.book)
            .map_err(failed)?;
        let log = self.member_dir.open_log(card.identity, self.settings)?;
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = card.lost;
        Ok((log, card.identity.raft_id()))
    }

    fn address(&self, node: NodeId) -> String {
        self.book.told(node)
    }

    fn losses(&self) -> Losses {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = lost.clone().unwrap_or_default();
        let there = join::is_dir(self.member_dir.fs.as_ref(), &lost.kept);
        Losses {
            lost: lost.reason,
            kept: Some(lost.kept).filter(|_| there).unwrap_or_default(),
            tables: self.tables.clone().unwrap_or_default(),
        }
    }

    fn snapshot_used(&self, peer: NodeId) -> Option<Instant> {
        self.source.last_used(peer.0)
    }

    fn log_needed_after(&self) -> Option<u64> {
        self.source.log_needed_after()
    }
}
