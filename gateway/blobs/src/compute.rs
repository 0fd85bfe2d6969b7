//! The compute pool: hashing, sealing and coding run here, except for what is done sooner than
//! handed over.
//!
//! A job takes its state along and brings it back, so order is kept if each job is awaited before
//! the next is handed in. The queue is bounded: callers wait while it is full.

use super::lock::lock;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use tokio::sync::{Semaphore, oneshot};

/// Jobs that may wait or run, per thread.
const JOBS_PER_THREAD: usize = 8;

/// Jobs on so few bytes run where they are asked for: they take about as long as two threads need
/// to hand them over and back, 12 microseconds.
const IN_PLACE_BYTES_MAX: u64 = 8 << 10;

/// The job was lost: it panicked, or the pool has been closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("compute job lost")]
pub struct JobLost;

type Job = Box<dyn FnOnce() + Send>;

struct Queue {
    jobs: Mutex<(VecDeque<Job>, bool)>,
    wake: Condvar,
}

/// The pool's own threads; they end when the last handle is dropped.
#[derive(Clone)]
pub struct Compute {
    queue: Arc<Queue>,
    room: Arc<Semaphore>,
    _closer: Arc<Closer>,
}

struct Closer(Arc<Queue>);

impl Drop for Closer {
    fn drop(&mut self) {
        let mut jobs = lock(&self.0.jobs);
        jobs.1 = true;
        drop(jobs);
        self.0.wake.notify_all();
    }
}

impl Compute {
    /// Starts `threads` (at least one) threads.
    #[must_use]
    pub fn start(threads: usize) -> Self {
        let threads = threads.max(1);
        let queue = Arc::new(Queue {
            jobs: Mutex::default(),
            wake: Condvar::new(),
        });
        for number in 0..threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("compute-{number}"))
                .spawn(move || work(&queue))
                .expect("a process that can't start a thread can't serve");
        }
        Self {
            room: Arc::new(Semaphore::new(threads * JOBS_PER_THREAD)),
            _closer: Arc::new(Closer(Arc::clone(&queue))),
            queue,
        }
    }

    /// Runs a job that works on so many bytes: on the pool, or here if they are few.
    ///
    /// # Errors
    /// [`JobLost`] if the job panicked.
    pub async fn run_on<T, F>(&self, bytes: u64, job: F) -> Result<T, JobLost>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if bytes > IN_PLACE_BYTES_MAX {
            return self.run(job).await;
        }
        catch_unwind(AssertUnwindSafe(job)).map_err(|_| {
            tracing::error!("compute job panicked");
            JobLost
        })
    }

    /// Runs `job` on the pool.
    ///
    /// # Errors
    /// [`JobLost`] if the job panicked.
    pub async fn run<T, F>(&self, job: F) -> Result<T, JobLost>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let room = Arc::clone(&self.room);
        let permit = room.acquire_owned().await.map_err(|_| JobLost)?;
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            let result = job();
            drop(permit);
            // It is fine if no one waits any more: the request was given up.
            let _ = reply.send(result);
        });
        {
            let mut jobs = lock(&self.queue.jobs);
            jobs.0.push_back(job);
        }
        self.queue.wake.notify_one();
        answer.await.map_err(|_| JobLost)
    }
}

fn work(queue: &Queue) {
    loop {
        let mut jobs = lock(&queue.jobs);
        let job = loop {
            match jobs.0.pop_front() {
                Some(job) => break job,
                None if jobs.1 => return,
                None => {
                    jobs = queue
                        .wake
                        .wait(jobs)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        drop(jobs);
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("compute job panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_come_back_and_a_panic_is_only_its_own_jobs_end() {
        let pool = Compute::start(2);
        let many = (0..100_u64).map(|i| pool.run(move || i * i));
        let squares: Vec<u64> = futures::future::try_join_all(many).await.expect("all run");
        assert_eq!(
            squares.iter().sum::<u64>(),
            (0..100_u64).map(|i| i * i).sum::<u64>()
        );
        for _ in 0..4 {
            let lost = pool.run(|| -> u8 { panic!("on purpose") }).await;
            assert_eq!(lost, Err(JobLost));
        }
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn small_jobs_run_in_place_and_a_panic_is_only_theirs() {
        let pool = Compute::start(1);
        let here = thread::current().id();
        let place = || thread::current().id();
        assert_eq!(pool.run_on(IN_PLACE_BYTES_MAX, place).await, Ok(here));
        let elsewhere = pool.run_on(IN_PLACE_BYTES_MAX + 1, place).await;
        assert_ne!(elsewhere.expect("runs"), here);
        for bytes in [1, 1 << 20] {
            let lost = pool.run_on(bytes, || -> u8 { panic!("on purpose") }).await;
            assert_eq!(lost, Err(JobLost));
        }
    }

    #[tokio::test]
    async fn threads_end_with_the_last_handle() {
        let pool = Compute::start(1);
        let queue = Arc::downgrade(&pool.queue);
        drop(pool);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while queue.strong_count() > 0 {
            assert!(std::time::Instant::now() < deadline, "thread lives on");
            tokio::task::yield_now().await;
        }
    }
}
