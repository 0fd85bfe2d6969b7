//! Incoming request bodies: watched for silence, taken out of their chunks, and verified against
//! the signature.

use super::auth::Payload;
use super::chunked::{ChunkedDecoder, Trailers};
use super::error::{Code, S3Error};
use super::pace::{LOOK_INTERVAL, Pace};
use crate::ops::checksum::{Algorithm, Value, digest, parse_content_md5};
use crate::ops::{BodyError, OpError};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use md5::Digest as _;
use megalith_blobs::{Pieces, Reservation};
use megalith_sigv4::{Hash, PayloadHasher};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// The largest body that is read whole, such as the XML of a completion.
const XML_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Memory for a body that is read whole is reserved for so many of its bytes at a time, as they
/// come: a client that only announces many holds none.
const XML_STEP: usize = 64 * 1024;
/// Bytes of memory for one byte of such a body: itself, what its buffer grows by, and what is read
/// from it.
const XML_COST: usize = 3;

/// A body that was read whole, and the memory that is reserved for it.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    pub(super) held: Option<Reservation>,
}

/// Says whether memory is short for all.
pub(super) type IsShort = Arc<dyn Fn() -> bool + Send + Sync>;

/// A body as it comes from the connection.
pub(super) type RawBody = UnsyncBoxBody<Bytes, BodyError>;

/// Removes the connection's type from a body.
pub(super) fn raw<B>(body: B) -> RawBody
where
    B: Body<Data = Bytes> + Send + 'static,
{
    // Whatever broke the connection: the body isn't complete.
    body.map_err(|_| BodyError::Incomplete).boxed_unsync()
}

/// How a body is verified while it is read.
enum Check {
    Nothing,
    Hash {
        running: PayloadHasher,
        claimed: Hash,
    },
    Chunks(ChunkedDecoder),
}

/// A request's body: a stream of its bytes that ends without an error only if it was verified.
pub(in crate::s3) struct Incoming {
    inner: RawBody,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    /// While a reader waits for the next bytes, and the timer runs.
    waiting: Option<Waiting>,
    pace: Pace,
    is_short: IsShort,
    /// Bytes that have arrived and are not processed yet.
    rest: Bytes,
    check: Option<Check>,
    /// The checksums that must follow the body. No other may.
    announced: Vec<Algorithm>,
    trailers: Arc<OnceLock<Trailers>>,
    /// The memory in which its connection holds what was not read yet.
    window: Option<Arc<Reservation>>,
}

/// A wait for the client.
#[derive(Clone, Copy)]
struct Waiting {
    /// When it is too long.
    until: Instant,
    /// Up to when its time is counted.
    counted: Instant,
}

impl Incoming {
    /// Takes a request's body. The headers say which checksums follow it.
    ///
    /// # Errors
    /// `InvalidRequest` for checksums that we don't know, or that can't follow such a body.
    pub(super) fn new(
        inner: RawBody,
        payload: Payload,
        headers: &HeaderMap,
        idle: Duration,
    ) -> Result<Self, S3Error> {
        let announced = announced_trailers(headers)?;
        let check = match payload {
            Payload::Unsigned => Check::Nothing,
            Payload::Hash(claimed) => Check::Hash {
                running: PayloadHasher::default(),
                claimed,
            },
            Payload::SignedChunks(chain) => Check::Chunks(ChunkedDecoder::new(Some(chain))),
            Payload::UnsignedChunks => Check::Chunks(ChunkedDecoder::new(None)),
        };
        if !announced.is_empty() && !matches!(check, Check::Chunks(_)) {
            return Err(S3Error::invalid_request(
                "x-amz-trailer needs a chunked body",
            ));
        }
        Ok(Self {
            inner,
            idle,
            timer: Box::pin(sleep(idle)),
            waiting: None,
            pace: Pace::new(),
            is_short: Arc::new(|| false),
            rest: Bytes::new(),
            check: Some(check),
            announced,
            trailers: Arc::default(),
            window: None,
        })
    }

