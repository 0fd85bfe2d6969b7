//! Finds who signed a request: AWS signature version 4, by header or by presigned URL.
//!
//! Also refuses everything that could be mistaken for a signature or smuggled past one: signature
//! version 2, forms, scopes of other regions and services, URLs that live longer than a week, two
//! ways of signing at once, temporary credentials, and unsigned `x-amz-*` headers.

use super::dates::iso_seconds;
use super::error::{Code, S3Error};
use super::target::DecodedUrl;
use crate::auth::Credentials;
use crate::ops::Caller;
use crate::ops::checksum::Algorithm;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use megalith_keyring::KeyUse;
use megalith_sigv4::{
    AmzTime, Canonical, CanonicalPath, ChunkChain, Claim, ClaimError, Hash, Presigned,
    STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER, Scope, SigningKey,
    UNSIGNED_PAYLOAD, string_to_sign,
};

/// Longest life of a presigned URL: a week, in seconds.
const PRESIGNED_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;
/// How far a client's clock may differ from ours, in seconds.
const SKEW_SECONDS_MAX: i64 = 15 * 60;
const SERVICE: &str = "s3";
const BAD_CREDENTIAL: &str = "Error parsing the X-Amz-Credential parameter";
const CONTENT_SHA256: &str = "x-amz-content-sha256";

/// Who signed a request. Only [`authenticate`] makes one.
pub(in crate::s3) struct Verified {
    caller: Caller,
}

/// How a request's body is bound to its signature.
pub(super) enum Payload {
    /// It is not.
    Unsigned,
    /// The body must have this hash.
    Hash(Hash),
    /// The body comes in chunks, each of them signed.
    SignedChunks(Box<ChunkChain>),
    /// The body comes in unsigned chunks.
    UnsignedChunks,
}

impl Verified {
    pub(super) fn caller(&self) -> Caller {
        self.caller
    }
}

/// What stood for the body in the signed text, according to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PayloadWord<'a> {
    Unsigned,
    Hash(&'a str),
    SignedChunks,
    SignedChunksAndTrailer,
    UnsignedChunksAndTrailer,
}

/// A claim that passed the gate; its signature is still to be verified.
#[derive(Debug)]
pub(super) enum Means {
    Header(Claim),
    Url(Presigned),
}

/// Finds who signed a request, at `now` in seconds since 1970, and how its body is bound.
///
/// # Errors
/// S3's code for each refusal; `AccessDenied` if the request is not signed.
pub(super) async fn authenticate(
    head: &Parts,
    url: &DecodedUrl,
    means: Option<Means>,
    (credentials, keys): (&Credentials, &KeyUse),
    now: i64,
) -> Result<(Verified, Payload), S3Error> {
    let timely = timely(head, means, now)?;
    let access_key = timely.claim.access_key.clone();
    let blamed = |error: S3Error| match error.code() {
        Code::InvalidAccessKeyId | Code::SignatureDoesNotMatch => {
            error.blame("AWSAccessKeyId", &access_key)
        }
        _other => error,
    };
    let active = credentials.find(keys, &access_key).await;
    let active = active.map_err(|error| blamed(error.into()))?;
    let payload = verify(head, url, timely, active.secret.expose()).map_err(blamed)?;
    let caller = active.caller;
    Ok((Verified { caller }, payload))
}

impl Means {
    /// Returns the access key that the request claims to be signed with.
    pub(super) fn access_key(&self) -> &str {
        match self {
            Self::Header(claim) => &claim.access_key,
            Self::Url(presigned) => &presigned.claim.access_key,
        }
    }
}

/// A claim of today, not yet verified.
pub(super) struct Timely<'a> {
    pub(super) claim: Claim,
    time: AmzTime,
    word: PayloadWord<'a>,
    /// What stands for the body in the canonical request.
    signed_word: &'a str,
}

