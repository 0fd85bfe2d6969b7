//! One request and its answer on one connection.
//!
//! The connection goes back to the pool only if the request was sent to its end and the answer was
//! read to its end; else it is closed.

use crate::body::{Awaited, Progress, ShardBody};
use crate::data::{ShardRoute, Shared};
use crate::error::{DataError, DataFault, chain};
use crate::framing::{self, Deframer};
use crate::pool::Connection;
use crate::wire::{ErrorBody, ReceiptBody, parse_digest};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use megalith_model::ids::Epoch;
use megalith_model::shard::Receipt;
use std::pin::pin;
use tokio::time::{Instant, sleep_until, timeout};

/// The most bytes of a receipt or an error.
const ANSWER_LEN_MAX: usize = 64 * 1024;
/// HTTP needs a server name here; certificates say who the server is.
const HOST: &str = "megalith";

/// A write.
pub(crate) struct Put<'a> {
    pub(crate) route: &'a ShardRoute,
    pub(crate) length: u64,
    pub(crate) progress: Progress,
}

/// A write's failure; includes the request if none of it was sent.
pub(crate) struct Unsent {
    pub(crate) error: DataError,
    pub(crate) request: Option<Box<Request<ShardBody>>>,
}

impl From<DataError> for Unsent {
    fn from(error: DataError) -> Self {
        Self {
            error,
            request: None,
        }
    }
}

impl Put<'_> {
    pub(crate) fn request(
        &self,
        header: (HeaderName, &str),
        body: ShardBody,
    ) -> Result<Request<ShardBody>, DataError> {
        let (path, epoch) = (self.route.path(), self.route.epoch.0);
        Request::builder()
            .method(Method::PUT)
            .uri(format!("{path}?epoch={epoch}&length={}", self.length))
            .header(header::HOST, HOST)
            .header(header.0, header.1)
            .body(body)
            .map_err(|error| self.route.error(DataFault::Malformed, error.to_string()))
    }

    pub(crate) async fn send(
        &self,
        shared: &Shared,
        mut connection: Connection,
        request: Request<ShardBody>,
    ) -> Result<Receipt, Unsent> {
        let response = self.response(shared, &mut connection, request).await?;
        let sent_whole = || self.progress.awaited().0 == Awaited::Receipt;
        if response.status() != StatusCode::OK {
            let (error, whole) = refused(shared, self.route, response).await;
            if whole && sent_whole() {
                shared.pool.give_back(connection);
            }
            return Err(error.into());
        }
        let body = collect(shared, response.into_body(), ANSWER_LEN_MAX).await;
        let body = body.map_err(|(fault, message)| self.route.error(fault, message))?;
        let receipt = self.receipt(&body)?;
        shared.pool.give_back(connection);
        Ok(receipt)
    }

    /// Sends the request and waits for the answer's head, noting which side is slow.
    async fn response(
        &self,
        shared: &Shared,
        connection: &mut Connection,
        request: Request<ShardBody>,
    ) -> Result<Response<Incoming>, Unsent> {
        self.progress.begin();
        let mut answer = pin!(connection.sender.try_send_request(request));
        loop {
            let (awaited, since) = self.progress.awaited();
            let limit = match awaited {
                Awaited::Receipt => shared.settings.receipt_deadline,
                // While the caller is slow, this only checks again later.
                Awaited::Node | Awaited::Caller | Awaited::Abandoned => {
                    shared.settings.idle_deadline
                }
            };
            let wake = match awaited {
                Awaited::Caller => Instant::now() + limit,
                Awaited::Node | Awaited::Receipt | Awaited::Abandoned => since + limit,
            };
            tokio::select! {
                answer = &mut answer => return answer.map_err(|mut error| {
                    let request = error.take_message().map(Box::new);
                    let fault = match self.progress.awaited().0 {
                        Awaited::Abandoned => DataFault::Abandoned,
                        Awaited::Caller | Awaited::Node | Awaited::Receipt => {
                            DataFault::Unreachable
                        }
                    };
                    let error = self.route.error(fault, chain(error.error()));
                    Unsent { error, request }
                }),
                () = sleep_until(wake) => {
                    if awaited != Awaited::Caller && self.progress.awaited() == (awaited, since) {
                        let message = format!("no progress for {limit:?} while sending");
                        return Err(self.route.error(DataFault::Timeout, message).into());
                    }
                }
            }
        }
    }

    fn receipt(&self, body: &[u8]) -> Result<Receipt, DataError> {
        let wrong = |message: String| self.route.error(DataFault::Protocol, message);
        let read: ReceiptBody =
            serde_json::from_slice(body).map_err(|error| wrong(format!("receipt: {error}")))?;
        let digest = parse_digest(&read.digest);
        let digest = digest.ok_or_else(|| wrong("receipt: no digest".into()))?;
        let receipt = Receipt {
            len: read.length,
            digest,
            epoch: Epoch(read.epoch),
        };
        // A shard that already existed has the epoch in which it was written.
        let right = receipt.len == self.length
            && receipt.epoch <= self.route.epoch
            && Some(digest) == self.progress.digest();
        match right {
            true => Ok(receipt),
            false => Err(wrong(format!("a receipt for something else: {read:?}"))),
        }
    }
}

