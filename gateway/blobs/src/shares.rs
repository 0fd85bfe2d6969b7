//! How clients share something of which there is only so much: memory, or places for requests.
//!
//! Owns the decision, as a pure value that is told the time. While nobody else was there lately, a
//! payer may take everything. Otherwise he may hold up to three times what is then left: one payer
//! at most three quarters, two of them three sevenths each, and there is always something left for
//! who comes next. Must never admit more than there is.

use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// For how long it is remembered that a payer was there.
pub const LATELY: Duration = Duration::from_secs(10);
/// How many times what is left one payer may hold while others are there.
const TIMES_LEFT: u64 = 3;

/// On whose account something is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Payer {
    /// Nobody has said yet in a way that was verified.
    Unknown,
    /// The caller's number for him.
    Known(u64),
}

/// Whether a payer may take so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    /// There is too little left for anybody.
    NoRoom,
    /// What is left is for others.
    NoShare,
}

/// What there is, and who holds it.
#[derive(Debug)]
pub struct Shares {
    total: u64,
    used: u64,
    /// What each payer holds; none is there who holds nothing.
    held: HashMap<Payer, u64>,
    /// The last two payers who asked, the last one first.
    seen: [Option<(Payer, Instant)>; 2],
}

impl Shares {
    /// Starts with all of `total` left.
    pub fn new(total: u64) -> Self {
        Self {
            total,
            used: 0,
            held: HashMap::new(),
            seen: [None; 2],
        }
    }

    /// Returns how much there is.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns how much is held.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Returns how much a payer holds.
    pub fn held(&self, payer: Payer) -> u64 {
        self.held.get(&payer).copied().unwrap_or(0)
    }

    /// Notes that a payer is there. Each request begins as one of nobody known: that says nothing.
    pub fn see(&mut self, payer: Payer, now: Instant) {
        if payer == Payer::Unknown {
            return;
        }
        if self.seen[0].is_none_or(|(last, _)| last != payer) {
            self.seen[1] = self.seen[0];
        }
        self.seen[0] = Some((payer, now));
    }

    /// Says whether a payer may take `amount` now.
    pub fn judge(&self, payer: Payer, amount: u64, now: Instant) -> Verdict {
        let Some(left) = (self.total - self.used).checked_sub(amount) else {
            return Verdict::NoRoom;
        };
        let held = self.held(payer);
        // Who holds nothing is not who takes it all.
        if held == 0 || !self.others_are_there(payer, now) {
            return Verdict::Yes;
        }
        match held + amount <= TIMES_LEFT * left {
            true => Verdict::Yes,
            false => Verdict::NoShare,
        }
    }

    /// Takes what was judged.
    pub fn take(&mut self, payer: Payer, amount: u64) {
        assert!(self.used + amount <= self.total, "it was judged");
        self.used += amount;
        *self.held.entry(payer).or_default() += amount;
    }

    /// Gives back what was taken.
    pub fn give_back(&mut self, payer: Payer, amount: u64) {
        self.used -= amount;
        let held = self.held(payer) - amount;
        match held {
            0 => self.held.remove(&payer),
            left => self.held.insert(payer, left),
        };
    }

    fn others_are_there(&self, payer: Payer, now: Instant) -> bool {
        // Who holds something is there, however long ago he asked.
        let strangers = payer != Payer::Unknown && self.held.contains_key(&Payer::Unknown);
        let own = self.held.contains_key(&payer);
        if self.held.len() > usize::from(strangers) + usize::from(own) {
            return true;
        }
        let lately = |at: Instant| now.saturating_duration_since(at) < LATELY;
        let mut seen = self.seen.iter().flatten();
        seen.any(|(other, at)| *other != payer && lately(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Payer = Payer::Known(1);
    const B: Payer = Payer::Known(2);

    /// Takes as much as one is given, a unit at a time.
    fn greedy(shares: &mut Shares, payer: Payer, now: Instant) -> u64 {
        while shares.judge(payer, 1, now) == Verdict::Yes {
            shares.see(payer, now);
            shares.take(payer, 1);
        }
        shares.held(payer)
    }

    #[test]
    fn who_is_alone_may_take_everything() {
        let now = Instant::now();
        let mut shares = Shares::new(1000);
        shares.see(Payer::Unknown, now);
        assert_eq!(greedy(&mut shares, A, now), 1000);
        assert_eq!(shares.judge(A, 1, now), Verdict::NoRoom);
    }

    #[test]
    fn the_last_quarter_is_for_others_who_were_there_lately() {
        let now = Instant::now();
        let mut shares = Shares::new(1000);
        shares.see(B, now);
        assert_eq!(greedy(&mut shares, A, now), 750);
        assert_eq!(shares.judge(A, 1, now), Verdict::NoShare);
        assert_eq!(shares.judge(B, 250, now), Verdict::Yes);
        assert_eq!(greedy(&mut shares, B, now), 187);
        // Nobody is locked out by those who hold much.
        assert_eq!(shares.judge(Payer::Known(3), 60, now), Verdict::Yes);
        let later = now + LATELY;
        assert_eq!(shares.judge(A, 1, later), Verdict::NoShare, "he holds some");
        shares.give_back(B, 187);
        shares.see(A, later);
        assert_eq!(greedy(&mut shares, A, later), 1000, "the other one is gone");
    }

    #[test]
    fn each_further_payer_leaves_something_for_the_next() {
        let now = Instant::now();
        let mut shares = Shares::new(1 << 20);
        shares.see(Payer::Known(99), now);
        for number in 0..8 {
            let before = shares.total() - shares.used();
            let got = greedy(&mut shares, Payer::Known(number), now);
            assert!(
                got >= before * 3 / 4 - 1 && got < before,
                "{number}: {got} of {before}"
            );
        }
        assert!(shares.used() < shares.total());
    }

    #[test]
    fn what_was_given_back_is_there_again() {
        let now = Instant::now();
        let mut shares = Shares::new(10);
        for round in 0..100 {
            let payer = Payer::Known(round);
            shares.see(payer, now);
            assert_eq!(shares.judge(payer, 10, now), Verdict::Yes);
            shares.take(payer, 10);
            assert_eq!(shares.judge(payer, 1, now), Verdict::NoRoom);
            shares.give_back(payer, 10);
        }
        assert_eq!((shares.used(), shares.held.len()), (0, 0));
    }
}
