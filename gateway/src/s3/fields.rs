//! What the requests of several operations share: header tables and how they are read.

use super::edge::body::Incoming;
use super::edge::dates::parse_http_date;
use super::edge::error::{Code, S3Error};
use super::edge::request::Request;
use super::edge::route::Field::{self, Checks, Reads, Refuses};
use super::edge::target::is_bucket_name;
use crate::ops::checksum::{Algorithm, Claims, Value, parse_content_md5};
use crate::ops::conditions::{EtagMatch, IfRange, ReadConditions, WriteConditions};
use crate::ops::names::{KEY_BYTES_MAX, stored_content_encoding};
use crate::ops::{Body, CopySource, Description, OpError, Trailer, UploadName};
use megalith_crypto::manifest::{ChecksumType, ContentHeaders};
use megalith_sigv4::uri::decode;

/// Encryption keys that the client sends.
pub(super) const CUSTOMER_KEYS: &[Field] = &[
    Refuses("x-amz-server-side-encryption-customer-algorithm", "SSE-C"),
    Refuses("x-amz-server-side-encryption-customer-key", "SSE-C"),
    Refuses("x-amz-server-side-encryption-customer-key-md5", "SSE-C"),
];

/// Encryption keys that the client sends for the source of a copy.
pub(super) const SOURCE_CUSTOMER_KEYS: &[Field] = &[
    Refuses(
        "x-amz-copy-source-server-side-encryption-customer-algorithm",
        "SSE-C",
    ),
    Refuses(
        "x-amz-copy-source-server-side-encryption-customer-key",
        "SSE-C",
    ),
];

/// Grants to other accounts: there are none, as in a bucket of S3 whose owner owns all objects.
pub(super) const GRANTS: &[Field] = &[
    Checks("x-amz-grant-full-control", refuse_grant),
    Checks("x-amz-grant-read", refuse_grant),
    Checks("x-amz-grant-read-acp", refuse_grant),
    Checks("x-amz-grant-write-acp", refuse_grant),
];

/// S3's names for access lists that let others in.
pub(super) const OPEN_LISTS: [&str; 6] = [
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "log-delivery-write",
];

/// What no new object can have yet, or only with one value.
pub(super) const NEW_OBJECT: &[Field] = &[
    Refuses("x-amz-object-lock-legal-hold", "object lock"),
    Refuses("x-amz-object-lock-mode", "object lock"),
    Refuses("x-amz-object-lock-retain-until-date", "object lock"),
    Refuses("x-amz-server-side-encryption-aws-kms-key-id", "SSE-KMS"),
    Refuses("x-amz-server-side-encryption-context", "SSE-KMS"),
    Refuses(
        "x-amz-website-redirect-location",
        "x-amz-website-redirect-location",
    ),
    Refuses("x-amz-tagging", "x-amz-tagging"),
    Checks("x-amz-server-side-encryption", check_encryption),
    Checks("x-amz-storage-class", check_storage_class),
    Checks("x-amz-acl", check_acl),
];

/// Headers that describe an object. The user's metadata has other names.
pub(super) const DESCRIPTION: &[Field] = &[
    Reads("content-type"),
    Reads("content-encoding"),
    Reads("content-disposition"),
    Reads("content-language"),
    Reads("cache-control"),
    Reads("expires"),
];

pub(super) const CHECKSUMS: &[Field] = &[
    Reads("x-amz-checksum-crc32"),
    Reads("x-amz-checksum-crc32c"),
    Reads("x-amz-checksum-crc64nvme"),
    Reads("x-amz-checksum-sha1"),
    Reads("x-amz-checksum-sha256"),
];

/// Headers that describe a body.
pub(super) const BODY: &[Field] = &[
    Reads("content-md5"),
    Reads("x-amz-sdk-checksum-algorithm"),
    Reads("x-amz-trailer"),
];

pub(super) const WRITE_CONDITIONS: &[Field] = &[Reads("if-match"), Reads("if-none-match")];

