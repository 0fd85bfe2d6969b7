//! Where the members of the metadata group are, for all clients of one process.
//!
//! Starts with the members named in the settings; the group's own list replaces that as members
//! come and go. The settings' members remain as a fallback, asked if no other member answers.

use crate::group::Endpoint;
use megalith_model::level::Level;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// The members' addresses. Cheap to clone; clones share what one of them learns.
#[derive(Clone)]
pub struct Roster {
    inner: Arc<Inner>,
}

struct Inner {
    seeds: Vec<Endpoint>,
    told: Mutex<Vec<Endpoint>>,
    version: AtomicU64,
    /// The cluster's level, if it was heard.
    level: watch::Sender<Option<Level>>,
}

/// What is known now.
pub(crate) struct Known {
    pub(crate) version: u64,
    /// The members to ask, in no order.
    pub(crate) members: Vec<Endpoint>,
    /// The members to ask if all of those fail; this may include another address of the same node.
    pub(crate) others: Vec<Endpoint>,
}

impl Roster {
    /// Makes the roster of a process whose settings name `seeds`.
    #[must_use]
    pub fn new(seeds: &[Endpoint]) -> Self {
        let inner = Inner {
            seeds: seeds.to_vec(),
            told: Mutex::default(),
            version: AtomicU64::new(1),
            level: watch::channel(None).0,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Takes over the group's own list of members.
    pub(crate) fn tell(&self, members: Vec<Endpoint>) {
        let mut told = self
            .inner
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if members.is_empty() || *told == members {
            return;
        }
        tracing::debug!(?members, "the metadata members as the group names them");
        *told = members;
        self.inner.version.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn levels(&self) -> &watch::Sender<Option<Level>> {
        &self.inner.level
    }

    pub(crate) fn version(&self) -> u64 {
        self.inner.version.load(Ordering::SeqCst)
    }

    pub(crate) fn known(&self) -> Known {
        let told = self
            .inner
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let seeds = self.inner.seeds.clone();
        let (members, others) = if told.is_empty() {
            (seeds, Vec::new())
        } else {
            (told.clone(), seeds)
        };
        Known {
            version: self.version(),
            members,
            others,
        }
    }
}

impl From<&Roster> for Roster {
    fn from(roster: &Roster) -> Self {
        roster.clone()
    }
}

impl From<&[Endpoint]> for Roster {
    fn from(seeds: &[Endpoint]) -> Self {
        Self::new(seeds)
    }
}

impl From<&Vec<Endpoint>> for Roster {
    fn from(seeds: &Vec<Endpoint>) -> Self {
        Self::new(seeds)
    }
}

impl<const N: usize> From<&[Endpoint; N]> for Roster {
    fn from(seeds: &[Endpoint; N]) -> Self {
        Self::new(seeds)
    }
}
