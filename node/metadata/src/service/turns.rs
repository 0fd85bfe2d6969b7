//! Whose turn it is to read: of one storage node only so many questions are answered at a time, so
//! that it can't take all readers. Further ones wait, and their deadline goes on.

use megalith_model::ids::NodeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns of all storage nodes.
#[derive(Debug)]
pub(super) struct Turns {
    /// Of one node at a time.
    each_max: usize,
    of: Mutex<HashMap<NodeId, Weak<Semaphore>>>,
}

impl Turns {
    pub(super) fn new(each_max: usize) -> Self {
        Self {
            each_max,
            of: Mutex::default(),
        }
    }

    /// Waits for a turn of the node; it ends when what is returned is dropped.
    pub(super) async fn take(&self, node: NodeId) -> OwnedSemaphorePermit {
        let turns = self.of_node(node);
        let turn = turns.acquire_owned().await;
        turn.expect("the semaphore is never closed")
    }

    fn of_node(&self, node: NodeId) -> Arc<Semaphore> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = of.get(&node).and_then(Weak::upgrade) {
            return known;
        }
        of.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(self.each_max));
        of.insert(node, Arc::downgrade(&turns));
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn one_node_waits_for_its_own_questions_only() {
        let turns = Turns::new(2);
        let (greedy, other) = (NodeId(1), NodeId(2));
        let first = turns.take(greedy).await;
        let _second = turns.take(greedy).await;
        let third = turns.take(greedy);
        let mut third = std::pin::pin!(third);
        assert!(third.as_mut().now_or_never().is_none());
        assert!(turns.take(other).now_or_never().is_some());
        drop(first);
        drop(third.await);
        let known = turns.of.lock().expect("no panic").len();
        assert!(known <= 2, "{known}");
    }
}