pub(super) const READ_CONDITIONS: &[Field] = &[
    Reads("if-match"),
    Reads("if-none-match"),
    Reads("if-modified-since"),
    Reads("if-unmodified-since"),
    Reads("if-range"),
];

/// What to copy, and on which conditions.
pub(super) const COPY_SOURCE: &[Field] = &[
    Reads("x-amz-copy-source"),
    Reads("x-amz-copy-source-if-match"),
    Reads("x-amz-copy-source-if-none-match"),
    Reads("x-amz-copy-source-if-modified-since"),
    Reads("x-amz-copy-source-if-unmodified-since"),
];

/// Checks the requested encryption: every object is encrypted with our own keys, nothing else.
fn check_encryption(wish: &str) -> Result<(), S3Error> {
    match wish {
        "AES256" => Ok(()),
        "aws:kms" | "aws:kms:dsse" => Err(S3Error::not_implemented("x-amz-server-side-encryption")),
        _ => {
            let text = "The encryption method specified is not supported";
            Err(S3Error::invalid_argument(text))
        }
    }
}

fn check_storage_class(wish: &str) -> Result<(), S3Error> {
    match wish {
        "STANDARD" => Ok(()),
        _ => Err(Code::InvalidStorageClass.into()),
    }
}

/// Checks the requested access list: everything is private to its owner, and only lists that say so
/// are accepted.
fn check_acl(wish: &str) -> Result<(), S3Error> {
    match wish {
        "private" | "bucket-owner-full-control" => Ok(()),
        open if OPEN_LISTS.contains(&open) => Err(Code::AccessControlListNotSupported.into()),
        other => Err(unknown_acl(other)),
    }
}

/// Refuses an access list that S3 doesn't have.
pub(super) fn unknown_acl(wish: &str) -> S3Error {
    S3Error::from(Code::InvalidArgument).argument("x-amz-acl", wish)
}

fn refuse_grant(_: &str) -> Result<(), S3Error> {
    Err(Code::AccessControlListNotSupported.into())
}

/// Reads the headers that describe an object.
pub(super) fn description(request: &Request) -> Result<Description, S3Error> {
    let text = |name| Ok::<_, S3Error>(request.header(name)?.map(str::to_owned));
    let headers = ContentHeaders {
        content_type: text("content-type")?,
        content_encoding: stored_content_encoding(request.header("content-encoding")?),
        content_disposition: text("content-disposition")?,
        content_language: text("content-language")?,
        cache_control: text("cache-control")?,
        // Any text: `0` and `-1` are common, and say that the object has expired.
        expires: text("expires")?,
    };
    Ok(Description {
        headers,
        user_metadata: request.metadata()?,
    })
}

/// Reads a date as seconds since 1970.
fn date(request: &Request, name: &str) -> Result<Option<i64>, S3Error> {
    let invalid = || S3Error::invalid_argument(format!("invalid header: {name}"));
    request
        .header(name)?
        .map(|text| parse_http_date(text).ok_or_else(invalid))
        .transpose()
}

/// Reads an ETag with or without quotes, or `*`.
fn etag_match(request: &Request, name: &str) -> Result<Option<EtagMatch>, S3Error> {
    let Some(text) = request.header(name)? else {
        return Ok(None);
    };
    if text == "*" {
        return Ok(Some(EtagMatch::Any));
    }
    Ok(Some(EtagMatch::Etag(parse_etag(text).to_owned())))
}

/// Reads an ETag: `"…"`, `W/"…"` or any other text, which is an ETag that no object has.
fn parse_etag(text: &str) -> &str {
    let inner = |quoted: &'_ str| -> Option<usize> {
        let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
        Some(inner.len())
    };
    let quoted = text.strip_prefix("W/").unwrap_or(text);
    match inner(quoted) {
        Some(length) => &quoted[1..=length],
        None => text,
    }
}