/// Checks when a request was signed, at `now` in seconds since 1970.
///
/// # Errors
/// S3's own for each thing that is refused; `AccessDenied` if nobody signed.
pub(super) fn timely(head: &Parts, means: Option<Means>, now: i64) -> Result<Timely<'_>, S3Error> {
    let means = means.ok_or(Code::AccessDenied)?;
    let word = payload_word(&head.headers)?;
    let (claim, time, word, signed_word) = match means {
        Means::Header(claim) => {
            let time = header_time(&head.headers)?;
            let code = Code::AuthorizationHeaderMalformed;
            check_date(&claim, time, code, code.sentence())?;
            check_skew(time, now)?;
            let word = word
                .ok_or_else(|| S3Error::invalid_request("missing header: x-amz-content-sha256"))?;
            (claim, time, word, word.text())
        }
        Means::Url(presigned) => {
            let code = Code::AuthorizationQueryParametersError;
            check_date(&presigned.claim, presigned.time, code, BAD_CREDENTIAL)?;
            check_expiry(&presigned, now)?;
            // A URL is signed before its body is known. A client that knows the body may still bind
            // it.
            let word = word.unwrap_or(PayloadWord::Unsigned);
            if word.is_chunked() {
                let what = "a chunked body for a presigned URL";
                return Err(S3Error::not_implemented(what));
            }
            (presigned.claim, presigned.time, word, UNSIGNED_PAYLOAD)
        }
    };
    Ok(Timely {
        claim,
        time,
        word,
        signed_word,
    })
}

impl<'a> PayloadWord<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        match text {
            UNSIGNED_PAYLOAD => Some(Self::Unsigned),
            STREAMING_SIGNED => Some(Self::SignedChunks),
            STREAMING_SIGNED_TRAILER => Some(Self::SignedChunksAndTrailer),
            STREAMING_UNSIGNED_TRAILER => Some(Self::UnsignedChunksAndTrailer),
            hash if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Some(Self::Hash(hash))
            }
            _ => None,
        }
    }

    fn text(self) -> &'a str {
        match self {
            Self::Unsigned => UNSIGNED_PAYLOAD,
            Self::Hash(hash) => hash,
            Self::SignedChunks => STREAMING_SIGNED,
            Self::SignedChunksAndTrailer => STREAMING_SIGNED_TRAILER,
            Self::UnsignedChunksAndTrailer => STREAMING_UNSIGNED_TRAILER,
        }
    }

    /// Returns whether the body travels in chunks, whose framing is not part of it.
    pub(super) fn is_chunked(self) -> bool {
        match self {
            Self::Unsigned | Self::Hash(_) => false,
            Self::SignedChunks | Self::SignedChunksAndTrailer | Self::UnsignedChunksAndTrailer => {
                true
            }
        }
    }

    fn payload(
        self,
        headers: &HeaderMap,
        key: SigningKey,
        time: AmzTime,
        claim: Claim,
    ) -> Result<Payload, S3Error> {
        // Unsigned chunks may end without a trailer.
        if self == Self::SignedChunksAndTrailer && !headers.contains_key("x-amz-trailer") {
            return Err(S3Error::invalid_request("missing header: x-amz-trailer"));
        }
        if self.is_chunked() && !headers.contains_key("x-amz-decoded-content-length") {
            let text = "missing header: x-amz-decoded-content-length";
            return Err(S3Error::new(Code::MissingContentLength, text));
        }
        Ok(match self {
            Self::Unsigned => Payload::Unsigned,
            Self::Hash(text) => {
                let mut hash = Hash::default();
                hex::decode_to_slice(text, &mut hash).map_err(|_| malformed_payload())?;
                Payload::Hash(hash)
            }
            Self::SignedChunks | Self::SignedChunksAndTrailer => {
                let chain = ChunkChain::new(key, time, claim.scope, claim.signature);
                Payload::SignedChunks(Box::new(chain))
            }
            Self::UnsignedChunksAndTrailer => Payload::UnsignedChunks,
        })
    }
}

