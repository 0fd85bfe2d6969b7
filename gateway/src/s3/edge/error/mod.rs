//! Refusals and failures, as data until they are sent.

mod code;

pub(in crate::s3) use code::Code;

use super::answer::{Answer, AnswerBody};
use super::dates::http_date_ms;
use super::target::DecodedUrl;
use super::xml::{Malformed, Xml};
use crate::auth::CredentialError;
use crate::ops::checksum::Algorithm;
use crate::ops::{BodyError, OpError, PART_BYTES_MIN};
use http::header::{CONTENT_RANGE, ETAG, LAST_MODIFIED, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Response};
use std::borrow::Cow;

/// An S3 error.
#[derive(Debug)]
pub(in crate::s3) struct S3Error {
    code: Code,
    message: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What is to blame: elements of the document, and their texts.
    blamed: Vec<(&'static str, String)>,
}

/// What an error's document says besides the error itself.
pub(super) struct Details<'a> {
    pub(super) method: &'a Method,
    /// The path as the client sent it.
    pub(super) resource: &'a str,
    pub(super) request_id: &'a str,
    /// The URL, if it could be read and only it can be to blame.
    pub(super) url: Option<&'a DecodedUrl>,
}

impl Details<'_> {
    /// Returns which part of the URL an error is about, as an element and its text.
    fn culprit(&self, code: Code) -> Option<(&'static str, &str)> {
        let url = self.url?;
        let named = match code {
            Code::NoSuchBucket
            | Code::BucketNotEmpty
            | Code::BucketAlreadyExists
            | Code::BucketAlreadyOwnedByYou => ("BucketName", url.target.bucket()),
            Code::NoSuchKey => ("Key", url.target.key()),
            Code::NoSuchUpload => {
                let upload = url.query.iter().find(|(name, _)| name == "uploadId");
                ("UploadId", upload?.1.as_str())
            }
            _names_nothing => return None,
        };
        Some(named)
    }
}

impl From<Code> for S3Error {
    fn from(code: Code) -> Self {
        Self::new(code, code.sentence())
    }
}

impl S3Error {
    pub(in crate::s3) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            headers: Vec::new(),
            blamed: Vec::new(),
        }
    }

    pub(in crate::s3) fn invalid_argument(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(in crate::s3) fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidRequest, message)
    }

    /// Builds the error for something that isn't supported yet, by name.
    pub(in crate::s3) fn not_implemented(what: &str) -> Self {
        let sentence = Code::NotImplemented.sentence();
        Self::new(Code::NotImplemented, format!("{sentence}: {what}"))
    }

    /// Builds the error for a checksum that we can't compute.
    pub(in crate::s3) fn unsupported_checksum(what: &str) -> Self {
        let known = Algorithm::ALL.map(Algorithm::name).join(", ");
        Self::invalid_request(format!(
            "Checksum algorithm provided is unsupported: {what}. Please try again with any of the \
             valid types: [{known}]"
        ))
    }

    /// Names what is to blame in an element of the document.
    pub(in crate::s3) fn blame(mut self, element: &'static str, text: &str) -> Self {
        self.blamed.push((element, text.to_owned()));
        self
    }

    /// Names the argument that is to blame.
    pub(in crate::s3) fn argument(self, name: &str, value: &str) -> Self {
        self.blame("ArgumentName", name)
            .blame("ArgumentValue", value)
    }

    pub(in crate::s3) fn code(&self) -> Code {
        self.code
    }

    pub(in crate::s3) fn message(&self) -> &str {
        &self.message
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// Writes the error's answer.
    pub(super) fn into_response(self, details: &Details<'_>) -> Response<AnswerBody> {
        let mut answer = Answer::new(self.code.status());
        if self.code != Code::NotModified && *details.method != Method::HEAD {
            answer = answer.with_xml(self.document(details));
        }
        answer.headers.extend(self.headers);
        answer.into_response()
    }

    fn document(&self, details: &Details<'_>) -> Xml {
        Xml::plain("Error", |xml| {
            xml.text("Code", self.code.name());
            xml.text("Message", &self.message);
            if let Some((element, text)) = details.culprit(self.code) {
                xml.text(element, text);
            }
            for (element, text) in &self.blamed {
                xml.text(element, text);
            }
            xml.text("Resource", details.resource);
            xml.text("RequestId", details.request_id);
            xml.text("HostId", details.request_id);
        })
    }
}

impl From<Malformed> for S3Error {
    fn from(_: Malformed) -> Self {
        Code::MalformedXml.into()
    }
}

impl From<BodyError> for S3Error {
    fn from(error: BodyError) -> Self {
        OpError::from(error).into()
    }
}