/// Reads an ETag from a document: as in a header, but with both quotes or none.
pub(super) fn document_etag(text: &str) -> Option<String> {
    let etag = parse_etag(text);
    (!etag.starts_with('"')).then(|| etag.to_owned())
}

/// Reads an ETag or a date. RFC 9110, 13.1.5: a weak ETag is never the same as another one.
fn if_range(text: &str) -> IfRange {
    match parse_http_date(text) {
        Some(date) => IfRange::Date(date),
        None if text.starts_with("W/") => IfRange::Unclear,
        None => IfRange::Etag(parse_etag(text).to_owned()),
    }
}

pub(super) fn write_conditions(request: &Request) -> Result<WriteConditions, S3Error> {
    Ok(WriteConditions {
        if_match: etag_match(request, "if-match")?,
        if_none_match: etag_match(request, "if-none-match")?,
    })
}

pub(super) fn read_conditions(request: &Request) -> Result<ReadConditions, S3Error> {
    Ok(ReadConditions {
        if_match: etag_match(request, "if-match")?,
        if_none_match: etag_match(request, "if-none-match")?,
        if_modified_since: date(request, "if-modified-since")?,
        if_unmodified_since: date(request, "if-unmodified-since")?,
        if_range: request.header("if-range")?.map(if_range),
    })
}

/// Reads what to copy: `[/]bucket/key[?versionId=…]`, encoded.
pub(super) fn copy_source(request: &Request) -> Result<CopySource, S3Error> {
    let invalid = || S3Error::invalid_argument("invalid header: x-amz-copy-source");
    let text = request.header("x-amz-copy-source")?;
    let text = text.ok_or_else(|| S3Error::invalid_request("missing header: x-amz-copy-source"))?;
    let (path, version) = match text.split_once("?versionId=") {
        Some((path, version)) => (path, Some(version)),
        None => (text, None),
    };
    let path = decode(path).map_err(|_| invalid())?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    if path.starts_with("arn:") {
        return Err(S3Error::not_implemented("copying from an access point"));
    }
    let (bucket, key) = path.split_once('/').ok_or_else(invalid)?;
    if !is_bucket_name(bucket) || key.len() > KEY_BYTES_MAX {
        return Err(invalid());
    }
    let conditions = ReadConditions {
        if_match: etag_match(request, "x-amz-copy-source-if-match")?,
        if_none_match: etag_match(request, "x-amz-copy-source-if-none-match")?,
        if_modified_since: date(request, "x-amz-copy-source-if-modified-since")?,
        if_unmodified_since: date(request, "x-amz-copy-source-if-unmodified-since")?,
        if_range: None,
    };
    Ok(CopySource {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        version: version.map(decode).transpose().map_err(|_| invalid())?,
        conditions,
    })
}

/// Reads the checksums that headers claim, as the client wrote them.
pub(super) fn checksum_texts(request: &Request) -> Result<Vec<(Algorithm, String)>, S3Error> {
    let mut texts = Vec::new();
    for algorithm in Algorithm::ALL {
        if let Some(text) = request.header(algorithm.header())? {
            texts.push((algorithm, text.to_owned()));
        }
    }
    Ok(texts)
}

/// Reads an algorithm's name.
pub(super) fn algorithm(text: &str) -> Result<Algorithm, S3Error> {
    Algorithm::parse(text).ok_or_else(|| S3Error::unsupported_checksum(text))
}

/// Reads what a checksum covers.
pub(super) fn covers(request: &Request) -> Result<Option<ChecksumType>, S3Error> {
    match request.header("x-amz-checksum-type")? {
        None => Ok(None),
        Some("FULL_OBJECT") => Ok(Some(ChecksumType::FullObject)),
        Some("COMPOSITE") => Ok(Some(ChecksumType::Composite)),
        Some(_) => {
            let text = "Value for x-amz-checksum-type header is invalid.";
            Err(S3Error::invalid_argument(text))
        }
    }
}

