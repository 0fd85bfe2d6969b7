//! The gate before s3s: what is refused before a signature is even checked.
//!
//! s3s verifies signatures; this closes what it leaves open: signature version 2, forms, scopes
//! of other regions and services, presigned URLs of more than a week, two ways of signing at
//! once, and `x-amz-*` headers that nobody signed. Reads only the head of a request.

use crate::ops::checksum::Algorithm;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use s3s::{S3Error, S3ErrorCode};

/// Longest life of a presigned URL: a week, in seconds.
pub const PRESIGNED_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// How the body of a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Plain,
    /// aws-chunked, every chunk signed.
    SignedChunks,
    /// aws-chunked, unsigned, with trailers.
    UnsignedChunks,
}

/// What was signed, as the request says.
#[derive(Debug, PartialEq, Eq)]
struct Scope {
    region: String,
    service: String,
    signed_headers: Vec<String>,
}

/// Checks the head of a request.
///
/// # Errors
/// S3's own for each thing refused.
pub fn check(head: &Parts, region: &str) -> Result<Framing, S3Error> {
    let query = query_pairs(head.uri.query().unwrap_or_default());
    let in_query = |name: &str| query.iter().any(|(found, _)| found == name);
    let authorization = head
        .headers
        .get(header::AUTHORIZATION)
        .map(|value| value.as_bytes());

    if is_form(head) {
        return Err(error(S3ErrorCode::NotImplemented, "POST uploads by form"));
    }
    let old_header = authorization.is_some_and(|text| text.starts_with(b"AWS "));
    if old_header || in_query("Signature") || in_query("AWSAccessKeyId") {
        return Err(error(
            S3ErrorCode::InvalidRequest,
            "The authorization mechanism you have provided is not supported. Please use \
             AWS4-HMAC-SHA256.",
        ));
    }
    let presigned = query
        .iter()
        .any(|(name, _)| name.starts_with("X-Amz-Signature"));
    if presigned && authorization.is_some() {
        return Err(error(
            S3ErrorCode::InvalidArgument,
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature \
             query string parameter or the Authorization header should be specified",
        ));
    }
    if head.headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return Err(error(
            S3ErrorCode::InvalidArgument,
            "Only one auth mechanism allowed",
        ));
    }
    let scope = if presigned {
        check_lifetime(&query)?;
        Some(query_scope(&query)?)
    } else if let Some(text) = authorization {
        Some(header_scope(text)?)
    } else {
        None
    };
    if in_query("X-Amz-Security-Token") || head.headers.contains_key("x-amz-security-token") {
        // There are no temporary credentials, so that nobody can have been given one.
        return Err(error(
            S3ErrorCode::InvalidToken,
            "The provided token is malformed or otherwise invalid.",
        ));
    }
    if let Some(scope) = scope {
        check_scope(&scope, region, presigned)?;
        check_signed(&scope, &head.headers)?;
    }
    check_headers(&head.headers)?;
    Ok(framing(&head.headers))
}

/// Returns whether a `Range` header is one range of bytes. S3 serves the whole object for any
/// other text.
#[must_use]
pub fn is_range(text: &[u8]) -> bool {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let text = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.strip_prefix("bytes="));
    let Some((first, last)) = text.and_then(|text| text.split_once('-')) else {
        return false;
    };
    match (first, last) {
        ("", last) => number(last).is_some(),
        (first, "") => number(first).is_some(),
        (first, last) => number(first)
            .zip(number(last))
            .is_some_and(|(first, last)| first <= last),
    }
}

/// Checks headers that s3s passes over where they are empty or malformed.
fn check_headers(headers: &HeaderMap) -> Result<(), S3Error> {
    let is_empty = |name: &str| headers.get(name).is_some_and(|value| value.is_empty());
    if let Some(hash) = headers.get("x-amz-content-sha256")
        && !is_payload_hash(hash.as_bytes())
    {
        return Err(error(
            S3ErrorCode::InvalidArgument,
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
             STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a \
             valid sha256 value.",
        ));
    }
    if Algorithm::ALL
        .iter()
        .any(|algorithm| is_empty(algorithm.header()))
    {
        return Err(error(
            S3ErrorCode::InvalidRequest,
            "Value for x-amz-checksum header is invalid.",
        ));
    }
    if is_empty("content-md5") {
        return Err(error(
            S3ErrorCode::InvalidDigest,
            "The Content-MD5 you specified is not valid.",
        ));
    }
    if is_empty("x-amz-server-side-encryption") {
        return Err(error(
            S3ErrorCode::InvalidArgument,
            "The encryption method specified is not supported",
        ));
    }
    Ok(())
}

fn is_payload_hash(text: &[u8]) -> bool {
    match text {
        b"UNSIGNED-PAYLOAD"
        | b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"
        | b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
        | b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => true,
        hash => hash.len() == 64 && hash.iter().all(u8::is_ascii_hexdigit),
    }
}

fn is_form(head: &Parts) -> bool {
    let kind = head
        .headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.as_bytes());
    let form = b"multipart/form-data";
    head.method == Method::POST
        && kind.is_some_and(|kind| {
            kind.get(..form.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(form))
        })
}

