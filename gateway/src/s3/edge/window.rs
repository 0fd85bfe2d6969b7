//! What a client may send on an HTTP/2 connection before anybody reads it.
//!
//! HTTP/1.1 has one body at a time and a small buffer. HTTP/2 holds as much as its window for each
//! connection, however many requests there are: so much is reserved while one of them has a body,
//! by each payer who has one.

use crate::lock::lock;
use megalith_blobs::{Payer, Reservation};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

/// The window of one connection. Clones are the same window.
#[derive(Clone)]
pub struct Window(Arc<Shared>);

struct Shared {
    bytes: u64,
    held: Mutex<HashMap<Payer, Weak<Reservation>>>,
}

impl Window {
    /// Makes the window of a connection, of so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Shared {
            bytes,
            held: Mutex::default(),
        }))
    }

    /// Returns how many bytes it is.
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Holds the window's memory for a request's body; the first of a payer's several reserves it.
    ///
    /// # Errors
    /// What `reserve` says.
    pub(super) fn hold<E>(
        &self,
        payer: Payer,
        reserve: impl FnOnce(u64) -> Result<Reservation, E>,
    ) -> Result<Arc<Reservation>, E> {
        let mut held = lock(&self.0.held);
        held.retain(|_, reserved| reserved.strong_count() > 0);
        if let Some(reserved) = held.get(&payer).and_then(Weak::upgrade) {
            return Ok(reserved);
        }
        let reserved = Arc::new(reserve(self.0.bytes)?);
        held.insert(payer, Arc::downgrade(&reserved));
        Ok(reserved)
    }
}
