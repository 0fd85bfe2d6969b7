//! The bytes that reads and writes together may hold.
//!
//! Code reserves bytes before it holds them. There are two budgets:
//!
//! - *incoming*, a quarter: what clients have sent and nobody has worked on yet. How long it is
//!   held is up to them.
//! - *working*, the rest: stripes that are sealed and on their way to disks, windows of reads,
//!   documents.
//!
//! Some wait for memory, up to a deadline, and none for ever. Whoever waits for *incoming* holds
//! none of it; whoever waits for *working* may hold *incoming*, and of *working* only what comes
//! free without his getting more: stripes on their way to disks, windows on their way to a client.
//! So nobody waits for himself, by whatever way: who holds *incoming* waits at most for *working*,
//! and who holds *working* gives it back without waiting for memory. A copied part, whose windows
//! come free only as its stripes are written, has the memory of both reserved before it begins
//! ([`Paying::AtOnce`]): it waits for the first, holding nothing, and not for the second.

use super::budget::{Budget, Busy, Reservation};
use super::shares::Payer;
use std::time::Duration;

/// Which part of all memory is for what has come and was not worked on: a quarter.
const INCOMING_PART: u64 = 4;
/// How much more memory an incoming body gets at a time, and at first.
pub const INCOMING_STEP: u64 = 64 * 1024;

/// The memory. Cloned handles share it.
#[derive(Clone)]
pub struct Memory {
    incoming: Budget,
    working: Budget,
    wait: Duration,
}

/// How a body pays for the memory that its write needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paying {
    /// For what has come and for the stripes that are under way. It may wait for its client.
    AsItComes(Payer),
    /// For all of it before it begins. It comes from the store itself.
    AtOnce(Payer),
}

impl Paying {
    /// Returns who pays.
    #[must_use]
    pub fn payer(self) -> Payer {
        match self {
            Self::AsItComes(payer) | Self::AtOnce(payer) => payer,
        }
    }
}

impl Memory {
    /// Starts with so many bytes; whoever waits for some waits for `wait` at most.
    #[must_use]
    pub fn new(bytes: u64, wait: Duration) -> Self {
        let incoming = bytes / INCOMING_PART;
        Self {
            incoming: Budget::new(incoming),
            working: Budget::new(bytes - incoming),
            wait,
        }
    }

    /// Reserves working memory at once.
    ///
    /// # Errors
    /// [`Busy`] if there is no room.
    pub fn try_reserve(&self, payer: Payer, bytes: u64) -> Result<Reservation, Busy> {
        self.working.try_reserve(payer, bytes)
    }

    /// Reserves working memory. Read above what the caller may hold meanwhile.
    ///
    /// # Errors
    /// [`Busy`] if there is no room for too long.
    pub async fn reserve(&self, payer: Payer, bytes: u64) -> Result<Reservation, Busy> {
        self.working.reserve(payer, bytes, self.wait).await
    }

    /// Reserves working memory if more than half of it stays free: for what is optional.
    #[must_use]
    pub fn try_spare(&self, payer: Payer, bytes: u64) -> Option<Reservation> {
        self.working.try_spare(payer, bytes)
    }

    /// Reserves memory for what came and was not worked on, at once.
    ///
    /// # Errors
    /// [`Busy`] if there is no room.
    pub fn try_incoming(&self, payer: Payer, bytes: u64) -> Result<Reservation, Busy> {
        self.incoming.try_reserve(payer, bytes)
    }

    /// Reserves memory for what came and was not worked on. The caller must hold none of any kind.
    ///
    /// # Errors
    /// [`Busy`] if there is no room for too long.
    pub async fn incoming(&self, payer: Payer, bytes: u64) -> Result<Reservation, Busy> {
        self.incoming.reserve(payer, bytes, self.wait).await
    }

    /// Returns true while more than half of each kind is free.
    #[must_use]
    pub fn is_ample(&self) -> bool {
        self.working.is_ample() && self.incoming.is_ample()
    }

    /// Returns the bytes reserved now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.working.used() + self.incoming.used()
    }
}

