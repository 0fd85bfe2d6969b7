//! Request bodies on their way to s3s: watched for silence, and for small XML also for hashes.
//!
//! s3s tells most failures of a body only as an internal error. The guard notes the first cause
//! in a [`Verdict`], which comes along with the request, so that the right error is answered.

use super::chunked::Rechunker;
use super::gate::Framing;
use crate::ops::checksum::{Algorithm, Value, digest, parse_content_md5};
use crate::ops::{BodyError, OpError};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::request::Parts;
use http::{HeaderMap, Method};
use http_body::{Body, Frame, SizeHint};
use http_body_util::StreamBody;
use md5::Digest as _;
use s3s::StdError;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// Largest body of a request that is read whole, such as the XML of a completion.
pub const XML_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a body broke off: set once, by whoever saw it first.
#[derive(Clone, Debug, Default)]
pub struct Verdict(Arc<OnceLock<Cause>>);

/// Why a body broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Body(BodyError),
    /// It doesn't hash to what a header claims.
    Digest(&'static str),
    /// A header claims what can't be a hash.
    InvalidDigest,
}

impl Verdict {
    /// What was found, if anything.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.0.get().copied()
    }

    fn set(&self, cause: Cause) -> StdError {
        let cause = *self.0.get_or_init(|| cause);
        match cause {
            Cause::Body(error) => Box::new(error),
            Cause::Digest(_) | Cause::InvalidDigest => Box::new(BodyError::Incomplete),
        }
    }
}

impl From<Cause> for OpError {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Body(BodyError::Incomplete) => Self::IncompleteBody,
            Cause::Body(BodyError::Timeout) => Self::BodyTimeout,
            Cause::Body(BodyError::Signature) => Self::BodySignature,
            Cause::Body(BodyError::Sha256) => Self::BodySha256,
            Cause::Body(BodyError::Malformed) => Self::BodyMalformed,
            Cause::Body(BodyError::SourceUnreadable) => Self::Unavailable("source".to_owned()),
            Cause::Digest(what) => Self::BadDigest(what),
            Cause::InvalidDigest => Self::InvalidDigest,
        }
    }
}

/// Hashes that the headers of a small body claim: s3s doesn't check them for XML.
#[derive(Debug, Default)]
struct Claimed {
    body: BytesMut,
    sha256: Option<String>,
    md5: Option<String>,
    checksums: Vec<(Algorithm, String)>,
}

impl Claimed {
    /// Takes the claims of a request whose body s3s reads whole.
    fn of(head: &Parts, framing: Framing) -> Option<Self> {
        if head.method != Method::POST || framing != Framing::Plain {
            return None;
        }
        // A completion's checksum headers speak of the object, not of its XML.
        let completes = head
            .uri
            .query()
            .is_some_and(|query| query.contains("uploadId="));
        let checksums = if completes {
            Vec::new()
        } else {
            checksum_headers(&head.headers)
        };
        let text = |name: &str| {
            head.headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        Some(Self {
            body: BytesMut::new(),
            sha256: text("x-amz-content-sha256").filter(|text| text.len() == 64),
            md5: text("content-md5"),
            checksums,
        })
    }

    fn check(&self) -> Option<Cause> {
        if let Some(claimed) = &self.sha256
            && !claimed.eq_ignore_ascii_case(&hex::encode(digest(Algorithm::Sha256, &self.body)))
        {
            return Some(Cause::Body(BodyError::Sha256));
        }
        if let Some(claimed) = &self.md5 {
            let computed: [u8; 16] = md5::Md5::digest(&self.body).into();
            match parse_content_md5(claimed) {
                Ok(claimed) if claimed == computed => {}
                Ok(_) => return Some(Cause::Digest("Content-MD5")),
                Err(_) => return Some(Cause::InvalidDigest),
            }
        }
        let broken = |(algorithm, text): &&(Algorithm, String)| {
            let computed = digest(*algorithm, &self.body);
            !Value::parse(*algorithm, text).is_ok_and(|claimed| claimed.bytes == computed)
        };
        let found = self.checksums.iter().find(broken);
        found.map(|(algorithm, _)| Cause::Digest(algorithm.name()))
    }
}

fn checksum_headers(headers: &HeaderMap) -> Vec<(Algorithm, String)> {
    let claimed = |algorithm: Algorithm| {
        let text = headers.get(algorithm.header())?.to_str().ok()?;
        Some((algorithm, text.to_owned()))
    };
    Algorithm::ALL.into_iter().filter_map(claimed).collect()
}

/// A body that is watched.
pub struct Guarded<B> {
    inner: B,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    /// Somebody waits for the next bytes, and the timer runs.
    waiting: bool,
    claimed: Option<Claimed>,
    verdict: Verdict,
    ended: bool,
}

impl<B> Guarded<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StdError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    // Time counts while somebody waits, not while the body is not asked for.
                    if !self.waiting {
                        self.waiting = true;
                        let deadline = Instant::now() + self.idle;
                        self.timer.as_mut().reset(deadline);
                    }
                    ready!(self.timer.as_mut().poll(cx));
                    return self.fail(Cause::Body(BodyError::Timeout));
                }
            };
            self.waiting = false;
            match frame {
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else {
                        continue;
                    };
                    if let Some(claimed) = &mut self.claimed {
                        if claimed.body.len() + bytes.len() > XML_BYTES_MAX {
                            return self.fail(Cause::Body(BodyError::Malformed));
                        }
                        // Held back until it is checked: s3s reads it whole in any case.
                        claimed.body.extend_from_slice(&bytes);
                        continue;
                    }
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Some(Err(_)) => return self.fail(Cause::Body(BodyError::Incomplete)),
                None => {
                    self.ended = true;
                    let Some(claimed) = self.claimed.take() else {
                        return Poll::Ready(None);
                    };
                    return match claimed.check() {
                        Some(cause) => self.fail(cause),
                        None if claimed.body.is_empty() => Poll::Ready(None),
                        None => Poll::Ready(Some(Ok(claimed.body.freeze()))),
                    };
                }
            }
        }
    }

    fn fail(&mut self, cause: Cause) -> Poll<Option<Result<Bytes, StdError>>> {
        self.ended = true;
        Poll::Ready(Some(Err(self.verdict.set(cause))))
    }
}

