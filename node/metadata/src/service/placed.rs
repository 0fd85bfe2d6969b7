//! The member as placement sees it.

use super::MetaHandle;
use crate::addresses::{AddressBook, Told};
use crate::levels::Levels;
use crate::log::Mark;
use crate::placement::{Leadership, PlacementGroup};
use crate::raft::RaftRole;
use megalith_model::answer::{self, OldUploads, Topology};
use megalith_model::command::{Answer, Command, Envelope};
use megalith_model::denied::DenyList;
use megalith_model::freeing::Freeing;
use megalith_model::ids::UploadId;
use megalith_model::member::MemberStatus;
use megalith_model::query::DataStatus;
use megalith_model::question::{self, Question as _};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Follows who leads, and whether a leader has applied an entry of its term: before that its rows
/// may lack what was answered by the leader before it.
pub(super) fn watch_leadership(
    runtime: &Handle,
    mut role: watch::Receiver<RaftRole>,
    mut applied: watch::Receiver<Mark>,
    addresses: Arc<AddressBook>,
) -> watch::Receiver<Leadership> {
    let (sender, receiver) = watch::channel(Leadership::default());
    runtime.spawn(async move {
        loop {
            let (now, mark) = (*role.borrow_and_update(), *applied.borrow_and_update());
            let address = |node| (node, addresses.told(node));
            let leadership = Leadership {
                term: (now.leads && mark.term == now.term).then_some(now.term),
                leader: now.leader.map(address),
            };
            sender.send_if_modified(|old| {
                let changed = *old != leadership;
                *old = leadership;
                changed
            });
            let open = tokio::select! {
                changed = role.changed() => changed.is_ok(),
                changed = applied.changed() => changed.is_ok(),
            };
            if !open {
                // The member has stopped: it leads no more.
                sender.send_replace(Leadership::default());
                return;
            }
        }
    });
    receiver
}

impl PlacementGroup for MetaHandle {
    async fn propose(&self, command: Command) -> Option<Answer> {
        let envelope = Envelope { key: None, command };
        MetaHandle::propose(self, &envelope).await.ok()
    }

    async fn catch_up(&self) -> bool {
        MetaHandle::catch_up(self).await.is_ok()
    }

    async fn topology(&self) -> Option<Topology> {
        let read = self.read(|engine| answer::topology(engine)).await.ok()?;
        read.map_err(|error| tracing::error!(%error, "read the topology"))
            .ok()
    }

    async fn old_uploads(&self, from: UploadId) -> Option<OldUploads> {
        // Known to the leader only, and nobody else asks.
        let now_ms = Some(self.now_ms()).filter(|now_ms| *now_ms > 0)?;
        let read = self.read(move |engine| answer::old_uploads(engine, now_ms, from));
        read.await
            .ok()?
            .map_err(|error| tracing::error!(%error, "look for old uploads"))
            .ok()
    }

    async fn data(&self) -> Option<DataStatus> {
        let reply = self.query(question::Data.into()).await.ok()?;
        question::Data::from_reply(reply).map(|data| *data)
    }

    fn now_ms(&self) -> u64 {
        MetaHandle::now_ms(self)
    }

    fn tell_freeing(&self, freeing: Option<(u64, Freeing)>) {
        self.inner.freeing.send_replace(freeing);
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    fn topology_changes(&self) -> watch::Receiver<u64> {
        self.inner.topology_changes.clone()
    }

    fn denied(&self) -> watch::Receiver<Arc<DenyList>> {
        self.inner.denied.clone()
    }

    fn addresses(&self) -> watch::Receiver<Told> {
        self.inner.addresses.watch()
    }

    fn levels(&self) -> Levels {
        self.inner.levels.clone()
    }

    async fn members(&self) -> Vec<MemberStatus> {
        self.status()
            .await
            .map_or_else(Vec::new, |status| status.members)
    }
}
