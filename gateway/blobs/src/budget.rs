//! A budget that clients share, and those who wait for a part of it.
//!
//! Owns the effects around [`Shares`]: who waits, and who is woken. Among those who wait, who holds
//! least comes first; one who may not have more for now holds up nobody else. Must never give out
//! more than there is, nor leave somebody waiting who could be served.

use super::lock::lock;
use super::shares::{Payer, Shares, Verdict};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// There is no room now: answer "slow down".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no memory left for another request")]
pub struct Busy;

/// The budget. Cloned handles share it.
#[derive(Clone, Debug)]
pub struct Budget {
    state: Arc<Mutex<State>>,
}

/// What was reserved; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    payer: Payer,
    amount: u64,
}

#[derive(Debug)]
struct State {
    shares: Shares,
    waiting: HashMap<Payer, VecDeque<Waiter>>,
    /// How many have waited so far.
    tickets: u64,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    amount: u64,
    tell: oneshot::Sender<Reservation>,
}

/// One who waits leaves the queue when it is dropped.
struct Place<'a> {
    budget: &'a Budget,
    payer: Payer,
    ticket: u64,
}

impl Budget {
    /// Starts a budget.
    #[must_use]
    pub fn new(total: u64) -> Self {
        let state = State {
            shares: Shares::new(total),
            waiting: HashMap::new(),
            tickets: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Reserves `amount` at once.
    ///
    /// # Errors
    /// [`Busy`] if there is no room, or what there is is for others.
    pub fn try_reserve(&self, payer: Payer, amount: u64) -> Result<Reservation, Busy> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.shares.see(payer, now);
        match state.may_pass(payer, amount, now) {
            true => Ok(state.take(self, payer, amount)),
            false => Err(Busy),
        }
    }

    /// Reserves `amount` (or all there is, if that is less); waits for it for a while.
    ///
    /// # Errors
    /// [`Busy`] after that.
    pub async fn reserve(
        &self,
        payer: Payer,
        amount: u64,
        wait: Duration,
    ) -> Result<Reservation, Busy> {
        let (answer, _place) = {
            let now = Instant::now();
            let mut state = lock(&self.state);
            let amount = amount.min(state.shares.total());
            state.shares.see(payer, now);
            if state.may_pass(payer, amount, now) {
                return Ok(state.take(self, payer, amount));
            }
            let (tell, answer) = oneshot::channel();
            let ticket = state.tickets;
            state.tickets += 1;
            let waiter = Waiter {
                ticket,
                amount,
                tell,
            };
            state.waiting.entry(payer).or_default().push_back(waiter);
            let place = Place {
                budget: self,
                payer,
                ticket,
            };
            (answer, place)
        };
        match timeout(wait, answer).await {
            Ok(Ok(reservation)) => Ok(reservation),
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }

    /// Reserves `amount` if more than half of the budget stays free: for what is optional.
    #[must_use]
    pub fn try_spare(&self, payer: Payer, amount: u64) -> Option<Reservation> {
        {
            let state = lock(&self.state);
            let free = state.shares.total() - state.shares.used();
            if free < state.shares.total() / 2 + amount {
                return None;
            }
        }
        self.try_reserve(payer, amount).ok()
    }

    /// Returns true while more than half of the budget is free.
    #[must_use]
    pub fn is_ample(&self) -> bool {
        let state = lock(&self.state);
        state.shares.used() < state.shares.total().div_ceil(2)
    }

    /// Returns what is reserved now.
    #[must_use]
    pub fn used(&self) -> u64 {
        lock(&self.state).shares.used()
    }

    fn give_back(&self, payer: Payer, amount: u64) {
        if amount == 0 {
            return;
        }
        let served = {
            let mut state = lock(&self.state);
            state.shares.give_back(payer, amount);
            state.serve(self)
        };
        tell(served);
    }
}

/// Tells those who waited. Not under the lock: what nobody takes any more is given back.
fn tell(served: Vec<(oneshot::Sender<Reservation>, Reservation)>) {
    for (tell, reservation) in served {
        drop(tell.send(reservation));
    }
}

impl State {
    /// Says whether somebody who comes now may have so much, before those who wait.
    fn may_pass(&self, payer: Payer, amount: u64, now: Instant) -> bool {
        if self.waiting.contains_key(&payer) {
            return false;
        }
        let held = self.shares.held(payer);
        let comes_first = |(other, queue): (&Payer, &VecDeque<Waiter>)| {
            let could =
                |head: &Waiter| self.shares.judge(*other, head.amount, now) != Verdict::NoShare;
            self.shares.held(*other) <= held && queue.front().is_some_and(could)
        };
        self.shares.judge(payer, amount, now) == Verdict::Yes
            && !self.waiting.iter().any(comes_first)
    }

    fn take(&mut self, budget: &Budget, payer: Payer, amount: u64) -> Reservation {
        self.shares.take(payer, amount);
        Reservation {
            budget: budget.clone(),
            payer,
            amount,
        }
    }

    /// Serves those who wait, as far as there is room.
    fn serve(&mut self, budget: &Budget) -> Vec<(oneshot::Sender<Reservation>, Reservation)> {
        let now = Instant::now();
        let mut served = Vec::new();
        loop {
            let heads = self.waiting.iter().filter_map(|(payer, queue)| {
                let head = queue.front()?;
                let verdict = self.shares.judge(*payer, head.amount, now);
                let order = (self.shares.held(*payer), head.ticket);
                (verdict != Verdict::NoShare).then_some((order, *payer, verdict))
            });
            let Some((_, payer, Verdict::Yes)) = heads.min_by_key(|(order, _, _)| *order) else {
                return served;
            };
            let Some(waiter) = self.pop(payer, |queue| queue.pop_front()) else {
                return served;
            };
            let reservation = self.take(budget, payer, waiter.amount);
            served.push((waiter.tell, reservation));
        }
    }

    fn pop(
        &mut self,
        payer: Payer,
        choose: impl Fn(&mut VecDeque<Waiter>) -> Option<Waiter>,
    ) -> Option<Waiter> {
        let queue = self.waiting.get_mut(&payer)?;
        let chosen = choose(queue);
        if queue.is_empty() {
            self.waiting.remove(&payer);
        }
        chosen
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let served = {
            let mut state = lock(&self.budget.state);
            let leave = |queue: &mut VecDeque<Waiter>| {
                let at = queue.iter().position(|one| one.ticket == self.ticket)?;
                queue.remove(at)
            };
            match state.pop(self.payer, leave) {
                // Others may have waited behind it.
                Some(_) => state.serve(self.budget),
                None => Vec::new(),
            }
        };
        tell(served);
    }
}

impl Reservation {
    /// Returns whose share it is of.
    #[must_use]
    pub fn payer(&self) -> Payer {
        self.payer
    }

    /// Gives back all but `amount`.
    pub fn shrink_to(&mut self, amount: u64) {
        let surplus = self.amount.saturating_sub(amount);
        self.amount -= surplus;
        self.budget.give_back(self.payer, surplus);
    }

    /// Takes over what another one of the same payer has reserved of the same budget.
    pub fn add(&mut self, mut other: Self) {
        assert!(
            Arc::ptr_eq(&self.budget.state, &other.budget.state) && self.payer == other.payer,
            "both are of one payer's share of one budget"
        );
        self.amount += std::mem::take(&mut other.amount);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.payer, self.amount);
    }
}

#[cfg(test)]
mod tests;