    /// Demands a pace of the client while memory is short.
    pub(super) fn paced(mut self, is_short: IsShort) -> Self {
        self.is_short = is_short;
        self
    }

    /// Keeps the memory of its connection's window for as long as the body is being read.
    pub(super) fn within(mut self, window: Option<Arc<Reservation>>) -> Self {
        self.window = window;
        self
    }

    /// Returns the place of the trailers; it is filled when the body has ended well.
    pub(in crate::s3) fn trailers(&self) -> Arc<OnceLock<Trailers>> {
        Arc::clone(&self.trailers)
    }

    /// Returns the checksums that must follow the body.
    pub(in crate::s3) fn announced(&self) -> &[Algorithm] {
        &self.announced
    }

    pub(in crate::s3) fn into_source(self) -> Pieces {
        self.boxed()
    }

    /// Reads a small body whole, and compares it with the headers' claims. `of_body` says whether
    /// the checksum headers are about this body, `reserve` gives the memory for it.
    ///
    /// # Errors
    /// The refusal, as S3's code; what `reserve` says.
    pub(super) async fn whole(
        mut self,
        headers: &HeaderMap,
        of_body: bool,
        reserve: impl Fn(u64) -> Result<Reservation, OpError>,
    ) -> Result<Whole, S3Error> {
        let mut body = BytesMut::new();
        let (mut held, mut room): (Option<Reservation>, usize) = (None, 0);
        while let Some(piece) = self.next().await {
            let piece = piece?;
            let len = body.len() + piece.len();
            if len > XML_BYTES_MAX {
                return Err(Code::MaxMessageLengthExceeded.into());
            }
            if len > room {
                let more = (len - room).next_multiple_of(XML_STEP);
                let reserved = reserve((more * XML_COST) as u64)?;
                room += more;
                match &mut held {
                    Some(held) => held.add(reserved),
                    None => held = Some(reserved),
                }
            }
            body.extend_from_slice(&piece);
        }
        let body = body.freeze();
        let known_length = headers.contains_key(http::header::CONTENT_LENGTH);
        if !body.is_empty() && !known_length && self.trailers.get().is_none() {
            return Err(Code::MissingContentLength.into());
        }
        check_md5(headers, &body)?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let trailers = self.trailers.get().map_or(&[][..], Vec::as_slice);
        for algorithm in Algorithm::ALL {
            let header = text(algorithm.header()).filter(|_| of_body);
            let trailer = trailers.iter().find(|(name, _)| name == algorithm.header());
            for claimed in header
                .into_iter()
                .chain(trailer.map(|(_, value)| value.as_str()))
            {
                let computed = digest(algorithm, &body);
                if !Value::parse(algorithm, claimed).is_ok_and(|value| value.bytes == computed) {
                    return Err(OpError::BadDigest(algorithm.name()).into());
                }
            }
        }
        Ok(Whole { bytes: body, held })
    }