/// Compares the signature with the one that the secret gives; returns how the body is bound to it.
///
/// # Errors
/// `SignatureDoesNotMatch`; S3's own if headers that a chunked body must have are missing.
pub(super) fn verify(
    head: &Parts,
    url: &DecodedUrl,
    timely: Timely<'_>,
    secret: &str,
) -> Result<Payload, S3Error> {
    let Timely {
        claim,
        time,
        word,
        signed_word,
    } = timely;
    let key = SigningKey::derive(secret, &claim.scope);
    let headers: Vec<(&str, &[u8])> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let matches = |path| {
        let canonical = Canonical {
            method: head.method.as_str(),
            path,
            query: &url.query,
            headers: &headers,
            signed_headers: &claim.signed_headers,
            payload: signed_word,
        };
        canonical.text().is_ok_and(|text| {
            let computed = key.sign(&string_to_sign(time, &claim.scope, &text));
            computed.matches(&claim.signature)
        })
    };
    let sent = head.uri.path();
    let verified = matches(CanonicalPath::Decoded(&url.path))
        // Some clients send reserved characters unencoded, and sign them that way.
        || (has_reserved(sent) && matches(CanonicalPath::AsSent(sent)));
    if !verified {
        return Err(Code::SignatureDoesNotMatch.into());
    }
    word.payload(&head.headers, key, time, claim)
}

/// Returns whether a path has characters that the canonical form would encode.
fn has_reserved(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/%".contains(&byte);
    !path.bytes().all(plain)
}

fn header_time(headers: &HeaderMap) -> Result<AmzTime, S3Error> {
    let mut values = headers.get_all("x-amz-date").iter();
    let value = values.next().filter(|_| values.next().is_none());
    let value = value.ok_or_else(|| S3Error::invalid_request("missing header: x-amz-date"))?;
    let time = value.to_str().ok().and_then(AmzTime::parse);
    time.ok_or_else(|| S3Error::invalid_request("invalid header: x-amz-date"))
}

/// Checks that the key was made for the day on which the request was signed.
fn check_date(claim: &Claim, time: AmzTime, code: Code, subject: &str) -> Result<(), S3Error> {
    if claim.scope.date == time.date() {
        return Ok(());
    }
    let text = "Invalid credential date. Date is not the same as X-Amz-Date.";
    Err(S3Error::new(code, format!("{subject}; {text}")))
}

fn check_skew(time: AmzTime, now: i64) -> Result<(), S3Error> {
    if (now - time.unix_seconds()).abs() > SKEW_SECONDS_MAX {
        return Err(skewed(time, now));
    }
    Ok(())
}

fn skewed(time: AmzTime, now: i64) -> S3Error {
    S3Error::from(Code::RequestTimeTooSkewed)
        .blame("RequestTime", &iso_seconds(time.unix_seconds()))
        .blame("ServerTime", &iso_seconds(now))
        .blame(
            "MaxAllowedSkewMilliseconds",
            &(SKEW_SECONDS_MAX * 1000).to_string(),
        )
}

fn check_expiry(presigned: &Presigned, now: i64) -> Result<(), S3Error> {
    let age = now - presigned.time.unix_seconds();
    if age < -SKEW_SECONDS_MAX {
        return Err(skewed(presigned.time, now));
    }
    // At most a week: the gate has checked that.
    if age > i64::try_from(presigned.expires_seconds).unwrap_or(0) {
        let lived = i64::try_from(presigned.expires_seconds).unwrap_or(0);
        let end = iso_seconds(presigned.time.unix_seconds() + lived);
        return Err(S3Error::new(Code::AccessDenied, "Request has expired")
            .blame("X-Amz-Expires", &lived.to_string())
            .blame("Expires", &end)
            .blame("ServerTime", &iso_seconds(now)));
    }
    Ok(())
}