impl<B> Body for Guarded<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        self.poll_bytes(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        // Not before the claims are checked.
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A chunked body whose chunks are cut on the way.
struct Rechunked<B> {
    body: Guarded<B>,
    rechunker: Rechunker,
    ready: std::vec::IntoIter<Bytes>,
}

impl<B> Stream for Rechunked<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Item = Result<Frame<Bytes>, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(bytes) = self.ready.next() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let bytes = match ready!(self.body.poll_bytes(cx)) {
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if self.rechunker.finish().is_err() => {
                    let failed = self.body.fail(Cause::Body(BodyError::Incomplete));
                    return failed.map_ok(Frame::data);
                }
                None => return Poll::Ready(None),
            };
            let mut out = Vec::new();
            if self.rechunker.push(bytes, &mut out).is_err() {
                let failed = self.body.fail(Cause::Body(BodyError::Malformed));
                return failed.map_ok(Frame::data);
            }
            self.ready = out.into_iter();
        }
    }
}

/// Puts a request's body under guard.
pub fn guard<B>(body: B, head: &Parts, framing: Framing, idle: Duration) -> (s3s::Body, Verdict)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let verdict = Verdict::default();
    let guarded = Guarded {
        inner: body,
        idle,
        timer: Box::pin(sleep(idle)),
        waiting: false,
        claimed: Claimed::of(head, framing),
        verdict: verdict.clone(),
        ended: false,
    };
    let body = match framing {
        Framing::Plain => s3s::Body::http_body_unsync(guarded),
        Framing::SignedChunks | Framing::UnsignedChunks => {
            let rechunker = Rechunker::new(framing == Framing::SignedChunks);
            let ready = Vec::new().into_iter();
            s3s::Body::http_body_unsync(StreamBody::new(Rechunked {
                body: guarded,
                rechunker,
                ready,
            }))
        }
    };
    (body, verdict)
}

/// Finds out why s3s says that a body broke off. Its error types are private, their words are
/// not; its version is pinned, and tests hold on to the words.
#[must_use]
pub fn body_error(error: &StdError, verdict: Option<&Verdict>) -> BodyError {
    if let Some(Cause::Body(error)) = verdict.and_then(Verdict::cause) {
        return error;
    }
    let text = error.to_string();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["SignatureMismatch"]) {
        BodyError::Signature
    } else if says(&["Sha256Mismatch"]) {
        BodyError::Sha256
    } else if says(&["FormatError", "TooLarge", "TooManyTrailerHeaders"]) {
        BodyError::Malformed
    } else {
        BodyError::Incomplete
    }
}
