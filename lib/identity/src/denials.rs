//! What a process knows of the deny list, and what comes of it for connections.
//!
//! Every handshake asks here, in both directions, and every open connection asks again when the
//! list has changed, before it passes on a byte. A process also learns here that it is denied
//! itself: it is cut off from those who would tell it, so it hears it from those who refuse it.

use crate::error::PeerRefusal;
use crate::peer::PeerIdentity;
use megalith_model::denied::{DeniedCertificate, DenyList};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Whoever is refused tries again and again; it is logged once in this time.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// The deny list as one process knows it, and how one of its certificates stands. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Denials {
    shared: Arc<Shared>,
    own: Arc<Own>,
}

/// What all certificates of a process share.
#[derive(Debug, Default)]
struct Shared {
    list: watch::Sender<Arc<DenyList>>,
    /// When an entry last refused somebody; of entries that are in the list.
    logged: Mutex<BTreeMap<DeniedCertificate, Instant>>,
}

/// How one certificate of ours stands with others.
#[derive(Debug, Default)]
struct Own {
    /// Whether the last metadata member that it was shown to has denied it.
    denied: AtomicBool,
    logged: Mutex<Option<Instant>>,
}

impl Denials {
    /// Returns the same list for another certificate of this process, of which nothing is known
    /// yet.
    pub(crate) fn beside(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            own: Arc::default(),
        }
    }

    /// Takes a list over if it is newer than the one that is known; false if it is not.
    pub fn hear(&self, list: DenyList) -> bool {
        let newer = self.shared.list.send_if_modified(|known| {
            let newer = list.revision > known.revision;
            if newer {
                *known = Arc::new(list.clone());
            }
            newer
        });
        if newer {
            let (revision, entries) = (list.revision, list.denied.len());
            tracing::info!(
                revision,
                entries,
                "a new deny list of certificates is in force"
            );
            let mut logged = self
                .shared
                .logged
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            logged.retain(|entry, _| list.denied.contains(entry));
        }
        newer
    }

    /// Returns the newest list that was heard.
    #[must_use]
    pub fn current(&self) -> Arc<DenyList> {
        self.shared.list.borrow().clone()
    }

    /// Returns a receiver that sees newer lists; it may skip some.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<DenyList>> {
        self.shared.list.subscribe()
    }

    /// Refuses a peer whose certificate is denied, and says so in the log.
    pub(crate) fn check(&self, peer: &PeerIdentity) -> Result<(), PeerRefusal> {
        let list = self.current();
        let Some(entry) = list.find(peer.grants(), peer.serial()) else {
            return Ok(());
        };
        let mut logged = self
            .shared
            .logged
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if is_due(logged.get(entry)) {
            logged.insert(*entry, Instant::now());
            let serial = peer.serial();
            tracing::warn!(%peer, %serial, %entry, "refused a denied certificate");
        }
        Err(PeerRefusal::Denied)
    }

    /// Waits until the peer is denied.
    pub async fn denied(&self, peer: &PeerIdentity) {
        let mut lists = self.subscribe();
        let denied = |list: &Arc<DenyList>| list.find(peer.grants(), peer.serial()).is_some();
        // Fails only without a sender, and we hold one.
        let _ = lists.wait_for(denied).await;
    }

    /// Returns true if the metadata member that answered last has denied our own certificate.
    #[must_use]
    pub fn is_own_denied(&self) -> bool {
        self.own.denied.load(Ordering::Relaxed)
    }

    /// Notes that a metadata member denies us.
    pub(crate) fn own_is_denied(&self, own: &PeerIdentity) {
        self.own.denied.store(true, Ordering::Relaxed);
        let logged = &self.own.logged;
        let mut logged = logged.lock().unwrap_or_else(PoisonError::into_inner);
        if is_due(logged.as_ref()) {
            *logged = Some(Instant::now());
            let serial = own.serial();
            tracing::error!(
                certificate = %own,
                %serial,
                "the cluster has denied this process's certificate: nobody speaks to it until an \
                 operator allows it (megalith cert allow) or gives it a new one"
            );
        }
    }

    /// Notes that a metadata member speaks to us.
    pub(crate) fn own_is_heard(&self, own: &PeerIdentity) {
        let denied = &self.own.denied;
        if denied.load(Ordering::Relaxed) && denied.swap(false, Ordering::Relaxed) {
            let serial = own.serial();
            tracing::info!(
                certificate = %own,
                %serial,
                "this process's certificate is not denied any more"
            );
        }
    }
}

fn is_due(last: Option<&Instant>) -> bool {
    last.is_none_or(|last| last.elapsed() >= LOGGED_EVERY)
}

/// Of one open connection: whether its peer has been denied since.
#[derive(Debug)]
pub(crate) struct Standing {
    denials: Denials,
    lists: watch::Receiver<Arc<DenyList>>,
    refused: bool,
}

impl Standing {
    pub(crate) fn new(denials: &Denials) -> Self {
        let mut lists = denials.subscribe();
        // The list may have changed since the handshake.
        lists.mark_changed();
        Self {
            denials: denials.clone(),
            lists,
            refused: false,
        }
    }

    /// Fails from the moment on at which the peer is denied.
    pub(crate) fn check(&mut self, peer: &PeerIdentity) -> Result<(), PeerRefusal> {
        if self.lists.has_changed().unwrap_or(false) {
            self.lists.mark_unchanged();
            self.refused = self.denials.check(peer).is_err();
        }
        match self.refused {
            true => Err(PeerRefusal::Denied),
            false => Ok(()),
        }
    }

    pub(crate) fn denials(&self) -> &Denials {
        &self.denials
    }
}
