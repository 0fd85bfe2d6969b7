//! What reading an object's bytes and reading its description share.

use crate::ops::range::RangeWish;
use crate::ops::{FoundObject, GetOutput, GetRequest};
use crate::s3::edge::answer::Answer;
use crate::s3::edge::dates::{http_date, http_date_ms, parse_http_date};
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::Field;
use crate::s3::edge::words;
use crate::s3::fields::{CUSTOMER_KEYS, READ_CONDITIONS, read_conditions};
use crate::s3::show::{
    ENCRYPTION, X_AMZ_ENCRYPTION, checksum_headers, checksum_type_header, quoted,
};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED,
};
use http::{HeaderName, HeaderValue, StatusCode};
use megalith_crypto::manifest::Checksum;

/// The content type of an object without one.
const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// Parameters that both may have.
pub(super) const QUERY: &[&str] = &[
    "partNumber",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "versionId",
];

pub(super) const HEADERS: &[&[Field]] = &[
    CUSTOMER_KEYS,
    READ_CONDITIONS,
    &[Field::Reads("range"), Field::Reads("x-amz-checksum-mode")],
];

/// What to read.
pub(super) struct Reading {
    pub(super) get: GetRequest,
    with_checksums: bool,
}

impl Reading {
    pub(super) fn read(request: &Request) -> Result<Self, S3Error> {
        let range = request.header("range")?.and_then(parse_range);
        Ok(Self {
            with_checksums: request.header("x-amz-checksum-mode")? == Some("ENABLED"),
            get: GetRequest {
                bucket: request.bucket(),
                key: request.key(),
                version: request.query_text("versionId")?,
                conditions: read_conditions(request)?,
                range,
                part_number: part_number(request)?,
            },
        })
    }

    /// Writes the headers that describe the object.
    pub(super) fn describe(&self, got: &GetOutput) -> Answer {
        let found = &got.found;
        let headers = &found.manifest.headers;
        let content_type = headers.content_type.as_deref();
        let range = content_range(got);
        let status = match &range {
            Some(_) => StatusCode::PARTIAL_CONTENT,
            None => StatusCode::OK,
        };
        let length = got.bytes.end - got.bytes.start;
        let parts = self.get.part_number.and_then(|_| found.parts());
        let parts = parts.map(|parts| parts.len().to_string());
        let answer = Answer::new(status)
            .header(ACCEPT_RANGES, "bytes")
            .header(CONTENT_LENGTH, &length.to_string())
            .header(CONTENT_TYPE, content_type.unwrap_or(DEFAULT_CONTENT_TYPE))
            .header(ETAG, &quoted(&found.etag))
            .header(LAST_MODIFIED, &http_date_ms(found.modified_ms))
            .header(X_AMZ_ENCRYPTION, ENCRYPTION)
            .header_if(CACHE_CONTROL, headers.cache_control.as_deref())
            .header_if(CONTENT_DISPOSITION, headers.content_disposition.as_deref())
            .header_if(CONTENT_ENCODING, headers.content_encoding.as_deref())
            .header_if(CONTENT_LANGUAGE, headers.content_language.as_deref())
            .header_if(CONTENT_RANGE, range)
            .header_if(EXPIRES, headers.expires.as_deref())
            .header_if(HeaderName::from_static("x-amz-mp-parts-count"), parts);
        let answer = metadata(answer, found);
        if self.with_checksums {
            let shown = shown_checksums(got, self.get.part_number);
            checksum_headers(checksum_type_header(answer, &shown), &shown)
        } else {
            answer
        }
    }
}

/// Headers of the answer that the client overrides.
pub(super) struct Overrides(Vec<(HeaderName, HeaderValue)>);

