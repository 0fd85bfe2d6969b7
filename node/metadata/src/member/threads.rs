//! The three threads of a member: raft's driver, the one that syncs its log, and apply. Each stops
//! the others when it ends.

use super::MetaFailure;
use crate::apply::{Applier, ApplyQueue, ApplyTask};
use crate::raft::{Driver, Input, RaftHandle, Syncer};
use megalith_disk::DirLock;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

pub(super) type Threads = Vec<thread::JoinHandle<()>>;

pub(super) fn spawn(
    driver: Driver,
    syncer: Syncer,
    applier: Applier,
    apply: ApplyQueue,
    raft: RaftHandle,
    on_failure: Arc<dyn Fn(MetaFailure) + Send + Sync>,
    lock: Box<dyn DirLock>,
) -> io::Result<Threads> {
    // Held until nothing of this process writes any more.
    let lock: Arc<dyn DirLock> = lock.into();
    let (failed, syncs) = (
        on_failure.clone(),
        (on_failure.clone(), raft.clone(), lock.clone()),
    );
    let sync_thread = move || {
        let (on_failure, raft, _lock) = syncs;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| syncer.run())) {
            raft.send_blocking(Input::Stop);
            report(Some(panicked("sync", panic.as_ref())), on_failure.as_ref());
        }
    };
    let raft_thread = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| driver.run()));
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(MetaFailure::Raft(error)),
            Err(panic) => Some(panicked("raft", panic.as_ref())),
        };
        apply.push(ApplyTask::Stop {
            clean: failure.is_none(),
        });
        report(failure, failed.as_ref());
    };
    let apply_thread = move || {
        let _lock = lock;
        let ended = catch_unwind(AssertUnwindSafe(|| applier.run()));
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(MetaFailure::Apply(error)),
            Err(panic) => Some(panicked("apply", panic.as_ref())),
        };
        if failure.is_some() {
            raft.send_blocking(Input::Stop);
        }
        report(failure, on_failure.as_ref());
    };
    Ok(vec![
        thread::Builder::new()
            .name("meta-sync".into())
            .spawn(sync_thread)?,
        thread::Builder::new()
            .name("meta-raft".into())
            .spawn(raft_thread)?,
        thread::Builder::new()
            .name("meta-apply".into())
            .spawn(apply_thread)?,
    ])
}

fn report(failure: Option<MetaFailure>, on_failure: &dyn Fn(MetaFailure)) {
    if let Some(failure) = failure {
        let error: &dyn std::error::Error = &failure;
        tracing::error!(error, "the metadata member stops");
        on_failure(failure);
    }
}

fn panicked(thread: &'static str, panic: &(dyn Any + Send)) -> MetaFailure {
    let text = panic.downcast_ref::<String>().cloned();
    let message = text
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default();
    MetaFailure::Panic { thread, message }
}
