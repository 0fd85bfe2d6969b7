//! Works at rotations of key-encryption keys. Every gateway looks now and then whether there is
//! something to do; those that meet leave it to one of them.

use crate::ops::{OpError, Stepped, Store};
use megalith_client::{MetaClient, chain};
use megalith_model::rotation::{LEVEL, Rotation};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

/// How often a gateway looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// The least pause between two steps.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// What a gateway does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Seal rows again.
    Reseal,
    /// Delete the keys before this version.
    Drop(u32),
    Nothing,
}

fn next(rotation: Option<&Rotation>, now_ms: u64) -> Next {
    let Some(rotation) = rotation else {
        return Next::Nothing;
    };
    if !rotation.passed_all {
        return Next::Reseal;
    }
    match rotation.may_drop_from_ms() {
        Some(from_ms) if from_ms <= now_ms => Next::Drop(rotation.to),
        Some(_) | None => Next::Nothing,
    }
}

/// Works at rotations until the handle is dropped.
pub(super) fn spawn(meta: MetaClient, store: Store) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(rotate(meta, store)))
}

async fn rotate(meta: MetaClient, store: Store) {
    loop {
        sleep(LOOK_INTERVAL).await;
        if meta.level() < LEVEL {
            continue;
        }
        if let Err(error) = work(&store).await {
            let error = chain(&error);
            tracing::warn!(error, "the rotation of key-encryption keys is tried again");
        }
    }
}

/// Does all that there is to do, unless another gateway is at it.
async fn work(store: &Store) -> Result<(), OpError> {
    let rotation = store.rotation().await?;
    match next(rotation.as_ref(), store.group_ms()) {
        Next::Nothing => Ok(()),
        Next::Drop(before) => {
            store.drop_keks(before).await?;
            tracing::info!(before, "older key-encryption keys are deleted");
            Ok(())
        }
        Next::Reseal => reseal_all(store).await,
    }
}

async fn reseal_all(store: &Store) -> Result<(), OpError> {
    let mut rows = 0;
    loop {
        let began = Instant::now();
        // A use of the keys of its own.
        match store.begin().reseal_step().await {
            Ok(Stepped::Nothing | Stepped::Overtaken) => break,
            Ok(Stepped::Rows { resealed, .. }) => {
                rows += resealed;
                metrics::counter!("megalith_rows_resealed_total").increment(resealed as u64);
            }
            Err(error) => return Err(error),
        }
        // Half of the time is for those who want something now.
        sleep(began.elapsed().max(PAUSE_MIN)).await;
    }
    if rows > 0 {
        tracing::info!(rows, "rows are sealed under the newest key-encryption key");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation() -> Rotation {
        Rotation {
            to: 2,
            begun_ms: 1,
            grace_ms: 50,
            cursor: Vec::new(),
            passed_all: false,
            resealed: 0,
            left: 3,
            closed: 0,
            clear_since_ms: None,
            dropped_ms: None,
        }
    }

    #[test]
    fn keys_are_deleted_after_the_grace_and_once() {
        assert_eq!(next(None, 100), Next::Nothing);
        let mut rotation = rotation();
        assert_eq!(next(Some(&rotation), 100), Next::Reseal);
        (rotation.passed_all, rotation.closed) = (true, 1);
        assert_eq!(next(Some(&rotation), 100), Next::Nothing);
        (rotation.clear_since_ms, rotation.closed) = (Some(100), 0);
        assert_eq!(next(Some(&rotation), 149), Next::Nothing);
        assert_eq!(next(Some(&rotation), 150), Next::Drop(2));
        rotation.dropped_ms = Some(150);
        assert_eq!(next(Some(&rotation), 200), Next::Nothing);
    }
}
