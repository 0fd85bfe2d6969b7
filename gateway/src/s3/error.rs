//! Errors of operations as S3 errors.

use crate::ops::OpError;
use http::header::{CONTENT_RANGE, ETAG, LAST_MODIFIED, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::dto::{Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode};
use std::time::{Duration, UNIX_EPOCH};

/// Turns an operation's error into S3's.
pub(super) fn s3_error(error: OpError) -> S3Error {
    let code = code(&error);
    let Some(message) = message(&error) else {
        return S3Error::new(code);
    };
    let mut answer = S3Error::with_message(code, message);
    match error {
        OpError::NotModified { etag, modified_ms } => {
            let mut headers = HeaderMap::new();
            insert(&mut headers, ETAG, &format!("\"{etag}\""));
            insert(&mut headers, LAST_MODIFIED, &http_date(modified_ms));
            answer.set_headers(headers);
        }
        OpError::InvalidRange { total } => {
            let mut headers = HeaderMap::new();
            insert(&mut headers, CONTENT_RANGE, &format!("bytes */{total}"));
            answer.set_headers(headers);
        }
        OpError::InvalidPartNumber => {
            answer.set_status_code(StatusCode::RANGE_NOT_SATISFIABLE);
        }
        OpError::SlowDown(_) | OpError::Unavailable(_) => {
            let mut headers = HeaderMap::new();
            insert(&mut headers, RETRY_AFTER, "1");
            answer.set_headers(headers);
            tracing::warn!(%error, "a request could not be served");
        }
        OpError::Damaged(_) | OpError::Internal(_) => {
            tracing::error!(%error, "a request failed");
        }
        OpError::BodySha256 | OpError::BodyMalformed => {
            answer.set_status_code(StatusCode::BAD_REQUEST);
        }
        _ => {}
    }
    answer
}

fn code(error: &OpError) -> S3ErrorCode {
    use S3ErrorCode as Code;
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
        OpError::KeyTooLong => Code::KeyTooLongError,
        OpError::PreconditionFailed(_) => Code::PreconditionFailed,
        OpError::NotModified { .. } => Code::NotModified,
        OpError::ConditionalConflict => Code::ConditionalRequestConflict,
        OpError::InvalidRange { .. } => Code::InvalidRange,
        OpError::InvalidPart => Code::InvalidPart,
        OpError::InvalidPartOrder => Code::InvalidPartOrder,
        OpError::InvalidPartNumber => Code::Custom("InvalidPartNumber".into()),
        OpError::EntityTooSmall { .. } => Code::EntityTooSmall,
        OpError::EntityTooLarge => Code::EntityTooLarge,
        OpError::MissingContentLength => Code::MissingContentLength,
        OpError::IncompleteBody => Code::IncompleteBody,
        OpError::BodyTimeout => Code::RequestTimeout,
        OpError::BodySignature => Code::SignatureDoesNotMatch,
        OpError::BodySha256 => Code::Custom("XAmzContentSHA256Mismatch".into()),
        OpError::BodyMalformed => Code::Custom("MalformedTrailerError".into()),
        OpError::BadDigest(_) => Code::BadDigest,
        OpError::InvalidDigest => Code::InvalidDigest,
        OpError::MetadataTooLarge => Code::MetadataTooLarge,
        OpError::InvalidArgument(_) => Code::InvalidArgument,
        OpError::InvalidRequest(_) => Code::InvalidRequest,
        OpError::NotImplemented(_) => Code::NotImplemented,
        OpError::SlowDown(_) => Code::SlowDown,
        OpError::Unavailable(_) => Code::ServiceUnavailable,
        OpError::Damaged(_) | OpError::Internal(_) => Code::InternalError,
    }
}

/// What S3 says with an error that s3s raises by its code alone.
pub(super) fn sentence(code: &str) -> &'static str {
    match code {
        "InvalidBucketName" => "The specified bucket is not valid.",
        "KeyTooLongError" => "Your key is too long",
        "InvalidURI" => "Couldn't parse the specified URI.",
        "MethodNotAllowed" => "The specified method is not allowed against this resource.",
        "NotImplemented" => {
            "A header or operation you provided implies functionality that is not implemented"
        }
        "SignatureDoesNotMatch" => {
            "The request signature we calculated does not match the signature you provided. \
             Check your key and signing method."
        }
        "InvalidAccessKeyId" => "The AWS Access Key Id you provided does not exist in our records.",
        "MalformedXML" => {
            "The XML you provided was not well-formed or did not validate against our published \
             schema"
        }
        "MissingRequestBodyError" => "Request Body is empty",
        "IncompleteBody" => {
            "You did not provide the number of bytes specified by the Content-Length HTTP header"
        }
        "InternalError" => "We encountered an internal error. Please try again.",
        _ => "The request could not be served.",
    }
}

