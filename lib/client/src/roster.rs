//! Where the members of the metadata group are, for all clients of one process.
//!
//! Begins with what the settings say; the group's own word replaces that as members come and go.
//! The settings' members stay behind it, to be asked when nobody else answers.

use crate::group::Endpoint;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The members. Cheap to clone; clones share what one of them is told.
#[derive(Clone)]
pub struct Roster {
    inner: Arc<Inner>,
}

struct Inner {
    seeds: Vec<Endpoint>,
    told: Mutex<Vec<Endpoint>>,
    version: AtomicU64,
}

/// What is known now.
pub(crate) struct Known {
    pub(crate) version: u64,
    /// Whom to ask, in no order.
    pub(crate) members: Vec<Endpoint>,
    /// Whom to ask when all of those fail; another address of the same node may be among them.
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
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Takes the group's own word.
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