    fn poll_raw(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.poll_patience(cx));
                    return Poll::Ready(Some(Err(BodyError::Timeout)));
                }
            };
            self.count_wait();
            self.waiting = None;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        let slow = self.is_too_slow();
                        self.pace.came(bytes.len());
                        if slow {
                            return Poll::Ready(Some(Err(BodyError::Timeout)));
                        }
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// Waits for as long as the client may let us. Time counts while a reader waits, not while no
    /// one asks for the body.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            let until = match self.waiting {
                Some(waiting) => waiting.until,
                None => {
                    let until = now + self.idle;
                    let counted = now;
                    self.waiting = Some(Waiting { until, counted });
                    self.timer.as_mut().reset(until.min(now + LOOK_INTERVAL));
                    until
                }
            };
            ready!(self.timer.as_mut().poll(cx));
            self.count_wait();
            let now = Instant::now();
            if now >= until || self.is_too_slow() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(until.min(now + LOOK_INTERVAL));
        }
    }

    /// Counts the time that we have waited for the client so far.
    fn count_wait(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            let now = Instant::now();
            self.pace.waited(now - waiting.counted);
            waiting.counted = now;
        }
    }

    fn is_too_slow(&self) -> bool {
        let slow = self.pace.is_slow() && (self.is_short)();
        if slow {
            metrics::counter!("megalith_s3_slow_bodies_ended_total").increment(1);
        }
        slow
    }

    /// Checks the body when it ends.
    fn finish(&mut self) -> Result<(), BodyError> {
        match self.check.take() {
            None | Some(Check::Nothing) => Ok(()),
            Some(Check::Hash { running, claimed }) => {
                if running.finish() == claimed {
                    Ok(())
                } else {
                    Err(BodyError::Sha256)
                }
            }
            Some(Check::Chunks(mut decoder)) => {
                let trailers = decoder.finish()?;
                check_trailers(&trailers, &self.announced)?;
                // Set only once: a body ends once.
                let _first = self.trailers.set(trailers);
                Ok(())
            }
        }
    }

    fn poll_verified(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match &mut self.check {
                None => return Poll::Ready(None),
                Some(Check::Chunks(decoder)) => match decoder.next(&mut self.rest) {
                    Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
                Some(Check::Nothing | Check::Hash { .. }) => {}
            }
            let bytes = match ready!(self.poll_raw(cx)) {
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(self.finish().err().map(Err)),
            };
            match &mut self.check {
                Some(Check::Chunks(_)) => self.rest = bytes,
                Some(Check::Hash { running, .. }) => {
                    running.update(&bytes);
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Some(Check::Nothing) | None => return Poll::Ready(Some(Ok(bytes))),
            }
        }
    }
}

impl Stream for Incoming {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = ready!(self.poll_verified(cx));
        if matches!(piece, Some(Err(_))) {
            // An error is reported once; nothing comes after it.
            self.check = None;
        }
        Poll::Ready(piece)
    }
}

/// Returns which checksums are announced to follow the body.
///
/// # Errors
/// `InvalidRequest` for one that we don't know; `MalformedTrailerError`.
pub(in crate::s3) fn announced_trailers(headers: &HeaderMap) -> Result<Vec<Algorithm>, S3Error> {
    let mut algorithms = Vec::new();
    for value in headers.get_all("x-amz-trailer") {
        let names = value.to_str().map_err(|_| Code::MalformedTrailer)?;
        for name in names.split(',').map(str::trim) {
            if Algorithm::is_foreign_header(name) {
                return Err(S3Error::unsupported_checksum(name));
            }
            // Other trailers carry nothing that is kept.
            algorithms.extend(Algorithm::of_header(name));
        }
    }
    Ok(algorithms)
}

/// Checks that exactly the announced checksums follow the body, each once. One that nobody
/// announced would not be compared with the body.
fn check_trailers(trailers: &Trailers, announced: &[Algorithm]) -> Result<(), BodyError> {
    let count = |algorithm: &Algorithm| {
        let named = trailers
            .iter()
            .filter(|(name, _)| name == algorithm.header());
        named.count()
    };
    let unexpected = |(name, _): &(String, String)| match Algorithm::of_header(name) {
        Some(algorithm) => !announced.contains(&algorithm),
        None => Algorithm::is_foreign_header(name),
    };
    if announced.iter().all(|algorithm| count(algorithm) == 1) && !trailers.iter().any(unexpected) {
        Ok(())
    } else {
        Err(BodyError::Malformed)
    }
}

fn check_md5(headers: &HeaderMap, body: &[u8]) -> Result<(), S3Error> {
    let Some(claimed) = headers.get("content-md5") else {
        return Ok(());
    };
    let claimed = claimed.to_str().map_err(|_| Code::InvalidDigest)?;
    let computed: [u8; 16] = md5::Md5::digest(body).into();
    if parse_content_md5(claimed)? == computed {
        Ok(())
    } else {
        Err(OpError::BadDigest("Content-MD5").into())
    }
}