impl Overrides {
    pub(super) fn read(request: &Request) -> Result<Self, S3Error> {
        let mut overrides = Vec::new();
        for (name, parameter) in [
            (CONTENT_TYPE, "response-content-type"),
            (CONTENT_LANGUAGE, "response-content-language"),
            (CACHE_CONTROL, "response-cache-control"),
            (CONTENT_DISPOSITION, "response-content-disposition"),
            (CONTENT_ENCODING, "response-content-encoding"),
        ] {
            if let Some(text) = request.query(parameter)? {
                let invalid = |_| S3Error::invalid_request(format!("invalid query: {parameter}"));
                overrides.push((name, HeaderValue::from_str(text).map_err(invalid)?));
            }
        }
        if let Some(text) = request.query("response-expires")? {
            let invalid = || S3Error::invalid_argument("invalid query: response-expires");
            let seconds = parse_http_date(text).ok_or_else(invalid)?;
            let value = HeaderValue::from_str(&http_date(seconds)).map_err(|_| invalid())?;
            overrides.push((EXPIRES, value));
        }
        Ok(Self(overrides))
    }

    pub(super) fn apply(self, mut answer: Answer) -> Answer {
        for (name, value) in self.0 {
            answer.headers.insert(name, value);
        }
        answer
    }
}

/// Reads a `Range` header of one range of bytes. For any other text S3 serves the whole object.
fn parse_range(text: &str) -> Option<RangeWish> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    match (first, last) {
        ("", last) => number(last).map(RangeWish::Suffix),
        (first, "") => number(first).map(|first| RangeWish::From { first, last: None }),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            let last = Some(last).filter(|last| first <= *last)?;
            Some(RangeWish::From {
                first,
                last: Some(last),
            })
        }
    }
}

/// Returns the checksums of exactly the bytes returned: the object's, a part's, or none for a
/// range. A part's is said to be of the object's type, as in S3.
fn shown_checksums(got: &GetOutput, part: Option<u32>) -> Vec<Checksum> {
    match (got.partial, part) {
        (false, _) => got.found.manifest.checksums.clone(),
        (true, None) => Vec::new(),
        (true, Some(number)) => match got.found.parts() {
            None => got.found.manifest.checksums.clone(),
            Some(parts) => {
                let covers = got.found.manifest.checksums.first().map(|sum| sum.covers);
                let part = parts.into_iter().find(|part| part.number == number);
                let mut checksums = part.map_or_else(Vec::new, |part| part.checksums);
                for checksum in &mut checksums {
                    checksum.covers = covers.unwrap_or(checksum.covers);
                }
                checksums
            }
        },
    }
}

fn content_range(got: &GetOutput) -> Option<String> {
    // An empty part of an empty object has no first byte to name.
    (got.partial && !got.bytes.is_empty()).then(|| {
        let (first, last) = (got.bytes.start, got.bytes.end - 1);
        format!("bytes {first}-{last}/{}", got.found.size)
    })
}

fn metadata(answer: Answer, found: &FoundObject) -> Answer {
    let entries = found.manifest.user_metadata.iter();
    entries.fold(answer, |answer, (key, value)| match HeaderName::from_bytes(
        format!("x-amz-meta-{key}").as_bytes(),
    ) {
        Ok(name) => answer.header(name, &words::encode(value)),
        Err(_) => answer,
    })
}

fn part_number(request: &Request) -> Result<Option<u32>, S3Error> {
    let number: Option<i32> = request.parsed_query("partNumber")?;
    let Some(number) = number else {
        return Ok(None);
    };
    match u32::try_from(number) {
        Ok(number @ 1..=10_000) => Ok(Some(number)),
        Ok(_) | Err(_) => {
            let text = "Part number must be an integer between 1 and 10000, inclusive";
            Err(S3Error::invalid_argument(text).argument("partNumber", &number.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_one_range_of_bytes() {
        let from = |first, last| Some(RangeWish::From { first, last });
        let check = |text: &str, expected| assert_eq!(parse_range(text), expected, "{text}");
        check("bytes=0-0", from(0, Some(0)));
        check("bytes=5-", from(5, None));
        check("bytes=-5", Some(RangeWish::Suffix(5)));
        check("bytes=-0", Some(RangeWish::Suffix(0)));
        check("bytes=0-99999999999999999999", from(0, Some(u64::MAX)));
        for bad in [
            "bytes=5-2",
            "bytes=0-1,4-5",
            "bytes=",
            "bytes=-",
            "0-5",
            "items=0-5",
            "bytes=a-b",
            "bytes=+1-2",
        ] {
            check(bad, None);
        }
    }
}
