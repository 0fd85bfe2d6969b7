//! One request from its head to its answer: gate, guard, s3s, and what every answer carries.

use super::api::{Api, Secrets, Verified, credential_error};
use super::error::{s3_error, sentence};
use super::gate::{self, Framing};
use super::guard::{Verdict, XML_BYTES_MAX, guard};
use super::host::BaseDomains;
use crate::auth::Credentials;
use crate::ops::{OpError, Store};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE, SERVER};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use s3s::access::{S3Access, S3AccessContext};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3Result, StdError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
static HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");
static BUCKET_REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");

/// What the face is made of.
pub struct FaceParts {
    pub store: Store,
    pub credentials: Arc<Credentials>,
    /// Names under which `bucket.<name>` is a bucket.
    pub base_domains: Vec<String>,
    /// The only region that signatures may be for.
    pub region: String,
    /// How long a body may be silent.
    pub body_idle: Duration,
    /// Makes the ids of this gateway's requests differ from those of its earlier lives and of
    /// other gateways.
    pub request_id_seed: u64,
}

/// The S3 face: answers requests.
pub struct Face {
    service: S3Service,
    /// Checks no signature: only for what `service` has found to be signed rightly.
    verified: S3Service,
    credentials: Arc<Credentials>,
    region: String,
    body_idle: Duration,
    seed: u64,
    requests: AtomicU64,
}

/// What a request turned out to be once its signature was found right: the operation's name and
/// the access key. Filled in by the access check.
#[derive(Clone, Default)]
struct Operation(Arc<OnceLock<(String, String)>>);

/// Operations that change what is there, and the parameters that each may have in its query.
/// One more may stand for an operation that s3s doesn't know and takes for a plain write.
const WRITES: [(&str, &[&str]); 11] = [
    ("CreateBucket", &[]),
    ("DeleteBucket", &[]),
    ("PutObject", &[]),
    ("CopyObject", &[]),
    ("DeleteObject", &["versionId"]),
    ("DeleteObjects", &["delete"]),
    ("CreateMultipartUpload", &["uploads"]),
    ("UploadPart", &["partNumber", "uploadId"]),
    ("UploadPartCopy", &["partNumber", "uploadId"]),
    ("CompleteMultipartUpload", &["uploadId"]),
    ("AbortMultipartUpload", &["uploadId"]),
];

/// Refuses everything that nobody signed, and notes the operation's name.
struct SignedOnly;

#[async_trait::async_trait]
impl S3Access for SignedOnly {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(credentials) = cx.credentials() else {
            return Err(s3_error(OpError::AccessDenied));
        };
        let verified = (cx.s3_op().name().to_owned(), credentials.access_key.clone());
        check_query(&verified.0, cx.uri().query().unwrap_or_default())?;
        if let Some(operation) = cx.extensions_mut().get::<Operation>() {
            // Set once: a request is one operation.
            let _first = operation.0.set(verified);
        }
        Ok(())
    }
}

fn check_query(operation: &str, query: &str) -> S3Result<()> {
    let Some((_, known)) = WRITES.iter().find(|(name, _)| *name == operation) else {
        return Ok(());
    };
    let foreign = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        // S3 passes over what begins with "x-", such as parameters of signatures and of clients,
        // and has no call with other letters in its name.
        let ignored = name
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case("x-"));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !name.is_empty() && !ignored && name.bytes().all(plain) && !known.contains(&name)
    };
    match query.split('&').find(foreign) {
        Some(_) => Err(s3_error(OpError::NotImplemented(
            "a parameter of the query",
        ))),
        None => Ok(()),
    }
}

