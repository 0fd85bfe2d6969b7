//! How a client reads an answer's body: one that reads too slowly while memory is short is ended.
//!
//! While it does not read, nobody asks for the next piece, so a task looks from time to time. What
//! the client was given is in the hands of its connection, and free only when that ends.

use super::pace::{LOOK_INTERVAL, Pace};
use crate::lock::lock;
use crate::ops::ports::Plaintext;
use bytes::Bytes;
use futures::Stream;
use megalith_blobs::{GetError, Reservation};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Ends the connection that a request came on. Clones end the same.
#[derive(Clone, Debug, Default)]
pub struct Cut(CancellationToken);

impl Cut {
    /// Waits until the connection is to end.
    pub async fn wanted(&self) {
        self.0.cancelled().await;
    }
}

/// A body on its way to its reader. Keeps the request's place until its end.
pub(super) struct Watched {
    inner: Plaintext,
    reader: Arc<Mutex<Reader>>,
    _looks: AbortOnDropHandle<()>,
    _place: Reservation,
}

struct Reader {
    pace: Pace,
    /// Since when it has had bytes and asked for no more; up to here its time is counted.
    since: Option<Instant>,
}

impl Reader {
    fn count(&mut self) {
        if let Some(since) = &mut self.since {
            let now = Instant::now();
            self.pace.waited(now - *since);
            *since = now;
        }
    }
}

impl Watched {
    /// Watches who reads a body. Ends its connection if he is too slow when `is_short` says so.
    pub(super) fn new(
        inner: Plaintext,
        cut: Cut,
        is_short: impl Fn() -> bool + Send + 'static,
        place: Reservation,
    ) -> Self {
        let reader = Reader {
            pace: Pace::new(),
            since: None,
        };
        let reader = Arc::new(Mutex::new(reader));
        let watched = Arc::clone(&reader);
        let looks = async move {
            loop {
                sleep(LOOK_INTERVAL).await;
                let slow = {
                    let mut reader = lock(&watched);
                    reader.count();
                    reader.pace.is_slow()
                };
                if slow && is_short() {
                    metrics::counter!("megalith_s3_slow_readers_ended_total").increment(1);
                    cut.0.cancel();
                    return;
                }
            }
        };
        Self {
            inner,
            reader,
            _looks: AbortOnDropHandle::new(tokio::spawn(looks)),
            _place: place,
        }
    }
}

impl Stream for Watched {
    type Item = Result<Bytes, GetError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        {
            let mut reader = lock(&self.reader);
            reader.count();
            reader.since = None;
        }
        let piece = ready!(self.inner.as_mut().poll_next(cx));
        if let Some(Ok(bytes)) = &piece {
            let mut reader = lock(&self.reader);
            reader.pace.gave(bytes.len());
            reader.since = Some(Instant::now());
        }
        Poll::Ready(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt as _, StreamExt as _, stream};
    use megalith_blobs::{Budget, Payer};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    /// Reads pieces of 64 KiB with so many seconds between them; returns whether it was ended.
    async fn ended(pause_s: u64, short: bool) -> bool {
        let places = Budget::new(1);
        let place = places.try_reserve(Payer::Known(1), 1).expect("free");
        let pieces = stream::repeat_with(|| Ok(Bytes::from(vec![0; 64 << 10])));
        let (cut, is_short) = (Cut::default(), Arc::new(AtomicBool::new(short)));
        let told = move || is_short.load(Ordering::Relaxed);
        let mut body = Watched::new(pieces.boxed(), cut.clone(), told, place);
        for _ in 0..100 {
            body.next().await.expect("endless").expect("sound");
            sleep(Duration::from_secs(pause_s)).await;
        }
        assert_eq!(places.used(), 1);
        drop(body);
        assert_eq!(places.used(), 0);
        cut.wanted().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_ended_only_if_memory_is_short() {
        assert!(ended(2, true).await);
        assert!(!ended(2, false).await);
        assert!(!ended(1, true).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_us_is_not_slow() {
        let places = Budget::new(1);
        let place = places.try_reserve(Payer::Known(1), 1).expect("free");
        let cut = Cut::default();
        let mut body = Watched::new(stream::pending().boxed(), cut.clone(), || true, place);
        let waited = tokio::time::timeout(Duration::from_secs(600), body.next()).await;
        assert!(waited.is_err());
        assert!(cut.wanted().now_or_never().is_none());
    }
}
