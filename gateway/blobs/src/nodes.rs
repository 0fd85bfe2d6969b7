//! What this gateway has seen of each node: recent failures, and how long answers take.
//!
//! The map says who is alive, two seconds late; this says who failed just now. Nothing here decides
//! that a node is dead, only that another is tried first.

use super::lock::lock;
use megalith_model::ids::NodeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// With fewer answers than this, nothing can be said of the slowest.
const ANSWERS_MIN: f32 = 8.0;
/// When this many answers are remembered, all counts are halved.
const ANSWERS_MAX: f32 = 256.0;
/// Class `i` holds answers up to [`CLASS_FIRST`] × 1.5^i.
const CLASSES: usize = 32;
const CLASS_FIRST: Duration = Duration::from_micros(100);

/// The nodes' records. Cloned handles share them.
#[derive(Clone)]
pub struct Nodes {
    records: Arc<Mutex<HashMap<NodeId, Record>>>,
    penalty: Duration,
}

#[derive(Default)]
struct Record {
    failed_at: Option<Instant>,
    answers: [f32; CLASSES],
}

impl Nodes {
    /// Starts without any record; a failure counts for `penalty`.
    #[must_use]
    pub fn new(penalty: Duration) -> Self {
        Self {
            records: Arc::default(),
            penalty,
        }
    }

    /// Records that the node failed.
    pub fn failed(&self, node: NodeId) {
        self.records().entry(node).or_default().failed_at = Some(Instant::now());
    }

    /// Records an answer and the time it took.
    pub fn answered(&self, node: NodeId, took: Duration) {
        let mut records = self.records();
        let record = records.entry(node).or_default();
        record.failed_at = None;
        record.answers[class(took)] += 1.0;
        if record.answers.iter().sum::<f32>() >= ANSWERS_MAX {
            record.answers.iter_mut().for_each(|count| *count /= 2.0);
        }
    }

    /// Returns true for a node that failed a moment ago and hasn't answered since.
    #[must_use]
    pub fn is_penalised(&self, node: NodeId) -> bool {
        let records = self.records();
        let failed_at = records.get(&node).and_then(|record| record.failed_at);
        failed_at.is_some_and(|at| at.elapsed() < self.penalty)
    }

    /// Returns the time within which 95 of 100 answers came; None while too few are known.
    #[must_use]
    pub fn p95(&self, node: NodeId) -> Option<Duration> {
        let records = self.records();
        let answers = &records.get(&node)?.answers;
        let total: f32 = answers.iter().sum();
        if total < ANSWERS_MIN {
            return None;
        }
        let mut slower = total;
        let reached = answers.iter().position(|count| {
            slower -= count;
            slower <= total * 0.05
        });
        Some(CLASS_FIRST.mul_f64(1.5_f64.powi(reached.unwrap_or(CLASSES) as i32)))
    }

    fn records(&self) -> MutexGuard<'_, HashMap<NodeId, Record>> {
        lock(&self.records)
    }
}

fn class(took: Duration) -> usize {
    let ratio = took.as_secs_f64() / CLASS_FIRST.as_secs_f64();
    let class = ratio.max(1.0).log(1.5).ceil();
    (class as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p95_leaves_out_the_slowest_few() {
        let nodes = Nodes::new(Duration::from_secs(1));
        let node = NodeId(1);
        assert_eq!(nodes.p95(node), None);
        for i in 0..100 {
            let slow = i % 25 == 0;
            nodes.answered(node, Duration::from_millis(if slow { 900 } else { 2 }));
        }
        let p95 = nodes.p95(node).expect("known");
        assert!(
            p95 >= Duration::from_millis(2) && p95 < Duration::from_millis(4),
            "{p95:?}"
        );
        for _ in 0..40 {
            nodes.answered(node, Duration::from_millis(900));
        }
        assert!(nodes.p95(node).expect("known") >= Duration::from_millis(900));
    }

    #[tokio::test(start_paused = true)]
    async fn penalty_ends_with_time_or_an_answer() {
        let nodes = Nodes::new(Duration::from_secs(2));
        nodes.failed(NodeId(1));
        nodes.failed(NodeId(2));
        nodes.answered(NodeId(2), Duration::from_millis(1));
        assert!(nodes.is_penalised(NodeId(1)) && !nodes.is_penalised(NodeId(2)));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!nodes.is_penalised(NodeId(1)));
    }
}
