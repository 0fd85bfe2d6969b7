//! Opened keys in memory: for how long, and what is done while they can't be opened.
//!
//! While a root is out of reach, every use of the keys fails at once with the reason, and one task
//! alone tries again each second: requests neither wait for a dead service nor wake a tired one.

use crate::KeysError;
use crate::root::{Hold, RootError, Roots};
use megalith_client::{ClientError, Metadata, TypedCalls as _, chain};
use megalith_crypto::{KeyRing, ListingSealer, OpenedKek};
use megalith_model::ids::{BucketId, ClusterId};
use megalith_model::question;
use megalith_model::rows::KekRow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::time::{Duration, Instant, sleep, sleep_until};

/// How many sealers are kept; beyond that all are dropped and derived again.
const SEALERS_MAX: usize = 4096;
/// The wait between attempts to open the keys, after one failed.
const RETRY: Duration = Duration::from_secs(1);
/// How old the sealed rows may be that are opened for one use. They are asked for again if one of
/// them doesn't open.
const ROWS_KEPT_FOR: Duration = Duration::from_secs(10);

/// The ring and what is derived from it. Wiped on drop.
pub(crate) struct Opened {
    /// At which turn of the table.
    turn: u64,
    ring: KeyRing,
    sealers: Mutex<HashMap<BucketId, Arc<ListingSealer>>>,
}

impl Opened {
    fn new(keks: &[OpenedKek], turn: u64) -> Result<Arc<Self>, KeysError> {
        let ring = KeyRing::of(keks).map_err(RootError::Crypto)?;
        let sealers = Mutex::default();
        Ok(Arc::new(Self {
            turn,
            ring,
            sealers,
        }))
    }

    pub(crate) fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Returns the sealer of a bucket's list rows.
    pub(crate) fn listing(&self, bucket: BucketId) -> Arc<ListingSealer> {
        let mut sealers = guard(&self.sealers);
        if let Some(sealer) = sealers.get(&bucket) {
            return Arc::clone(sealer);
        }
        let sealer = Arc::new(self.ring.listing(bucket.0));
        if sealers.len() >= SEALERS_MAX {
            sealers.clear();
        }
        sealers.insert(bucket, Arc::clone(&sealer));
        sealer
    }
}

/// What is held.
pub(crate) struct Held {
    cluster: ClusterId,
    roots: Roots,
    meta: Arc<dyn Metadata>,
    state: Mutex<State>,
    /// Held while keys are opened for all, so that they are opened once.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// How often the table was found to be another than before. What was opened at an earlier turn
    /// is used no more.
    turn: u64,
    opened: Option<Lasting>,
    /// The sealed rows as they were last seen.
    rows: Option<(Vec<KekRow>, Instant)>,
    /// Why the last attempt to open them failed, if a later one may succeed.
    away: Option<RootError>,
    /// A task tries again.
    retrying: bool,
}

impl State {
    /// Takes note of the table.
    fn see(&mut self, rows: Vec<KekRow>) {
        let known = self.rows.as_ref().map(|(known, _)| known);
        if known.is_some_and(|known| *known != rows) {
            self.turn += 1;
            self.opened = None;
        }
        self.rows = Some((rows, Instant::now()));
    }
}

/// Opened keys, and when they are to be wiped.
struct Lasting {
    opened: Arc<Opened>,
    until: Option<Instant>,
}