impl Face {
    /// Builds the face.
    #[must_use]
    pub fn new(parts: FaceParts) -> Self {
        let FaceParts {
            store,
            credentials,
            base_domains,
            region,
            body_idle,
            request_id_seed,
        } = parts;
        let mut config = S3Config::default();
        config.xml_max_body_size = XML_BYTES_MAX;
        config.presigned_url_max_skew_time_secs = 15 * 60;
        let config = Arc::new(StaticConfigProvider::new(Arc::new(config)));
        let api = Api::new(store, Arc::clone(&credentials), &region);
        let builder = || {
            let mut builder = S3ServiceBuilder::new(api.clone());
            builder.set_config(config.clone());
            builder.set_host(BaseDomains::new(&base_domains));
            builder
        };
        let mut signed = builder();
        signed.set_auth(Secrets(Arc::clone(&credentials)));
        signed.set_access(SignedOnly);
        Self {
            service: signed.build(),
            verified: builder().build(),
            credentials,
            region,
            body_idle,
            seed: request_id_seed,
            requests: AtomicU64::new(0),
        }
    }

    /// Answers a request. Never fails: what can't be answered is an error of S3's.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<s3s::Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        StdError: From<B::Error>,
    {
        let started = Instant::now();
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:016X}", self.seed.wrapping_add(number));
        let method = request.method().clone();
        let operation = Operation::default();
        let path = request.uri().path().to_owned();
        let response = self.respond(request, operation.clone()).await;
        let response = self.finish(response, &method, &path, &id);
        let status = response.status();
        let name = operation.0.get().map_or("none", |(name, _)| name.as_str());
        count(name, status, started.elapsed());
        // Neither the path, which names an object, nor the query, which may hold a presigned URL's
        // signature, is ever logged.
        let (code, micros) = (status.as_u16(), started.elapsed().as_micros());
        if status.is_server_error() {
            tracing::info!(
                request = id,
                operation = name,
                status = code,
                micros,
                "not served"
            );
        } else {
            tracing::debug!(
                request = id,
                operation = name,
                status = code,
                micros,
                "served"
            );
        }
        response
    }

    async fn respond<B>(&self, request: Request<B>, operation: Operation) -> Response<s3s::Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        StdError: From<B::Error>,
    {
        let (mut head, body) = request.into_parts();
        let framing = match gate::check(&head, &self.region) {
            Ok(framing) => framing,
            Err(refusal) => return error_response(refusal),
        };
        if let Err(error) = check_length(&head, framing) {
            return error_response(s3_error(error));
        }
        let range = head.headers.get(RANGE);
        let senseless = range.is_some_and(|range| !gate::is_range(range.as_bytes()));
        let whole = senseless.then(|| head.clone());
        let (body, verdict) = guard(body, &head, framing, self.body_idle);
        head.extensions.insert(verdict.clone());
        head.extensions.insert(operation.clone());
        let response = match self.service.call(Request::from_parts(head, body)).await {
            Ok(response) => with_verdict(response, &verdict),
            Err(_) => return no_answer(),
        };
        match (whole, operation.0.get()) {
            (Some(head), Some((name, access_key)))
                if matches!(name.as_str(), "GetObject" | "HeadObject") =>
            {
                self.whole(head, access_key).await
            }
            (_, _) => response,
        }
    }

    /// Answers a read whose `Range` makes no sense with the whole object, as S3 does. s3s refuses
    /// such a header, but only behind the access check: the signature was found right.
    async fn whole(&self, mut head: Parts, access_key: &str) -> Response<s3s::Body> {
        let known = match self.credentials.find(access_key).await {
            Ok(known) => known,
            Err(error) => return error_response(credential_error(error)),
        };
        head.headers.remove(RANGE);
        head.headers.remove(AUTHORIZATION);
        let query = head.uri.query().unwrap_or_default();
        let unsigned = |pair: &&str| !pair.starts_with("X-Amz-");
        let query: Vec<&str> = query.split('&').filter(unsigned).collect();
        let target = format!("{}?{}", head.uri.path(), query.join("&"));
        let Ok(uri) = target.parse() else {
            return no_answer();
        };
        head.uri = uri;
        head.extensions.insert(Verified(known.caller));
        let request = Request::from_parts(head, s3s::Body::empty());
        self.verified
            .call(request)
            .await
            .unwrap_or_else(|_| no_answer())
    }

    /// Adds what every answer carries.
    fn finish(
        &self,
        mut response: Response<s3s::Body>,
        method: &Method,
        path: &str,
        id: &str,
    ) -> Response<s3s::Body> {
        let is_error = response.status().is_client_error() || response.status().is_server_error();
        if is_error && let Some(body) = response.body().bytes() {
            let body = with_details(&body, path, id, &self.region);
            response.headers_mut().remove(CONTENT_LENGTH);
            *response.body_mut() = s3s::Body::from(body);
        }
        let bodyless =
            response.status() == StatusCode::NOT_MODIFIED || (is_error && *method == Method::HEAD);
        if bodyless {
            *response.body_mut() = s3s::Body::empty();
            response.headers_mut().remove(CONTENT_TYPE);
        }
        if response.status() == StatusCode::OK && response.headers().contains_key(CONTENT_RANGE) {
            // s3s knows this of GET, and not of HEAD.
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(id) {
            headers.insert(REQUEST_ID.clone(), value.clone());
            headers.insert(HOST_ID.clone(), value);
        }
        headers.insert(SERVER, HeaderValue::from_static("Megalith"));
        if is_error && let Ok(value) = HeaderValue::from_str(&self.region) {
            headers.insert(BUCKET_REGION.clone(), value);
        }
        response
    }
}

