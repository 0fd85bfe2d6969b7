//! The sync thread: writes what the driver gives it, one append or purge after the other, and tells
//! the driver's inbox. Knows nothing of raft.

use super::RaftHandle;
use super::inbox::Outside;
use crate::log::Planned;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// The driver's end: what is to be written.
pub(crate) struct SyncQueue(SyncSender<Planned>);

/// The thread's end.
pub(crate) struct Syncer {
    planned: Receiver<Planned>,
    inbox: Outside,
}

/// Makes both ends.
pub(crate) fn sync_queue(raft: &RaftHandle) -> (SyncQueue, Syncer) {
    // A log plans one at a time.
    let (sender, planned) = sync_channel(1);
    let inbox = raft.inbox.clone();
    (SyncQueue(sender), Syncer { planned, inbox })
}

impl SyncQueue {
    /// Hands over what a log has planned. After the end of the thread nothing happens.
    pub(super) fn give(&self, planned: Planned) {
        let _ = self.0.send(planned);
    }
}

impl Syncer {
    /// Writes until the driver is gone.
    pub(crate) fn run(self) {
        while let Ok(planned) = self.planned.recv() {
            self.inbox.written(planned.write());
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        // Whatever ended it: the driver must not wait for it.
        self.inbox.sync_ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::RaftSettings;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn nobody_waits_for_a_thread_that_is_gone() {
        let (raft, mut inbox) = RaftHandle::new(&RaftSettings::default());
        let (_queue, syncer) = sync_queue(&raft);
        let (done, waited) = sync_channel(1);
        let waits = thread::spawn(move || {
            let _ = done.send(inbox.wait_written().is_none());
        });
        drop(syncer);
        let ended = waited.recv_timeout(Duration::from_secs(20));
        assert_eq!(ended, Ok(true), "it waits still");
        waits.join().expect("no panic");
    }
}
