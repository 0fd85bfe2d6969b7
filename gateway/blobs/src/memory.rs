//! The bytes that reads and writes together may hold.
//!
//! Code reserves bytes before it holds them. New work is refused if there is no room ([`Busy`]);
//! work that has begun waits its turn. Must never hand out more than the limit.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits are KiB, so that a 32-bit count reaches 4 TiB.
const GRAIN: u64 = 1024;

/// There is no room now: answer "slow down".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no memory left for another request")]
pub struct Busy;

/// The budget. Cloned handles share it.
#[derive(Clone)]
pub struct Memory {
    permits: Arc<Semaphore>,
    total: u32,
}

/// Reserved bytes; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    permit: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        if let Some(permit) = &mut self.permit {
            let surplus = permit.num_permits().saturating_sub(grains(bytes) as usize);
            drop(permit.split(surplus));
        }
    }
}

impl Reservation {
    /// Takes over what another one of the same budget has reserved.
    pub fn add(&mut self, mut other: Self) {
        match (&mut self.permit, other.permit.take()) {
            (Some(permit), Some(more)) => permit.merge(more),
            (None, more) => self.permit = more,
            (Some(_), None) => {}
        }
    }
}

impl Memory {
    /// Starts a budget of `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let total = grains(bytes).min(Semaphore::MAX_PERMITS.try_into().unwrap_or(u32::MAX));
        Self {
            permits: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Reserves `bytes` at once.
    ///
    /// # Errors
    /// [`Busy`] if there is no room.
    pub fn try_reserve(&self, bytes: u64) -> Result<Reservation, Busy> {
        let permits = Arc::clone(&self.permits);
        let permit = permits
            .try_acquire_many_owned(grains(bytes))
            .map_err(|_| Busy)?;
        Ok(Reservation {
            permit: Some(permit),
        })
    }

    /// Reserves `bytes` if more than half of the budget stays free: for work that is optional.
    #[must_use]
    pub fn try_spare(&self, bytes: u64) -> Option<Reservation> {
        let free = self.permits.available_permits() as u64;
        if free < u64::from(self.total / 2) + u64::from(grains(bytes)) {
            return None;
        }
        self.try_reserve(bytes).ok()
    }

    /// Reserves `bytes` (or the whole budget, if that is less); requests are served in order.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let permits = Arc::clone(&self.permits);
        let permit = permits
            .acquire_many_owned(grains(bytes).min(self.total))
            .await;
        Reservation {
            // The semaphore is never closed.
            permit: permit.ok(),
        }
    }

    /// Returns true while more than half of the budget is free.
    #[must_use]
    pub fn is_ample(&self) -> bool {
        self.permits.available_permits() as u64 > u64::from(self.total / 2)
    }

    /// Returns the bytes reserved now.
    #[must_use]
    pub fn used(&self) -> u64 {
        (u64::from(self.total) - self.permits.available_permits() as u64) * GRAIN
    }
}

fn grains(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_out_no_more_than_the_limit() {
        let memory = Memory::new(10 * 1024);
        let first = memory.try_reserve(6 * 1024).expect("room");
        assert!(memory.try_reserve(5 * 1024).is_err());
        assert_eq!(memory.used(), 6 * 1024);
        assert!(memory.try_spare(1).is_none());
        drop(first);
        assert_eq!(memory.used(), 0);
        let mut first = memory.try_reserve(6 * 1024).expect("room");
        first.add(memory.try_reserve(1).expect("room"));
        assert_eq!(memory.used(), 7 * 1024);
        drop(first);
        assert_eq!(memory.used(), 0);
        assert!(memory.try_spare(1024).is_some());
    }

    #[tokio::test]
    async fn a_wish_beyond_the_limit_waits_for_all_of_it() {
        let memory = Memory::new(4096);
        let held = memory.reserve(1 << 40).await;
        assert_eq!(memory.used(), 4096);
        assert!(memory.try_reserve(1).is_err());
        drop(held);
        assert!(memory.try_reserve(4096).is_ok());
    }
}
