//! Bodies of gRPC calls that hold a peer's share: of bytes while a request comes in, of calls until
//! the answer has gone out.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use megalith_serve::Share;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tonic::Status;

/// The bytes of one call, shared by its body and whoever waits for its answer.
pub(super) type HeldBytes = Arc<Mutex<Share>>;

/// A request's body. It fails once its peer has too many bytes on the way in all its calls.
pub(super) struct Metered<B> {
    inner: B,
    bytes: HeldBytes,
}

impl<B> Metered<B> {
    pub(super) fn new(inner: B, bytes: HeldBytes) -> Self {
        Self { inner, bytes }
    }
}

impl<B> Body for Metered<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => {
                let message = format!("the request broke off: {error}");
                return Poll::Ready(Some(Err(Status::cancelled(message))));
            }
            Some(Ok(frame)) => frame,
        };
        let len = frame.data_ref().map_or(0, Bytes::len) as u64;
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        Poll::Ready(Some(match bytes.add(len) {
            true => Ok(frame),
            false => Err(Status::resource_exhausted(
                "too many bytes of this peer are on the way",
            )),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body, which keeps its call's shares until it has gone out.
pub(super) struct Holding<B> {
    inner: B,
    _shares: Vec<Share>,
}

impl<B> Holding<B> {
    pub(super) fn new(inner: B, shares: Vec<Share>) -> Self {
        Self {
            inner,
            _shares: shares,
        }
    }
}

impl<B: Body + Unpin> Body for Holding<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
