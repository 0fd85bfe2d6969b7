//! Disks that take much longer to write than others, or that don't come back from a write. Pure.
//!
//! What is slow is said by other disks of the same cluster: they get shards of the same objects. A
//! disk without writes of late is neither slow nor a measure.

use super::Verdict;
use megalith_model::status::{ClusterStatus, DiskReport};
use std::time::Duration;

/// A disk is slow if its writes take so many times as long as is usual …
const TIMES: u32 = 10;
/// … if they take at least this long, …
const SLOW_MIN: Duration = Duration::from_millis(50);
/// … if it wrote for at least this long lately: one write that waited a moment says nothing …
const BUSY_MIN: Duration = Duration::from_secs(1);
/// … and if at least so many other disks say what is usual.
const PEERS_MIN: usize = 2;
/// A disk hangs if a write has taken this long and goes on.
const HUNG: Duration = Duration::from_secs(3);

pub(super) fn judge(status: &ClusterStatus, verdict: &mut Verdict) {
    let disks: Vec<(u32, &DiskReport)> = status
        .nodes
        .iter()
        .filter(|node| node.alive)
        .flat_map(|node| node.disks.iter().map(|disk| (node.node.0, disk)))
        .collect();
    for (number, (node, disk)) in disks.iter().enumerate() {
        let id = disk.disk;
        let running = Duration::from_millis(disk.turn_ms);
        if running >= HUNG {
            let waited_s = running.as_secs();
            verdict.degraded(format!(
                "disk {id} of node {node} hangs: a write has not come back for {waited_s} s"
            ));
            continue;
        }
        let others = disks.iter().enumerate();
        let peers = others
            .filter(|(other, _)| *other != number)
            .filter_map(|(_, (_, peer))| per_write(peer))
            .collect();
        if let Some((took, usual)) = slow(disk, peers) {
            let (took, usual) = (took.as_millis(), usual.as_secs_f64() * 1e3);
            verdict.degraded(format!(
                "disk {id} of node {node} is slow: a write takes {took} ms, {usual:.1} ms on others"
            ));
        }
    }
}

/// Returns how long a write takes on a slow disk, and on half of its peers at most. None if the
/// disk is not slow.
fn slow(disk: &DiskReport, mut peers: Vec<Duration>) -> Option<(Duration, Duration)> {
    let took = per_write(disk)?;
    peers.sort_unstable();
    let usual = *peers.get(peers.len() / 2)?;
    let is_slow = peers.len() >= PEERS_MIN
        && took >= SLOW_MIN
        && took >= usual * TIMES
        && Duration::from_micros(disk.commit_us) >= BUSY_MIN;
    is_slow.then_some((took, usual))
}

/// Returns how long a commit took lately; None if there was none.
fn per_write(disk: &DiskReport) -> Option<Duration> {
    let took_us = disk.commit_us.checked_div(disk.commits)?;
    Some(Duration::from_micros(took_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so many commits that took so many milliseconds each.
    fn disk(commits: u64, each_ms: u64) -> DiskReport {
        DiskReport {
            commits,
            commit_us: commits * each_ms * 1_000,
            ..DiskReport::default()
        }
    }

    fn is_slow(disk: &DiskReport, peers_ms: &[u64]) -> bool {
        let peers = peers_ms.iter().map(|ms| Duration::from_millis(*ms));
        slow(disk, peers.collect()).is_some()
    }

    #[test]
    fn ten_times_slower_than_half_of_the_others_is_slow() {
        let peers = [5, 6, 6, 7, 200];
        assert!(is_slow(&disk(50, 60), &peers));
        assert!(!is_slow(&disk(50, 59), &peers));
        assert!(
            is_slow(&disk(1, 2_000), &peers),
            "as in F10: one sync that takes 2 s"
        );
        // All are slow alike: none of them is the one to replace.
        assert!(!is_slow(&disk(2, 2_000), &[1_900, 2_000, 2_100]));
    }

    #[test]
    fn little_evidence_is_none() {
        assert!(!is_slow(&disk(0, 0), &[1, 1, 1]), "no write");
        assert!(
            !is_slow(&disk(9, 100), &[1, 1, 1]),
            "less than a second of writing"
        );
        assert!(!is_slow(&disk(50, 60), &[1]), "one peer");
        assert!(!is_slow(&disk(50, 60), &[]), "no peer");
        assert!(
            !is_slow(&disk(100, 40), &[1, 1, 1]),
            "quick enough for anybody"
        );
    }
}