impl From<CredentialError> for S3Error {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Unknown => Code::InvalidAccessKeyId.into(),
            // No line in the log: there may be thousands a second. A metric counts them.
            CredentialError::Busy => Code::SlowDown.into(),
            CredentialError::Unavailable(outage, why) => OpError::Unavailable(outage, why).into(),
        }
    }
}

impl From<OpError> for S3Error {
    fn from(error: OpError) -> Self {
        match &error {
            OpError::Damaged(_) | OpError::Internal(_) => {
                tracing::error!(%error, "a request failed");
            }
            OpError::SlowDown(_) | OpError::Unavailable(..) => {
                tracing::warn!(%error, "a request could not be served");
            }
            _of_the_request => {}
        }
        let code = code(&error);
        match error {
            OpError::NotModified { etag, modified_ms } => Self::from(code)
                .with(ETAG, &format!("\"{etag}\""))
                .with(LAST_MODIFIED, &http_date_ms(modified_ms)),
            OpError::InvalidRange { total } => {
                let error = Self::from(code).with(CONTENT_RANGE, &format!("bytes */{total}"));
                error.blame("ActualObjectSize", &total.to_string())
            }
            OpError::SlowDown(_) => Self::from(code).with(RETRY_AFTER, "1"),
            OpError::Unavailable(outage, _) => {
                let text = format!("{} {}", code.sentence(), outage.sentence());
                Self::new(code, text).with(RETRY_AFTER, "1")
            }
            OpError::InvalidArgument(text) | OpError::InvalidRequest(text) => Self::new(code, text),
            OpError::NotImplemented(what) => Self::not_implemented(what),
            OpError::BadDigest(what) => Self::new(
                code,
                format!("The {what} you specified did not match what we received."),
            ),
            OpError::PreconditionFailed(header) => {
                let error = Self::new(code, format!("{} ({header})", code.sentence()));
                error.blame("Condition", header)
            }
            OpError::EntityTooSmall { part, size } => {
                let error = Self::from(code).blame("ProposedSize", &size.to_string());
                let error = error.blame("MinSizeAllowed", &PART_BYTES_MIN.to_string());
                error.blame("PartNumber", &part.to_string())
            }
            _all_said_by_the_code => code.into(),
        }
    }
}

fn code(error: &OpError) -> Code {
    match error {
        OpError::AccessDenied => Code::AccessDenied,
        OpError::NoSuchBucket => Code::NoSuchBucket,
        OpError::BucketAlreadyOwnedByYou => Code::BucketAlreadyOwnedByYou,
        OpError::BucketAlreadyExists => Code::BucketAlreadyExists,
        OpError::BucketNotEmpty => Code::BucketNotEmpty,
        OpError::InvalidBucketName => Code::InvalidBucketName,
        OpError::NoSuchKey => Code::NoSuchKey,
        OpError::NoSuchVersion => Code::NoSuchVersion,
        OpError::NoSuchUpload => Code::NoSuchUpload,
        OpError::KeyTooLong => Code::KeyTooLong,
        OpError::PreconditionFailed(_) => Code::PreconditionFailed,
        OpError::NotModified { .. } => Code::NotModified,
        OpError::ConditionalConflict => Code::ConditionalRequestConflict,
        OpError::InvalidRange { .. } => Code::InvalidRange,
        OpError::InvalidPart => Code::InvalidPart,
        OpError::InvalidPartOrder => Code::InvalidPartOrder,
        OpError::InvalidPartNumber => Code::InvalidPartNumber,
        OpError::EntityTooSmall { .. } => Code::EntityTooSmall,
        OpError::EntityTooLarge => Code::EntityTooLarge,
        OpError::MissingContentLength => Code::MissingContentLength,
        OpError::IncompleteBody => Code::IncompleteBody,
        OpError::BodyTimeout => Code::RequestTimeout,
        OpError::BodySignature => Code::SignatureDoesNotMatch,
        OpError::BodySha256 => Code::XAmzContentSha256Mismatch,
        OpError::BodyMalformed => Code::MalformedTrailer,
        OpError::BadDigest(_) => Code::BadDigest,
        OpError::InvalidDigest => Code::InvalidDigest,
        OpError::MetadataTooLarge => Code::MetadataTooLarge,
        OpError::InvalidArgument(_) => Code::InvalidArgument,
        OpError::InvalidRequest(_) => Code::InvalidRequest,
        OpError::NotImplemented(_) => Code::NotImplemented,
        OpError::SlowDown(_) => Code::SlowDown,
        OpError::Unavailable(..) => Code::ServiceUnavailable,
        OpError::Damaged(_) | OpError::Internal(_) => Code::InternalError,
    }
}