/// Checks a request's head before anything is looked up, and reads the claim.
///
/// # Errors
/// S3's code for each refusal.
pub(super) fn gate(
    head: &Parts,
    query: &[(String, String)],
    region: &str,
) -> Result<Option<Means>, S3Error> {
    let in_query = |name: &str| query.iter().any(|(found, _)| found == name);
    if is_form(head) {
        return Err(S3Error::not_implemented("POST uploads by form"));
    }
    let mut headers = head.headers.get_all(header::AUTHORIZATION).iter();
    let authorization = headers.next().map(|value| value.as_bytes());
    let old_header = authorization.is_some_and(|text| text.starts_with(b"AWS "));
    if old_header || in_query("Signature") || in_query("AWSAccessKeyId") {
        return Err(S3Error::invalid_request(
            "The authorization mechanism you have provided is not supported. Please use \
             AWS4-HMAC-SHA256.",
        ));
    }
    // Any of them: a presigned URL that lacks one is malformed, and no unsigned request.
    let presigned = ["X-Amz-Signature", "X-Amz-Algorithm", "X-Amz-Credential"]
        .into_iter()
        .any(in_query);
    if headers.next().is_some() || (presigned && authorization.is_some()) {
        return Err(S3Error::invalid_argument(
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature \
             query string parameter or the Authorization header should be specified",
        ));
    }
    let means = if presigned {
        let url = Presigned::parse_query(query).map_err(url_error)?;
        check_lifetime(&url)?;
        Some(Means::Url(url))
    } else if let Some(text) = authorization {
        Some(Means::Header(header_claim(text)?))
    } else {
        None
    };
    if in_query("X-Amz-Security-Token") || head.headers.contains_key("x-amz-security-token") {
        // There are no temporary credentials, so no client can have been given one.
        return Err(Code::InvalidToken.into());
    }
    match &means {
        Some(Means::Header(claim)) => {
            let code = Code::AuthorizationHeaderMalformed;
            check_scope(&claim.scope, region, code, code.sentence())?;
            check_signed(claim, &head.headers)?;
        }
        Some(Means::Url(Presigned { claim, .. })) => {
            let code = Code::AuthorizationQueryParametersError;
            check_scope(&claim.scope, region, code, BAD_CREDENTIAL)?;
            check_signed(claim, &head.headers)?;
        }
        None => {}
    }
    check_headers(&head.headers)?;
    Ok(means)
}

fn header_claim(text: &[u8]) -> Result<Claim, S3Error> {
    let text = std::str::from_utf8(text).map_err(|_| Code::AuthorizationHeaderMalformed)?;
    Claim::parse_header(text).map_err(|error| match error {
        ClaimError::Algorithm => S3Error::invalid_argument("Unsupported Authorization Type"),
        ClaimError::Credential
        | ClaimError::SignedHeaders
        | ClaimError::Signature
        | ClaimError::Time
        | ClaimError::Expires
        | ClaimError::Fields => Code::AuthorizationHeaderMalformed.into(),
    })
}

fn url_error(error: ClaimError) -> S3Error {
    let text = match error {
        ClaimError::Algorithm => "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"",
        ClaimError::Credential => {
            "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; \
             expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"."
        }
        ClaimError::SignedHeaders => "X-Amz-SignedHeaders is malformed",
        ClaimError::Signature => "X-Amz-Signature is malformed",
        ClaimError::Time => {
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
        }
        ClaimError::Expires => "X-Amz-Expires should be a number",
        ClaimError::Fields => {
            "Query-string authentication version 4 requires the X-Amz-Algorithm, \
             X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and \
             X-Amz-Expires parameters, each once."
        }
    };
    S3Error::new(Code::AuthorizationQueryParametersError, text)
}

