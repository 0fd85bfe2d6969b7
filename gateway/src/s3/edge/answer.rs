//! Answers: status, headers and a body, as data until they are sent.

use super::xml::Xml;
use crate::ops::ports::Plaintext;
use bytes::Bytes;
use futures::Stream as _;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use megalith_blobs::GetError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// An answer's body.
pub enum AnswerBody {
    /// All bytes; None once they are taken.
    Whole(Option<Bytes>),
    /// An object's bytes. An error breaks the connection.
    Stream(Plaintext),
}

impl AnswerBody {
    /// Returns a body without bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::Whole(None)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = GetError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GetError>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(plaintext) => {
                let piece = ready!(Pin::new(plaintext).poll_next(cx));
                if let Some(Err(error)) = &piece {
                    tracing::error!(%error, "a body breaks off");
                }
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// An operation's answer.
pub(in crate::s3) struct Answer {
    pub(in crate::s3) status: StatusCode,
    pub(in crate::s3) headers: HeaderMap,
    pub(in crate::s3) body: AnswerBody,
}

impl Answer {
    /// Builds an answer without a body.
    pub(in crate::s3) fn new(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: AnswerBody::empty(),
        }
    }

    /// Returns 200 without a body.
    pub(in crate::s3) fn ok() -> Self {
        Self::new(StatusCode::OK)
    }

    /// Returns 204.
    pub(in crate::s3) fn no_content() -> Self {
        Self::new(StatusCode::NO_CONTENT)
    }

    /// Returns 200 with a document.
    pub(in crate::s3) fn xml(document: Xml) -> Self {
        Self::ok().with_xml(document)
    }

    pub(in crate::s3) fn with_xml(mut self, document: Xml) -> Self {
        let kind = HeaderValue::from_static("application/xml");
        self.headers.insert(CONTENT_TYPE, kind);
        self.body = AnswerBody::Whole(Some(document.into_bytes()));
        self
    }

    /// Adds a header. Leaves out a value that no header can carry; stored values came from headers,
    /// so they can be carried.
    pub(in crate::s3) fn header(mut self, name: impl Into<HeaderName>, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name.into(), value);
        }
        self
    }

    /// Adds a header if there is a value.
    pub(in crate::s3) fn header_if<V: AsRef<str>>(
        self,
        name: impl Into<HeaderName>,
        value: Option<V>,
    ) -> Self {
        match value {
            Some(value) => self.header(name, value.as_ref()),
            None => self,
        }
    }

    pub(in crate::s3) fn stream(mut self, plaintext: Plaintext) -> Self {
        self.body = AnswerBody::Stream(plaintext);
        self
    }

    pub(super) fn into_response(self) -> Response<AnswerBody> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
