//! Small conversions between s3s's types and ours.

use super::error::{s3_error, timestamp};
use crate::ops::checksum::{Algorithm, Value};
use crate::ops::conditions::EtagMatch;
use crate::ops::range::RangeWish;
use crate::ops::{Caller, OpError};
use megalith_crypto::manifest::ChecksumType as Covers;
use s3s::dto::{
    ChecksumType, ETag, ETagCondition, Initiator, Owner, Range, ServerSideEncryption, Timestamp,
    TimestampFormat,
};
use s3s::{S3Error, S3Result};

/// Writes checksums into the five fields of an answer.
macro_rules! set_checksums {
    ($target:expr, $checksums:expr) => {
        for checksum in $checksums {
            let value = Some(checksum.value.clone());
            match $crate::ops::checksum::Algorithm::parse(&checksum.algorithm) {
                Some($crate::ops::checksum::Algorithm::Crc32) => $target.checksum_crc32 = value,
                Some($crate::ops::checksum::Algorithm::Crc32c) => $target.checksum_crc32c = value,
                Some($crate::ops::checksum::Algorithm::Crc64Nvme) => {
                    $target.checksum_crc64nvme = value;
                }
                Some($crate::ops::checksum::Algorithm::Sha1) => $target.checksum_sha1 = value,
                Some($crate::ops::checksum::Algorithm::Sha256) => $target.checksum_sha256 = value,
                None => {}
            }
        }
    };
}

/// Reads the five checksum fields of a request.
macro_rules! checksum_texts {
    ($input:expr) => {
        [
            (
                $crate::ops::checksum::Algorithm::Crc32,
                $input.checksum_crc32.clone(),
            ),
            (
                $crate::ops::checksum::Algorithm::Crc32c,
                $input.checksum_crc32c.clone(),
            ),
            (
                $crate::ops::checksum::Algorithm::Crc64Nvme,
                $input.checksum_crc64nvme.clone(),
            ),
            (
                $crate::ops::checksum::Algorithm::Sha1,
                $input.checksum_sha1.clone(),
            ),
            (
                $crate::ops::checksum::Algorithm::Sha256,
                $input.checksum_sha256.clone(),
            ),
        ]
        .into_iter()
        .filter_map(|(algorithm, text)| Some((algorithm, text?)))
    };
}
pub(super) use {checksum_texts, set_checksums};

/// Reads claimed checksums.
pub(super) fn values(
    texts: impl Iterator<Item = (Algorithm, String)>,
) -> Result<Vec<Value>, OpError> {
    texts
        .map(|(algorithm, text)| Value::parse(algorithm, &text))
        .collect()
}

pub(super) fn etag(text: &str) -> Option<ETag> {
    Some(ETag::Strong(text.to_owned()))
}

pub(super) fn etag_match(condition: Option<ETagCondition>) -> Option<EtagMatch> {
    Some(match condition? {
        ETagCondition::Any => EtagMatch::Any,
        ETagCondition::ETag(etag) => EtagMatch::Etag(etag.into_value()),
    })
}

pub(super) fn seconds(date: Option<Timestamp>) -> Option<i64> {
    Some(time::OffsetDateTime::from(date?).unix_timestamp())
}

pub(super) fn range(range: Option<Range>) -> Option<RangeWish> {
    Some(match range? {
        Range::Int { first, last } => RangeWish::From { first, last },
        Range::Suffix { length } => RangeWish::Suffix(length),
    })
}