fn check_lifetime(url: &Presigned) -> Result<(), S3Error> {
    let text = match url.expires_seconds {
        0 => "X-Amz-Expires must be positive",
        1..=PRESIGNED_SECONDS_MAX => return Ok(()),
        _ => {
            "X-Amz-Expires must be less than a week (in seconds); that is, the given \
             X-Amz-Expires must be less than 604800 seconds"
        }
    };
    Err(S3Error::new(Code::AuthorizationQueryParametersError, text))
}

fn check_scope(scope: &Scope, region: &str, code: Code, subject: &str) -> Result<(), S3Error> {
    if scope.service != SERVICE {
        let (service, ours) = (&scope.service, "This endpoint belongs to \"s3\".");
        let text = format!("{subject}; incorrect service \"{service}\". {ours}");
        return Err(S3Error::new(code, text));
    }
    if scope.region != region {
        let wrong = &scope.region;
        let text = format!("{subject}; the region '{wrong}' is wrong; expecting '{region}'");
        // Clients sign again for the region that this names.
        return Err(S3Error::new(code, text).blame("Region", region));
    }
    Ok(())
}

fn check_signed(claim: &Claim, headers: &HeaderMap) -> Result<(), S3Error> {
    let is_signed = |name: &str| {
        let sorted = &claim.signed_headers;
        sorted
            .binary_search_by(|signed| signed.as_str().cmp(name))
            .is_ok()
    };
    // The body's hash is part of what is signed, or only restricts what may be sent.
    let must_be = |name: &str| name.starts_with("x-amz-") && name != CONTENT_SHA256;
    let mut unsigned: Vec<&str> = headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| (must_be(name) || *name == "host") && !is_signed(name))
        .collect();
    if unsigned.is_empty() && is_signed("host") {
        return Ok(());
    }
    unsigned.sort_unstable();
    let text = "There were headers present in the request which were not signed";
    let error = S3Error::new(Code::AccessDenied, text);
    Err(error.blame("HeadersNotSigned", &unsigned.join(", ")))
}

/// Refuses checksums that we don't know, and empty headers, if being empty has no meaning for them.
fn check_headers(headers: &HeaderMap) -> Result<(), S3Error> {
    let foreign = |name: &&str| Algorithm::is_foreign_header(name);
    if let Some(name) = headers.keys().map(|name| name.as_str()).find(foreign) {
        return Err(S3Error::unsupported_checksum(name));
    }
    let is_empty = |name: &str| headers.get(name).is_some_and(|value| value.is_empty());
    payload_word(headers)?;
    if Algorithm::ALL
        .iter()
        .any(|algorithm| is_empty(algorithm.header()))
    {
        let text = "Value for x-amz-checksum header is invalid.";
        return Err(S3Error::invalid_request(text));
    }
    if is_empty("content-md5") {
        return Err(Code::InvalidDigest.into());
    }
    if is_empty("x-amz-server-side-encryption") {
        let text = "The encryption method specified is not supported";
        return Err(S3Error::invalid_argument(text));
    }
    Ok(())
}

/// Reads what stands for the body in the signature.
///
/// # Errors
/// `InvalidArgument` if it is neither one of the words nor a hash, or occurs twice.
pub(super) fn payload_word(headers: &HeaderMap) -> Result<Option<PayloadWord<'_>>, S3Error> {
    let mut values = headers.get_all(CONTENT_SHA256).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let word = value.to_str().ok().and_then(PayloadWord::parse);
    let word = word.filter(|_| values.next().is_none());
    word.map(Some).ok_or_else(malformed_payload)
}

fn malformed_payload() -> S3Error {
    S3Error::invalid_argument(
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
         STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a \
         valid sha256 value.",
    )
}

fn is_form(head: &Parts) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE);
    let form = b"multipart/form-data";
    head.method == Method::POST
        && kind.is_some_and(|kind| {
            kind.as_bytes()
                .get(..form.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(form))
        })
}

#[cfg(test)]
mod tests;
