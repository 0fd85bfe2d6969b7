//! One member on the machine's own file system, with the engines that are kept there.

use crate::engine::{DiskEngines, EngineKind, EngineSettings};
use crate::testing::log_identity;
use crate::transport::{SnapshotPieces, Transport};
use crate::*;
use futures::FutureExt;
use futures::future::BoxFuture;
use megalith_disk::RealFs;
use megalith_model::command::{Command, Envelope};
use megalith_model::ids::NodeId;
use megalith_model::query::Reply;
use megalith_model::question;
use megalith_proto::v1;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tonic::Status;

/// A transport that reaches no peer.
struct Alone;

impl Transport for Alone {
    fn send(&self, _message: v1::RaftMessage) -> bool {
        false
    }

    fn snapshot(
        &self,
        _peer: NodeId,
        _request: v1::SnapshotRequest,
    ) -> BoxFuture<'static, Result<SnapshotPieces, Status>> {
        async { Err(Status::unavailable("there is nobody")) }.boxed()
    }

    fn knock(
        &self,
        _peer: NodeId,
        _request: v1::KnockRequest,
    ) -> BoxFuture<'static, Result<v1::KnockReply, Status>> {
        async { Err(Status::unavailable("there is nobody")) }.boxed()
    }
}

fn member(dir: &Path, kind: EngineKind) -> MetaHandle {
    let engine = EngineSettings {
        kind,
        cache_bytes: 8 << 20,
        ..EngineSettings::default()
    };
    let parts = MetaParts {
        fs: Arc::new(RealFs),
        dir: dir.to_owned(),
        identity: log_identity(1),
        engines: Arc::new(DiskEngines::new(dir.join("state"), engine)),
        transport: Arc::new(Alone),
        addresses: Arc::new(AddressBook::new(NodeId(1), BTreeMap::new())),
        clock: Arc::new(|| 1),
        runtime: tokio::runtime::Handle::current(),
        on_failure: Arc::new(|failure| panic!("{failure}")),
    };
    let mut settings = super::settings();
    settings.apply.checkpoint_entries = 30;
    start(parts, &settings).expect("start")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_on_fjall_survives_restarts() {
    restarts(EngineKind::Fjall).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_on_sled_survives_restarts() {
    restarts(EngineKind::Sled).await;
}

async fn restarts(kind: EngineKind) {
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::create_dir(dir.path().join("state")).expect("create");
    MetaStore::init(Arc::new(RealFs), dir.path(), log_identity(1), &[NodeId(1)]).expect("init");
    for round in 0..4_usize {
        let member = member(dir.path(), kind);
        let leads = |role: &RaftRole| role.leads;
        member
            .leader_changes()
            .wait_for(leads)
            .await
            .expect("it leads");
        for account in 0..50 {
            let command = Command::CreateAccount {
                name: format!("account-{round}-{account}"),
                request: 0,
            };
            let envelope = Envelope { key: None, command };
            member
                .propose(&envelope)
                .await
                .expect("an answer")
                .expect("no refusal");
        }
        let query = question::Accounts {
            after: String::new(),
            max: 1_000,
        };
        let Reply::Accounts(found) = member.query(query.into()).await.expect("a reply") else {
            panic!("another reply");
        };
        assert_eq!(found.len(), (round + 1) * 50);
        member.stop().await;
    }
}