/// A read.
pub(crate) struct Get<'a> {
    pub(crate) route: &'a ShardRoute,
    pub(crate) shard_len: u64,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

impl Get<'_> {
    pub(crate) async fn send(
        &self,
        shared: &Shared,
        mut connection: Connection,
    ) -> Result<Vec<Bytes>, DataError> {
        let fail = |(fault, message)| self.route.error(fault, message);
        let path = self.route.path();
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("{path}?first={}&count={}", self.first, self.count))
            .header(header::HOST, HOST)
            .body(ShardBody::Empty)
            .map_err(|error| fail((DataFault::Malformed, error.to_string())))?;
        let limit = shared.settings.first_byte_deadline;
        let response = timeout(limit, connection.sender.send_request(request))
            .await
            .map_err(|_| fail((DataFault::Timeout, format!("silent for {limit:?}"))))?
            .map_err(|error| fail((DataFault::Unreachable, chain(&error))))?;
        if response.status() != StatusCode::OK {
            let (error, whole) = refused(shared, self.route, response).await;
            if whole {
                shared.pool.give_back(connection);
            }
            return Err(error);
        }
        let cells = self.cells(shared, response.into_body()).await?;
        shared.pool.give_back(connection);
        Ok(cells)
    }

    async fn cells(&self, shared: &Shared, body: Incoming) -> Result<Vec<Bytes>, DataError> {
        let damaged = |message: &str| self.route.error(DataFault::Damaged, message);
        let expected = framing::body_len(self.shard_len, self.first, self.count);
        if body.size_hint().exact().is_some_and(|len| len != expected) {
            return Err(damaged("the shard has another length"));
        }
        // One allocation for the whole answer; cells are slices of it.
        let limit = usize::try_from(expected).expect("at most 64 cells and their checksums");
        let bytes = collect(shared, body, limit)
            .await
            .map_err(|(fault, message)| self.route.error(fault, message))?;
        let mut deframer = Deframer::new(self.shard_len, self.first, self.count);
        let mut cells = Vec::with_capacity(self.count as usize);
        let mut intact = true;
        let pushed = deframer.push(bytes, |cell| {
            intact &= cell.is_intact();
            cells.push(cell.bytes);
        });
        match pushed {
            Ok(()) if intact && deframer.is_complete() => Ok(cells),
            Ok(()) if intact => Err(damaged("cells are missing")),
            Ok(()) => Err(damaged("a cell has another checksum")),
            Err(error) => Err(damaged(&error.to_string())),
        }
    }
}

/// Reads an error's answer; returns true if all of it was read.
async fn refused(
    shared: &Shared,
    route: &ShardRoute,
    response: Response<Incoming>,
) -> (DataError, bool) {
    let status = response.status();
    let body = match collect(shared, response.into_body(), ANSWER_LEN_MAX).await {
        Ok(body) => body,
        Err((fault, message)) => return (route.error(fault, message), false),
    };
    let read: Option<ErrorBody> = serde_json::from_slice(&body).ok();
    let kind = read.as_ref().map_or("", |read| read.kind.as_str());
    let present = read.as_ref().and_then(|read| read.epoch).map(Epoch);
    let error = match DataFault::of_status(status.as_u16(), present, kind) {
        Some(fault) => {
            let message = read.map_or_else(|| status.to_string(), |read| read.message);
            route.error(fault, message)
        }
        None => route.error(DataFault::Protocol, format!("answered {status}")),
    };
    (error, true)
}

/// Reads a body of at most `limit` bytes, each piece within the idle deadline.
async fn collect(
    shared: &Shared,
    mut body: Incoming,
    limit: usize,
) -> Result<Bytes, (DataFault, String)> {
    let known = body.size_hint().exact().unwrap_or(0);
    let mut bytes = BytesMut::with_capacity(limit.min(usize::try_from(known).unwrap_or(0)));
    while let Some(piece) = piece(shared, &mut body).await? {
        if bytes.len() + piece.len() > limit {
            return Err((DataFault::Protocol, "an answer that is too long".into()));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

async fn piece(shared: &Shared, body: &mut Incoming) -> Result<Option<Bytes>, (DataFault, String)> {
    let limit = shared.settings.idle_deadline;
    loop {
        match timeout(limit, body.frame()).await {
            Err(_) => return Err((DataFault::Timeout, format!("silent for {limit:?}"))),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err((DataFault::Unreachable, chain(&error))),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
