//! Request bodies of shard writes, and their progress.
//!
//! A body that ends before its length, or without its digest, is an error here: the connection is
//! closed, so that the node never sees a well-formed end of the body.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use megalith_model::shard::ShardDigest;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::wire::{DIGEST_HEADER, digest_text};

/// The caller ended a body early.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Abandoned(&'static str);

/// What a write waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// For the caller's next bytes.
    Caller,
    /// For the node to take bytes.
    Node,
    /// For the receipt: everything is sent.
    Receipt,
    /// Nothing any more: the caller gave up.
    Abandoned,
}

/// Shared by a body and the task that waits for its answer.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<State>>);

struct State {
    awaited: Awaited,
    since: Instant,
    digest: Option<ShardDigest>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            awaited: Awaited::Node,
            since: Instant::now(),
            digest: None,
        })))
    }

    pub(crate) fn awaited(&self) -> (Awaited, Instant) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.awaited, state.since)
    }

    /// Returns the digest that was sent.
    pub(crate) fn digest(&self) -> Option<ShardDigest> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.digest
    }

    /// Marks the request as handed over: from now on the node's time counts.
    pub(crate) fn begin(&self) {
        self.enter(Awaited::Node);
    }

    fn enter(&self, awaited: Awaited) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A long wait for the caller must not look like many short ones, nor the other way round.
        if state.awaited != awaited || awaited == Awaited::Node {
            state.awaited = awaited;
            state.since = Instant::now();
        }
    }

    pub(crate) fn sent(&self, digest: ShardDigest) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.digest = Some(digest);
    }
}

/// A request's body.
pub(crate) enum ShardBody {
    Empty,
    /// All bytes are known; sent with a length.
    Whole {
        pieces: VecDeque<Bytes>,
        left: u64,
        progress: Progress,
    },
    /// Sent in chunks as the bytes arrive, the digest last.
    Stream {
        pieces: mpsc::Receiver<Bytes>,
        left: u64,
        digest: Option<oneshot::Receiver<ShardDigest>>,
        progress: Progress,
    },
}

impl Body for ShardBody {
    type Data = Bytes;
    type Error = Abandoned;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abandoned>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole {
                pieces,
                left,
                progress,
            } => {
                let piece = pieces.pop_front();
                *left -= piece.as_ref().map_or(0, Bytes::len) as u64;
                progress.enter(if pieces.is_empty() {
                    Awaited::Receipt
                } else {
                    Awaited::Node
                });
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
            }
            Self::Stream {
                pieces,
                left,
                digest,
                progress,
            } => {
                let next = poll_stream(pieces, left, digest, progress, cx);
                if let Poll::Ready(Some(Err(_))) = &next {
                    progress.enter(Awaited::Abandoned);
                } else if next.is_pending() {
                    progress.enter(Awaited::Caller);
                }
                next
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole { pieces, .. } => pieces.is_empty(),
            Self::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole { left, .. } => SizeHint::with_exact(*left),
            Self::Stream { .. } => SizeHint::default(),
        }
    }
}

fn poll_stream(
    pieces: &mut mpsc::Receiver<Bytes>,
    left: &mut u64,
    digest: &mut Option<oneshot::Receiver<ShardDigest>>,
    progress: &Progress,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Abandoned>>> {
    if *left > 0 {
        let Some(piece) = ready!(pieces.poll_recv(cx)) else {
            return Poll::Ready(Some(Err(Abandoned("the body ended before its length"))));
        };
        let Some(rest) = left.checked_sub(piece.len() as u64) else {
            return Poll::Ready(Some(Err(Abandoned("the body is longer than its length"))));
        };
        *left = rest;
        progress.enter(Awaited::Node);
        return Poll::Ready(Some(Ok(Frame::data(piece))));
    }
    let Some(receiver) = digest else {
        return Poll::Ready(None);
    };
    let received = ready!(Pin::new(receiver).poll(cx));
    *digest = None;
    let Ok(received) = received else {
        return Poll::Ready(Some(Err(Abandoned("the body ended without its digest"))));
    };
    progress.sent(received);
    progress.enter(Awaited::Receipt);
    let text = HeaderValue::from_str(&digest_text(&received)).expect("hexadecimal digits");
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static(DIGEST_HEADER), text)]);
    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
}
