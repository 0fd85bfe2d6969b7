//! How much of something each peer holds, so that one peer can't take all of it.
//!
//! A peer is an identity in a certificate: connections and addresses don't matter. What is refused
//! here is refused at once and costs no memory.

use megalith_identity::PeerIdentity;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts what peers hold. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    /// Only peers that hold something are in it.
    held: Arc<Mutex<HashMap<String, u64>>>,
}

/// What a peer holds by one request; given back when dropped.
#[derive(Debug)]
pub struct Share {
    shares: Shares,
    peer: String,
    amount: u64,
    max: u64,
}

impl Shares {
    /// Gives `amount` to a peer that may hold `max` in all; None if that would be more.
    #[must_use]
    pub fn take(&self, peer: &PeerIdentity, amount: u64, max: u64) -> Option<Share> {
        let mut share = Share {
            shares: self.clone(),
            peer: peer.to_string(),
            amount: 0,
            max,
        };
        share.add(amount).then_some(share)
    }

    fn guard(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Adds to it; false, and nothing is added, if the peer would hold too much.
    #[must_use]
    pub fn add(&mut self, amount: u64) -> bool {
        let mut held = self.shares.guard();
        let all = held.get(&self.peer).copied().unwrap_or(0);
        let Some(all) = all.checked_add(amount).filter(|all| *all <= self.max) else {
            return false;
        };
        if all > 0 {
            held.insert(self.peer.clone(), all);
        }
        self.amount += amount;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.guard();
        if let Some(all) = held.get_mut(&self.peer) {
            *all = all.saturating_sub(self.amount);
            if *all == 0 {
                held.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_identity::Role;
    use megalith_model::ids::ClusterId;

    fn peer(id: u32) -> PeerIdentity {
        PeerIdentity::new(ClusterId([1; 16]), &[(Role::Storage, id)]).expect("an identity")
    }

    #[test]
    fn a_peer_holds_no_more_than_its_share_and_gives_it_back() {
        let shares = Shares::default();
        let mut first = shares.take(&peer(1), 2, 3).expect("room");
        assert!(!first.add(2) && first.add(1));
        assert!(shares.take(&peer(1), 1, 3).is_none());
        assert!(!first.add(u64::MAX));
        // Another peer has its own.
        let other = shares.take(&peer(2), 3, 3).expect("room");
        drop(first);
        let again = shares.take(&peer(1), 3, 3).expect("given back");
        drop((again, other));
        assert!(shares.guard().is_empty(), "peers that hold nothing stay");
        assert!(shares.take(&peer(1), 4, 3).is_none());
        assert!(shares.guard().is_empty());
    }
}