impl Held {
    pub(crate) fn new(cluster: ClusterId, roots: Roots, meta: Arc<dyn Metadata>) -> Self {
        Self {
            cluster,
            roots,
            meta,
            state: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn hold(&self) -> Hold {
        self.roots.hold()
    }

    /// Says why keys can't be opened, if none are held.
    pub(crate) fn outage(&self) -> Option<RootError> {
        self.at_hand().err()
    }

    /// Returns what is held, opened first if it is not or no longer.
    pub(crate) async fn opened(self: &Arc<Self>) -> Result<Arc<Opened>, KeysError> {
        if let Some(opened) = self.at_hand()? {
            return Ok(opened);
        }
        let _opening = self.opening.lock().await;
        // Another may have opened them, or failed, meanwhile.
        if let Some(opened) = self.at_hand()? {
            return Ok(opened);
        }
        self.open_anew().await
    }

    /// Opens the keys for one use, and holds nothing.
    pub(crate) async fn open_once(self: &Arc<Self>) -> Result<Arc<Opened>, KeysError> {
        if let Some(away) = self.outage() {
            return Err(away.into());
        }
        let kept = {
            let state = guard(&self.state);
            let kept = state.rows.as_ref();
            let young = kept.filter(|(_, seen)| seen.elapsed() < ROWS_KEPT_FOR);
            young.map(|(rows, _)| (rows.clone(), state.turn))
        };
        if let Some((rows, turn)) = kept {
            match self.roots.open(self.cluster, &rows).await {
                Ok(keks) => return Opened::new(&keks, turn),
                // They may have moved to another root or version since.
                Err(
                    RootError::Foreign { .. }
                    | RootError::TooOld { .. }
                    | RootError::NoSuchKey { .. }
                    | RootError::NotNamed { .. },
                ) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.open_anew().await
    }

    /// Reads the table again and opens it, and holds it if it may be held.
    pub(crate) async fn open_anew(self: &Arc<Self>) -> Result<Arc<Opened>, KeysError> {
        match self.read_and_keep().await {
            Err(KeysError::Root(error)) => Err(self.failed(error)),
            other => other,
        }
    }

    /// Whether nothing is known of a later turn of the table.
    pub(crate) fn is_current(&self, opened: &Opened) -> bool {
        guard(&self.state).turn == opened.turn
    }

    /// Reads the table, and drops what is held if it is not what the table has. Opens nothing.
    pub(crate) async fn confirm(&self) -> Result<(), ClientError> {
        let rows = self.meta.ask(question::Keks).await?;
        let mut state = guard(&self.state);
        state.see(rows);
        Ok(())
    }

    /// Whether the table was read in the last `time`.
    pub(crate) fn was_read_within(&self, time: Duration) -> bool {
        let state = guard(&self.state);
        let seen = state.rows.as_ref().map(|(_, seen)| seen.elapsed());
        seen.is_some_and(|age| age < time)
    }

    async fn read_and_keep(self: &Arc<Self>) -> Result<Arc<Opened>, KeysError> {
        loop {
            let turn = guard(&self.state).turn;
            let rows = self.meta.ask(question::Keks).await?;
            if rows.is_empty() {
                return Err(KeysError::Lost);
            }
            let keks = self.roots.open(self.cluster, &rows).await?;
            if let Some(opened) = self.keep(&keks, rows, turn)? {
                return Ok(opened);
            }
        }
    }

    /// Holds opened keys as long as they may be. Returns nothing if the table was found to be
    /// another after `turn`, at which it was read at the latest: then these may be gone.
    pub(crate) fn keep(
        self: &Arc<Self>,
        keks: &[OpenedKek],
        rows: Vec<KekRow>,
        turn: u64,
    ) -> Result<Option<Arc<Opened>>, KeysError> {
        let now = Instant::now();
        let until = match self.hold() {
            Hold::Always => None,
            Hold::For(time) => Some(now + time),
            Hold::Never => Some(now),
        };
        let mut state = guard(&self.state);
        if state.turn != turn {
            return Ok(None);
        }
        state.see(rows);
        let opened = Opened::new(keks, state.turn)?;
        state.away = None;
        state.opened = None;
        if self.hold() != Hold::Never {
            let opened = Arc::clone(&opened);
            state.opened = Some(Lasting { opened, until });
        }
        drop(state);
        if let (Hold::For(_), Some(until)) = (self.hold(), until) {
            let held = Arc::downgrade(self);
            tokio::spawn(async move {
                sleep_until(until).await;
                if let Some(held) = held.upgrade() {
                    held.wipe();
                }
            });
        }
        Ok(Some(opened))
    }

    /// Drops what has been held for long enough.
    fn wipe(&self) {
        let mut state = guard(&self.state);
        let over = |lasting: &Lasting| lasting.until.is_some_and(|until| until <= Instant::now());
        if state.opened.as_ref().is_some_and(over) {
            state.opened = None;
        }
    }

    /// Returns what is held; fails while keys can't be opened.
    fn at_hand(&self) -> Result<Option<Arc<Opened>>, RootError> {
        self.wipe();
        let state = guard(&self.state);
        match (&state.opened, &state.away) {
            (Some(lasting), _) => Ok(Some(Arc::clone(&lasting.opened))),
            (None, Some(away)) => Err(away.clone()),
            (None, None) => Ok(None),
        }
    }

    /// Notes a failure; if a later attempt may succeed, sees to it that there is one.
    fn failed(self: &Arc<Self>, error: RootError) -> KeysError {
        if error.may_pass() {
            self.note(&error);
            if !std::mem::replace(&mut guard(&self.state).retrying, true) {
                tokio::spawn(retry(Arc::downgrade(self)));
            }
        }
        error.into()
    }

    /// Notes why keys can't be opened; says it once.
    fn note(&self, error: &RootError) {
        let before = guard(&self.state).away.replace(error.clone());
        if before.as_ref() != Some(error) {
            tracing::error!(%error, "key-encryption keys can't be opened");
        }
    }

    /// Tries to open the keys once more. Returns true if there is nothing more to try.
    async fn tried_again(self: &Arc<Self>) -> bool {
        let _opening = self.opening.lock().await;
        let error = match self.read_and_keep().await {
            Ok(_) => {
                tracing::info!("key-encryption keys can be opened again");
                return true;
            }
            Err(error) => error,
        };
        match error {
            KeysError::Metadata(_) => false,
            KeysError::Root(error) if error.may_pass() => {
                self.note(&error);
                false
            }
            error => {
                let error = chain(&error);
                tracing::error!(error, "key-encryption keys can't be opened");
                // Whoever needs them finds out by himself.
                guard(&self.state).away = None;
                true
            }
        }
    }
}

/// Tries to open the keys until they are, or can't be.
async fn retry(held: Weak<Held>) {
    loop {
        sleep(RETRY).await;
        let Some(held) = held.upgrade() else {
            return;
        };
        if held.tried_again().await {
            guard(&held.state).retrying = false;
            return;
        }
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