/// S3's words; none where the code says it all.
fn message(error: &OpError) -> Option<String> {
    let fixed = match error {
        OpError::AccessDenied => "Access Denied",
        OpError::NoSuchBucket
        | OpError::BucketAlreadyOwnedByYou
        | OpError::BucketAlreadyExists
        | OpError::BucketNotEmpty
        | OpError::InvalidBucketName => bucket_message(error),
        OpError::NoSuchKey => "The specified key does not exist.",
        OpError::NoSuchVersion => "The specified version does not exist.",
        OpError::NoSuchUpload => {
            "The specified upload does not exist. The upload ID may be invalid, or the upload may \
             have been aborted or completed."
        }
        OpError::KeyTooLong => "Your key is too long",
        OpError::PreconditionFailed(header) => {
            return Some(format!(
                "At least one of the pre-conditions you specified did not hold ({header})"
            ));
        }
        OpError::NotModified { .. } => "Not Modified",
        OpError::ConditionalConflict => {
            "A conflicting operation occurred. If using PutObject you can retry the request."
        }
        OpError::InvalidRange { .. } => "The requested range is not satisfiable",
        OpError::InvalidPart => {
            "One or more of the specified parts could not be found. The part may not have been \
             uploaded, or the specified entity tag may not match the part's entity tag."
        }
        OpError::InvalidPartOrder => {
            "The list of parts was not in ascending order. Parts must be ordered by part number."
        }
        OpError::InvalidPartNumber => "The requested partnumber is not satisfiable",
        OpError::EntityTooSmall { .. } => {
            "Your proposed upload is smaller than the minimum allowed size"
        }
        OpError::EntityTooLarge => "Your proposed upload exceeds the maximum allowed size",
        OpError::MissingContentLength
        | OpError::IncompleteBody
        | OpError::BodyTimeout
        | OpError::BodySignature
        | OpError::BodySha256
        | OpError::BodyMalformed
        | OpError::InvalidDigest => body_message(error),
        OpError::BadDigest(what) => {
            return Some(format!(
                "The {what} you specified did not match what we received."
            ));
        }
        OpError::MetadataTooLarge => {
            "Your metadata headers exceed the maximum allowed metadata size"
        }
        OpError::InvalidArgument(text) | OpError::InvalidRequest(text) => {
            return Some(text.clone());
        }
        OpError::NotImplemented(what) => {
            return Some(format!(
                "A header or operation you provided implies functionality that is not \
                 implemented: {what}"
            ));
        }
        OpError::SlowDown(_) => "Please reduce your request rate.",
        OpError::Unavailable(_) => "Service is unable to handle request.",
        OpError::Damaged(_) | OpError::Internal(_) => {
            "We encountered an internal error. Please try again."
        }
    };
    Some(fixed.to_owned())
}

/// S3's words about a bucket.
fn bucket_message(error: &OpError) -> &'static str {
    match error {
        OpError::NoSuchBucket => "The specified bucket does not exist",
        OpError::BucketAlreadyOwnedByYou => {
            "Your previous request to create the named bucket succeeded and you already own it."
        }
        OpError::BucketAlreadyExists => {
            "The requested bucket name is not available. Please select a different name and try \
             again."
        }
        OpError::BucketNotEmpty => "The bucket you tried to delete is not empty",
        OpError::InvalidBucketName => "The specified bucket is not valid.",
        _ => "The specified bucket was refused.",
    }
}

/// S3's words about a body.
fn body_message(error: &OpError) -> &'static str {
    match error {
        OpError::MissingContentLength => "You must provide the Content-Length HTTP header.",
        OpError::IncompleteBody => {
            "You did not provide the number of bytes specified by the Content-Length HTTP header"
        }
        OpError::BodyTimeout => {
            "Your socket connection to the server was not read from or written to within the \
             timeout period."
        }
        OpError::BodySignature => {
            "The request signature we calculated does not match the signature you provided."
        }
        OpError::BodySha256 => {
            "The provided 'x-amz-content-sha256' header does not match what was computed."
        }
        OpError::BodyMalformed => "The request contained malformed chunks or trailing headers.",
        OpError::InvalidDigest => "The Content-MD5 you specified is not valid.",
        _ => "The request's body was refused.",
    }
}

fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A time as S3's type has it.
pub(super) fn timestamp(time_ms: u64) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_millis(time_ms))
}

fn http_date(time_ms: u64) -> String {
    let mut text = Vec::new();
    let written = timestamp(time_ms).format(TimestampFormat::HttpDate, &mut text);
    written
        .map(|()| String::from_utf8_lossy(&text).into_owned())
        .unwrap_or_default()
}
