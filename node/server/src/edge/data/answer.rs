//! Answers: receipts, cells and refusals.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use megalith_client::DataFault;
use megalith_client::wire::{ErrorBody, ReceiptBody, digest_text};
use megalith_model::shard::Receipt;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use megalith_serve::Share;
use megalith_store::StoreError;

/// Why a request is not done.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) fault: DataFault,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(fault: DataFault, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { fault, message }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        let fault = match &error {
            StoreError::Full { .. } => DataFault::Full,
            StoreError::StaleEpoch { current } => DataFault::StaleEpoch {
                present: Some(*current),
            },
            StoreError::NotFound { .. } => DataFault::NotFound,
            StoreError::Damaged { .. } => DataFault::Damaged,
            StoreError::Conflict { .. } => DataFault::Conflict,
            StoreError::ChecksumMismatch { .. } => DataFault::Checksum,
            StoreError::Malformed { .. } => DataFault::Malformed,
            StoreError::Io { .. }
            | StoreError::ReadOnly
            | StoreError::Gone { .. }
            | StoreError::NoSuperblock { .. }
            | StoreError::BadSuperblock { .. }
            | StoreError::TwoSuperblocks { .. }
            | StoreError::ForeignCluster { .. }
            | StoreError::ForeignDisk { .. }
            | StoreError::NotEmpty { .. }
            | StoreError::Locked { .. }
            | StoreError::OtherFormat { .. }
            | StoreError::Closed => DataFault::Io,
        };
        let source = error.source();
        let message = source.map_or_else(|| error.to_string(), |why| format!("{error}: {why}"));
        Self { fault, message }
    }
}

/// An answer's body, all of it known.
#[derive(Debug, Default)]
pub(super) struct DataAnswer {
    pieces: VecDeque<Bytes>,
    left: u64,
    /// What the peer holds by it, until it is gone.
    _share: Option<Share>,
}

impl DataAnswer {
    pub(super) fn new(pieces: VecDeque<Bytes>) -> Self {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self {
            pieces,
            left,
            _share: None,
        }
    }

    /// Keeps a peer's share for as long as the answer.
    pub(super) fn holding(self, share: Share) -> Self {
        Self {
            _share: Some(share),
            ..self
        }
    }
}

impl Body for DataAnswer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn json(status: u16, body: &impl serde::Serialize) -> Response<DataAnswer> {
    let text = serde_json::to_vec(body).expect("numbers and texts");
    let mut response = Response::new(DataAnswer::new([Bytes::from(text)].into()));
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a constant");
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Says that a shard is durable.
pub(super) fn receipt(receipt: &Receipt) -> Response<DataAnswer> {
    let body = ReceiptBody {
        length: receipt.len,
        digest: digest_text(&receipt.digest),
        epoch: receipt.epoch.0,
    };
    json(200, &body)
}

/// Says why not.
pub(super) fn refusal(refused: &Refused) -> Response<DataAnswer> {
    let epoch = match refused.fault {
        DataFault::StaleEpoch { present } => present.map(|epoch| epoch.0),
        _ => None,
    };
    let body = ErrorBody {
        kind: refused.fault.name().to_owned(),
        message: refused.message.clone(),
        epoch,
    };
    let mut response = json(refused.fault.status().unwrap_or(500), &body);
    if refused.fault == DataFault::Timeout {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}
