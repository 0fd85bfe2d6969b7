//! What a client may send on an HTTP/2 connection before anybody reads it.
//!
//! HTTP/1.1 has one body at a time and a small buffer. HTTP/2 holds as much as its window for each
//! connection, however many requests there are: so much is reserved while one of them has a body.

use crate::lock::lock;
use megalith_blobs::Reservation;
use std::sync::{Arc, Mutex, Weak};

/// The window of one connection. Clones are the same window.
#[derive(Clone)]
pub struct Window(Arc<Shared>);

struct Shared {
    bytes: u64,
    held: Mutex<Weak<Reservation>>,
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

    /// Holds the window's memory for a request's body; the first of several reserves it.
    ///
    /// # Errors
    /// What `reserve` says.
    pub(super) fn hold<E>(
        &self,
        reserve: impl FnOnce(u64) -> Result<Reservation, E>,
    ) -> Result<Arc<Reservation>, E> {
        let mut held = lock(&self.0.held);
        if let Some(reserved) = held.upgrade() {
            return Ok(reserved);
        }
        let reserved = Arc::new(reserve(self.0.bytes)?);
        *held = Arc::downgrade(&reserved);
        Ok(reserved)
    }
}