/// Refuses a body that is certainly too long before it is read.
fn check_length(head: &Parts, framing: Framing) -> Result<(), OpError> {
    let length = |name: &str| {
        let text = head.headers.get(name)?.to_str().ok()?;
        text.parse::<u64>().ok()
    };
    let bytes = match framing {
        Framing::Plain => length("content-length"),
        Framing::SignedChunks | Framing::UnsignedChunks => length("x-amz-decoded-content-length"),
    };
    let max = crate::ops::BODY_BYTES_MAX;
    if bytes.is_some_and(|bytes| bytes > max) {
        Err(OpError::EntityTooLarge)
    } else {
        Ok(())
    }
}

/// Answers with the cause of a broken body where s3s could only say "internal error".
fn with_verdict(response: Response<s3s::Body>, verdict: &Verdict) -> Response<s3s::Body> {
    match verdict.cause() {
        Some(cause) if response.status() == StatusCode::INTERNAL_SERVER_ERROR => {
            error_response(s3_error(cause.into()))
        }
        Some(_) | None => response,
    }
}

fn no_answer() -> Response<s3s::Body> {
    error_response(s3_error(OpError::Internal(
        "s3s could not write an answer".to_owned(),
    )))
}

fn error_response(error: S3Error) -> Response<s3s::Body> {
    error.to_http_response().unwrap_or_else(|_| {
        let mut response = Response::new(s3s::Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// Adds to an error's XML what S3 says besides code and message.
fn with_details(body: &Bytes, path: &str, id: &str, region: &str) -> Bytes {
    const END: &[u8] = b"</Error>";
    const WRONG_REGION: &str = "<Code>AuthorizationHeaderMalformed</Code>";
    let Some(start) = body.strip_suffix(END) else {
        return body.clone();
    };
    let said = String::from_utf8_lossy(start);
    let wrong_region = said.contains(WRONG_REGION);
    let silent = !said.contains("<Message>");
    let code = said.split("<Code>").nth(1);
    let code = code.and_then(|rest| rest.split("</Code>").next());
    let mut text = start.to_vec();
    let mut element = |name: &str, value: &str| {
        text.extend_from_slice(format!("<{name}>{}</{name}>", escaped(value)).as_bytes());
    };
    if silent {
        // s3s names some errors without a word; clients then print "Unknown".
        element("Message", sentence(code.unwrap_or_default()));
    }
    if wrong_region {
        // Clients sign again with the region they are told.
        element("Region", region);
    }
    element("Resource", path);
    element("RequestId", id);
    element("HostId", id);
    text.extend_from_slice(END);
    text.into()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn count(operation: &str, status: StatusCode, taken: Duration) {
    let class = match status.as_u16() / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    };
    let operation = operation.to_owned();
    let labels = [
        ("operation", operation.clone()),
        ("status", class.to_owned()),
    ];
    metrics::counter!("megalith_s3_requests_total", &labels).increment(1);
    metrics::histogram!("megalith_s3_first_byte_seconds", "operation" => operation)
        .record(taken.as_secs_f64());
}
