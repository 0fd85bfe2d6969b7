//! The keys at a gateway's start: waits for the metadata group and for the key service, which may
//! be starting too, and says what it waits for.

use super::GatewayError;
use crate::lock::lock;
use megalith_client::{Metadata, chain};
use megalith_keyring::root::Roots;
use megalith_keyring::{Keys, KeysError};
use megalith_model::ids::ClusterId;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The wait between attempts to load the keys at the start.
const KEYS_RETRY: Duration = Duration::from_millis(200);

/// What opens the keys at the start.
pub(super) struct Opening {
    pub(super) cluster: ClusterId,
    pub(super) roots: Roots,
    pub(super) timeout: Duration,
    pub(super) start: Start,
}

/// What the start waits for, and then the keys: for who asks whether the gateway is ready.
#[derive(Clone, Default)]
pub(super) struct Start {
    waits_for: Arc<Mutex<Option<String>>>,
    keys: Arc<OnceLock<Arc<Keys>>>,
}

impl Start {
    /// Says what is wrong with the keys, if something is.
    pub(super) fn trouble(&self) -> Option<String> {
        match self.keys.get() {
            Some(keys) => keys.outage(),
            None => lock(&self.waits_for).clone(),
        }
    }
}

/// Loads the keys; waits for the metadata group and for the key service, which may be starting too.
pub(super) async fn load_keys(
    meta: &Arc<dyn Metadata>,
    opening: Opening,
) -> Result<Arc<Keys>, GatewayError> {
    let Opening {
        cluster,
        roots,
        timeout,
        start,
    } = opening;
    let deadline = Instant::now() + timeout;
    loop {
        let error = match Keys::open(Arc::clone(meta), cluster, roots.clone()).await {
            Ok(keys) => return Ok(Arc::clone(start.keys.get_or_init(|| keys))),
            Err(error) => error,
        };
        let may_pass = match &error {
            KeysError::Metadata(_) => true,
            KeysError::Root(error) => error.may_pass(),
            KeysError::Damaged(_) | KeysError::Lost | KeysError::Missing { .. } => false,
        };
        if !may_pass || Instant::now() + KEYS_RETRY >= deadline {
            return Err(error.into());
        }
        let why = chain(&error);
        // Said once for each reason.
        if lock(&start.waits_for).replace(why.clone()).as_ref() != Some(&why) {
            tracing::warn!(error = why, "waiting for the keys");
        }
        sleep(KEYS_RETRY).await;
    }
}