fn check_lifetime(query: &[(String, String)]) -> Result<(), S3Error> {
    let code = S3ErrorCode::AuthorizationQueryParametersError;
    let lifetime = value(query, "X-Amz-Expires").and_then(|text| text.parse::<i64>().ok());
    match lifetime {
        None => Err(error(code, "X-Amz-Expires should be a number")),
        Some(seconds) if seconds < 1 => Err(error(code, "X-Amz-Expires must be positive")),
        Some(seconds) if seconds.unsigned_abs() > PRESIGNED_SECONDS_MAX => Err(error(
            code,
            "X-Amz-Expires must be less than a week (in seconds); that is, the given \
             X-Amz-Expires must be less than 604800 seconds",
        )),
        Some(_) => Ok(()),
    }
}

fn query_scope(query: &[(String, String)]) -> Result<Scope, S3Error> {
    let code = S3ErrorCode::AuthorizationQueryParametersError;
    let credential = value(query, "X-Amz-Credential").unwrap_or_default();
    let signed = value(query, "X-Amz-SignedHeaders").unwrap_or_default();
    scope(credential, signed).ok_or_else(|| {
        error(
            code,
            "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; \
             expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
        )
    })
}

fn header_scope(authorization: &[u8]) -> Result<Scope, S3Error> {
    let malformed = || {
        error(
            S3ErrorCode::AuthorizationHeaderMalformed,
            "The authorization header is malformed",
        )
    };
    let text = std::str::from_utf8(authorization).map_err(|_| malformed())?;
    let Some((algorithm, fields)) = text.split_once(' ') else {
        return Err(malformed());
    };
    match algorithm {
        "AWS4-HMAC-SHA256" => {}
        _ => {
            return Err(error(
                S3ErrorCode::InvalidArgument,
                "Unsupported Authorization Type",
            ));
        }
    }
    let field = |name: &str| {
        let named = |part: &'_ str| {
            part.trim()
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('='))
                .map(str::to_owned)
        };
        fields.split(',').find_map(named)
    };
    let (credential, signed) = (field("Credential"), field("SignedHeaders"));
    credential
        .zip(signed)
        .and_then(|(credential, signed)| scope(&credential, &signed))
        .ok_or_else(malformed)
}

fn scope(credential: &str, signed: &str) -> Option<Scope> {
    // From the right: an access key may hold slashes.
    let mut fields = credential.rsplit('/');
    let (end, service, region) = (fields.next()?, fields.next()?, fields.next()?);
    let (_date, _access_key) = (fields.next()?, fields.next()?);
    (end == "aws4_request").then(|| Scope {
        region: region.to_owned(),
        service: service.to_owned(),
        signed_headers: signed.split(';').map(str::to_ascii_lowercase).collect(),
    })
}

fn check_scope(scope: &Scope, region: &str, presigned: bool) -> Result<(), S3Error> {
    let (code, subject) = if presigned {
        (
            S3ErrorCode::AuthorizationQueryParametersError,
            "Error parsing the X-Amz-Credential parameter",
        )
    } else {
        (
            S3ErrorCode::AuthorizationHeaderMalformed,
            "The authorization header is malformed",
        )
    };
    if scope.service != "s3" {
        let text = format!("{subject}; incorrect service. This endpoint belongs to \"s3\".");
        return Err(S3Error::with_message(code, text));
    }
    if scope.region != region {
        let text = format!("{subject}; the region is wrong; expecting '{region}'");
        return Err(S3Error::with_message(code, text));
    }
    Ok(())
}

fn check_signed(scope: &Scope, headers: &HeaderMap) -> Result<(), S3Error> {
    let is_signed = |name: &str| scope.signed_headers.iter().any(|signed| signed == name);
    // The hash of the body is part of what is signed, or only restricts what may be sent.
    let must_be = |name: &str| name.starts_with("x-amz-") && name != "x-amz-content-sha256";
    let unsigned = headers
        .keys()
        .map(|name| name.as_str())
        .find(|name| must_be(name) && !is_signed(name));
    if unsigned.is_some() || !is_signed("host") {
        return Err(error(
            S3ErrorCode::AccessDenied,
            "There were headers present in the request which were not signed",
        ));
    }
    Ok(())
}

fn framing(headers: &HeaderMap) -> Framing {
    let kind = headers
        .get("x-amz-content-sha256")
        .map(|value| value.as_bytes());
    match kind {
        Some(b"STREAMING-UNSIGNED-PAYLOAD-TRAILER") => Framing::UnsignedChunks,
        Some(kind) if kind.starts_with(b"STREAMING-") => Framing::SignedChunks,
        Some(_) | None => Framing::Plain,
    }
}

fn value<'q>(query: &'q [(String, String)], name: &str) -> Option<&'q str> {
    query
        .iter()
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.as_str())
}

fn query_pairs(query: &str) -> Vec<(String, String)> {
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (percent_decoded(name), percent_decoded(value))
    };
    query
        .split('&')
        .filter(|text| !text.is_empty())
        .map(pair)
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = hex.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, decoded) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (first, _) => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn error(code: S3ErrorCode, message: &'static str) -> S3Error {
    S3Error::with_message(code, message)
}

#[cfg(test)]
mod tests;