/// The memory of what has come of one stripe, or of one small body, while the rest of it is waited
/// for. A client that is slow holds what it has sent, rounded up to a step.
pub struct Gathering {
    memory: Memory,
    payer: Payer,
    /// Bytes that are reserved for.
    room: u64,
    incoming: Option<Reservation>,
    /// Bytes of working memory that all of it needs, if there is no incoming memory for the rest.
    whole: u64,
    working: Option<Reservation>,
}

impl Gathering {
    /// Begins with nothing.
    pub fn new(memory: &Memory, payer: Payer, whole: u64) -> Self {
        Self {
            memory: memory.clone(),
            payer,
            room: 0,
            incoming: None,
            whole,
            working: None,
        }
    }

    /// Makes room for `bytes` in all. Only the first step waits for incoming memory; later ones,
    /// for which some is held, take working memory for all that is to come.
    ///
    /// # Errors
    /// [`Busy`] if there is none for too long.
    pub async fn make_room(&mut self, bytes: u64) -> Result<(), Busy> {
        while self.room < bytes && self.working.is_none() {
            let Memory { incoming, wait, .. } = &self.memory;
            match &mut self.incoming {
                None => {
                    let first = incoming.reserve(self.payer, INCOMING_STEP, *wait);
                    self.incoming = Some(first.await?);
                }
                Some(held) => match incoming.try_reserve(self.payer, INCOMING_STEP) {
                    Ok(more) => held.add(more),
                    Err(Busy) => {
                        let all = self.memory.reserve(self.payer, self.whole).await?;
                        self.working = Some(all);
                    }
                },
            }
            self.room += INCOMING_STEP;
        }
        Ok(())
    }

    /// Turns to work on what has come, for which `bytes` of working memory are needed. Returns
    /// them, and what is to be held as long as that which has come.
    ///
    /// # Errors
    /// [`Busy`] if there is none for too long.
    pub async fn work(self, bytes: u64) -> Result<(Reservation, Option<Reservation>), Busy> {
        let working = match self.working {
            Some(all) => all,
            None => self.memory.reserve(self.payer, bytes).await?,
        };
        Ok((working, self.incoming))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    const A: Payer = Payer::Known(1);
    const KIB: u64 = 1024;

    fn memory() -> Memory {
        // Four steps of incoming memory, and twelve of working memory.
        Memory::new(16 * INCOMING_STEP, Duration::from_secs(60))
    }

    #[tokio::test]
    async fn what_came_is_paid_for_and_no_more() {
        let memory = memory();
        let mut gathering = Gathering::new(&memory, A, 640 * KIB);
        gathering.make_room(1).await.expect("room");
        assert_eq!(memory.used(), INCOMING_STEP);
        gathering.make_room(INCOMING_STEP + 1).await.expect("room");
        assert_eq!(memory.used(), 2 * INCOMING_STEP);
        let (working, incoming) = gathering.work(100).await.expect("room");
        assert_eq!(memory.used(), 2 * INCOMING_STEP + 100);
        drop(incoming);
        assert_eq!(memory.used(), 100);
        drop(working);
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test]
    async fn who_holds_some_does_not_wait_for_more_of_the_same() {
        let memory = memory();
        let mut all: Vec<Gathering> = (0..4)
            .map(|_| Gathering::new(&memory, A, 6 * INCOMING_STEP))
            .collect();
        for one in &mut all {
            one.make_room(1).await.expect("room");
        }
        // None of them can get a second step, and each could wait for another one's first.
        let mut done = 0;
        while let Some(mut one) = all.pop() {
            one.make_room(2 * INCOMING_STEP)
                .now_or_never()
                .expect("does not wait")
                .expect("room");
            drop(
                one.work(6 * INCOMING_STEP)
                    .now_or_never()
                    .expect("has it already"),
            );
            done += 1;
        }
        assert_eq!((done, memory.used()), (4, 0));
    }

    #[tokio::test]
    async fn working_memory_is_not_for_what_only_came() {
        let memory = memory();
        let held: Vec<_> = (0..4)
            .map(|_| memory.try_incoming(A, INCOMING_STEP).expect("room"))
            .collect();
        assert!(memory.try_incoming(A, 1).is_err());
        assert!(!memory.is_ample());
        assert!(memory.try_reserve(A, 12 * INCOMING_STEP).is_ok());
        drop(held);
        assert!(memory.is_ample());
    }
}
