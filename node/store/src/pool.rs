//! Threads that read. A bounded number of them; who comes when all are busy and enough wait, waits
//! without a thread.

use super::error::StoreError;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{Semaphore, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// A cheap handle on the reading threads; they end with the last handle.
#[derive(Clone)]
pub(super) struct ReadPool {
    jobs: Arc<Mutex<Option<Sender<Job>>>>,
    slots: Arc<Semaphore>,
}

impl ReadPool {
    /// Starts `threads` threads; `waiting_max` more jobs may wait for one.
    pub(super) fn start(
        threads: usize,
        waiting_max: usize,
    ) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (sender, receiver) = channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = threads.max(1);
        let mut joins = Vec::with_capacity(threads);
        for number in 0..threads {
            let receiver = Arc::clone(&receiver);
            let name = format!("store-read-{number}");
            let thread = std::thread::Builder::new().name(name);
            joins.push(thread.spawn(move || work(&receiver))?);
        }
        let slots = Arc::new(Semaphore::new(threads + waiting_max));
        Ok((
            Self {
                jobs: Arc::new(Mutex::new(Some(sender))),
                slots,
            },
            joins,
        ))
    }

    /// Runs `job` on one of the threads and returns what it returns.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let slots = Arc::clone(&self.slots);
        let slot = slots
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Closed)?;
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Who no longer waits does not want to know, and costs no reading either.
            if !answer.is_closed() {
                let _ = answer.send(job());
            }
            drop(slot);
        });
        {
            let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let jobs = jobs.as_ref().ok_or(StoreError::Closed)?;
            jobs.send(job).map_err(|_| StoreError::Closed)?;
        }
        result.await.map_err(|_| StoreError::Closed)?
    }

    /// Takes no more jobs; the threads end when those they have are done.
    pub(super) fn stop(&self) {
        self.slots.close();
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