/// Takes an object's or part's bytes, and the claims about them.
pub(super) fn body(request: &mut Request) -> Result<Body, S3Error> {
    let md5 = request.header("content-md5")?;
    let md5 = md5.map(parse_content_md5).transpose()?;
    let checksums: Vec<Value> = checksum_texts(request)?
        .into_iter()
        .map(|(algorithm, text)| Value::parse(algorithm, &text))
        .collect::<Result<_, OpError>>()?;
    let len = request.body_length()?;
    let wanted = request.header("x-amz-sdk-checksum-algorithm")?;
    // Computed even if the client sends no value.
    let wanted = wanted.map(algorithm).transpose()?;
    let incoming = request.take_body().ok_or(Code::InternalError)?;
    let announced = incoming.announced().to_vec();
    if checksums.len() + announced.len() > 1 {
        return Err(S3Error::invalid_request(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        ));
    }
    let claimed = checksums.iter().map(|value| value.algorithm);
    let mut given = claimed.chain(announced.iter().copied());
    if wanted.is_some_and(|wanted| given.any(|given| given != wanted)) {
        let text = "Value for x-amz-sdk-checksum-algorithm header is invalid.";
        return Err(S3Error::invalid_request(text));
    }
    Ok(Body {
        len,
        claims: Claims { md5, checksums },
        trailer: trailer(&incoming, announced),
        wanted: wanted.into_iter().collect(),
        source: incoming.into_source(),
        copied: false,
    })
}

/// Returns how to take the checksums that follow the body.
fn trailer(incoming: &Incoming, algorithms: Vec<Algorithm>) -> Option<Trailer> {
    if algorithms.is_empty() {
        return None;
    }
    let (trailers, announced) = (incoming.trailers(), algorithms.clone());
    let take = move || {
        let trailers = trailers.get().ok_or(OpError::BodyMalformed)?;
        let value = |algorithm: Algorithm| {
            let mut found = trailers
                .iter()
                .filter(|(name, _)| name == algorithm.header());
            let (_, text) = found.next().ok_or(OpError::BodyMalformed)?;
            Value::parse(algorithm, text)
        };
        announced.into_iter().map(value).collect()
    };
    Some(Trailer {
        algorithms,
        take: Box::new(take),
    })
}

/// Reads which upload the request names.
pub(super) fn upload_name(request: &Request) -> Result<UploadName, S3Error> {
    let missing = || S3Error::invalid_request("missing query: uploadId");
    Ok(UploadName {
        bucket: request.bucket(),
        key: request.key(),
        upload: request.query_text("uploadId")?.ok_or_else(missing)?,
    })
}

/// Reads a part's number; the core checks it.
pub(super) fn part_number(request: &Request) -> Result<i64, S3Error> {
    let missing = || S3Error::invalid_request("missing query: partNumber");
    let number: Option<i32> = request.parsed_query("partNumber")?;
    number.map(i64::from).ok_or_else(missing)
}

/// Reads a count such as `max-keys`.
pub(super) fn count(name: &str, value: Option<i32>, default: u32) -> Result<u32, S3Error> {
    match value {
        None => Ok(default),
        Some(value) => u32::try_from(value).map_err(|_| {
            let text = format!("Argument {name} must be an integer ≥ 0");
            S3Error::invalid_argument(text).argument(name, &value.to_string())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags() {
        let check = |text: &str, expected: &str| {
            assert_eq!(parse_etag(text), expected, "{text}");
        };
        check("\"ab-1\"", "ab-1");
        check("W/\"ab\"", "ab");
        check("ab-1", "ab-1");
        check("\"\"", "");
        for odd in ["", "\"", "\"ab", "ab\"", "a b", "W/ab", "ü"] {
            check(odd, odd);
        }
        assert_eq!(document_etag("\"ab"), None);
        assert_eq!(document_etag("ab"), Some("ab".to_owned()));
    }
}
