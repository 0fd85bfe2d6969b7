//! One request from its head to its answer: gate, guard, s3s, and what every answer carries.

use super::api::{Api, Secrets};
use super::error::s3_error;
use super::gate::{self, Framing};
use super::guard::{Verdict, XML_BYTES_MAX, guard};
use super::host::BaseDomains;
use crate::auth::Credentials;
use crate::ops::{OpError, Store};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE, SERVER};
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
    /// The operations.
    pub store: Store,
    /// The access keys.
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
    region: String,
    body_idle: Duration,
    seed: u64,
    requests: AtomicU64,
}

/// Which operation a request turned out to be; filled in by the access check.
#[derive(Clone, Default)]
struct Operation(Arc<OnceLock<String>>);

/// Refuses everything that nobody signed, and notes the operation's name.
struct SignedOnly;

#[async_trait::async_trait]
impl S3Access for SignedOnly {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let name = cx.s3_op().name().to_owned();
        if let Some(operation) = cx.extensions_mut().get::<Operation>() {
            // Set once: a request is one operation.
            let _first = operation.0.set(name);
        }
        match cx.credentials() {
            Some(_) => Ok(()),
            None => Err(s3_error(OpError::AccessDenied)),
        }
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
        let api = Api::new(store, Arc::clone(&credentials), &region);
        let mut builder = S3ServiceBuilder::new(api);
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        builder.set_auth(Secrets(credentials));
        builder.set_access(SignedOnly);
        builder.set_host(BaseDomains::new(&base_domains));
        Self {
            service: builder.build(),
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
        let name = operation.0.get().map_or("none", String::as_str);
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
        if gate::drops_range(&head) {
            head.headers.remove(RANGE);
        }
        let (body, verdict) = guard(body, &head, framing, self.body_idle);
        head.extensions.insert(verdict.clone());
        head.extensions.insert(operation);
        match self.service.call(Request::from_parts(head, body)).await {
            Ok(response) => with_verdict(response, &verdict),
            Err(_) => {
                tracing::error!("s3s could not write an answer");
                error_response(s3_error(OpError::Internal("no answer".to_owned())))
            }
        }
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
fn check_length(head: &http::request::Parts, framing: Framing) -> Result<(), OpError> {
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
    let wrong_region = String::from_utf8_lossy(start).contains(WRONG_REGION);
    let mut text = start.to_vec();
    let mut element = |name: &str, value: &str| {
        text.extend_from_slice(format!("<{name}>{}</{name}>", escaped(value)).as_bytes());
    };
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