/// An `Expires` header as it is kept.
pub(super) fn expires_text(expires: Option<Timestamp>) -> Option<String> {
    let mut text = Vec::new();
    expires?.format(TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

pub(super) fn expires(text: Option<&String>) -> Option<Timestamp> {
    Timestamp::parse(TimestampFormat::HttpDate, text?).ok()
}

pub(super) fn checksum_type(covers: Option<Covers>) -> Option<ChecksumType> {
    Some(ChecksumType::from_static(match covers? {
        Covers::FullObject => ChecksumType::FULL_OBJECT,
        Covers::Composite => ChecksumType::COMPOSITE,
    }))
}

pub(super) fn covers(text: Option<&ChecksumType>) -> S3Result<Option<Covers>> {
    match text.map(ChecksumType::as_str) {
        None => Ok(None),
        Some(ChecksumType::FULL_OBJECT) => Ok(Some(Covers::FullObject)),
        Some(ChecksumType::COMPOSITE) => Ok(Some(Covers::Composite)),
        Some(_) => Err(invalid_argument(
            "Value for x-amz-checksum-type header is invalid.",
        )),
    }
}

pub(super) fn algorithm(text: Option<&s3s::dto::ChecksumAlgorithm>) -> S3Result<Option<Algorithm>> {
    let Some(text) = text else { return Ok(None) };
    Algorithm::parse(text.as_str()).map(Some).ok_or_else(|| {
        s3_error(OpError::InvalidRequest(
            "Checksum algorithm provided is unsupported.".to_owned(),
        ))
    })
}

/// What every object is encrypted with, as S3 names it.
pub(super) fn encryption() -> Option<ServerSideEncryption> {
    Some(ServerSideEncryption::from_static(
        ServerSideEncryption::AES256,
    ))
}

/// An account as S3 shows owners.
pub(super) fn owner_id(caller: Caller) -> String {
    format!("{:064x}", caller.account.0)
}

/// An account as `x-amz-expected-bucket-owner` names it: 12 decimal digits.
pub(super) fn account_number(caller: Caller) -> String {
    format!("{:012}", caller.account.0)
}

pub(super) fn owner(caller: Caller) -> Option<Owner> {
    Some(Owner {
        display_name: None,
        id: Some(owner_id(caller)),
    })
}

pub(super) fn initiator(caller: Caller) -> Option<Initiator> {
    Some(Initiator {
        display_name: None,
        id: Some(owner_id(caller)),
    })
}

pub(super) fn moment(time_ms: u64) -> Option<Timestamp> {
    Some(timestamp(time_ms))
}

/// A size as S3's signed type has it; ours end far below its limit.
pub(super) fn size(bytes: u64) -> Option<i64> {
    i64::try_from(bytes).ok()
}

pub(super) fn invalid_argument(text: &str) -> S3Error {
    s3_error(OpError::InvalidArgument(text.to_owned()))
}

/// Reads a count such as `max-keys`.
pub(super) fn count(name: &str, value: Option<i32>, default: u32) -> S3Result<u32> {
    match value {
        None => Ok(default),
        Some(value) => u32::try_from(value)
            .map_err(|_| invalid_argument(&format!("Argument {name} must be an integer ≥ 0"))),
    }
}

/// Writes keys and prefixes as `encoding-type` wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Url,
}

impl Encoding {
    pub(super) fn parse(wish: Option<&s3s::dto::EncodingType>) -> S3Result<Self> {
        match wish.map(s3s::dto::EncodingType::as_str) {
            None => Ok(Self::Plain),
            Some("url") => Ok(Self::Url),
            Some(_) => Err(invalid_argument(
                "Invalid Encoding Method specified in Request",
            )),
        }
    }

    /// Writes a key; slashes stay as they are.
    pub(super) fn text(self, key: &str) -> String {
        match self {
            Self::Plain => key.to_owned(),
            Self::Url => {
                let mut text = String::with_capacity(key.len());
                for byte in key.bytes() {
                    if byte.is_ascii_alphanumeric() || b"-_.~/*".contains(&byte) {
                        text.push(char::from(byte));
                    } else {
                        text.push_str(&format!("%{byte:02X}"));
                    }
                }
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_encoding_keeps_slashes() {
        assert_eq!(
            Encoding::Url.text("a/b c+d&ü\n.txt"),
            "a/b%20c%2Bd%26%C3%BC%0A.txt"
        );
        assert_eq!(Encoding::Plain.text("a b"), "a b");
    }

    #[test]
    fn expires_survives() {
        let text = "Wed, 21 Oct 2015 07:28:00 GMT".to_owned();
        assert_eq!(expires_text(expires(Some(&text))), Some(text));
    }
}
