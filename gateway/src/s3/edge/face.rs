//! Handles one request from its head to its answer, and adds what every answer carries.
//!
//! What a request holds before its operation runs is taken in two steps: for as long as nobody
//! knows whose it is, on nobody's account, and then on its caller's. So one account can't take all
//! places.

use super::Core;
use super::answer::AnswerBody;
use super::audit::{Asked, Audit, PeerAddress};
use super::auth::{authenticate, gate, payload_word};
use super::body::{Incoming, raw};
use super::error::{Code, Details, S3Error};
use super::host::BaseDomains;
use super::reader::{Cut, Watched};
use super::request::Request;
use super::route::find;
use super::target::DecodedUrl;
use super::window::Window;
use crate::auth::Credentials;
use crate::ops::{BODY_BYTES_MAX, OpError, Store};
use crate::s3::operations::OPERATIONS;
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{HOST, SERVER};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body::Body;
use megalith_blobs::{Budget, Payer, Reservation};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
static HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");
static BUCKET_REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");

/// Tells the time in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The parts of the face.
pub struct FaceParts {
    pub store: Store,
    pub credentials: Arc<Credentials>,
    /// Names under which `bucket.<name>` stands for a bucket.
    pub base_domains: Vec<String>,
    /// The only region for which signatures are accepted.
    pub region: String,
    /// How long the sender of a body may be silent.
    pub body_idle: Duration,
    /// The most requests of verified callers at a time.
    pub requests_max: u64,
    /// Tells the time by which signatures are judged, in milliseconds since 1970.
    pub clock: Clock,
    /// Makes the ids of this gateway's requests differ from those of its earlier runs and of other
    /// gateways.
    pub request_id_seed: u64,
}

/// The S3 face: answers requests.
pub struct Face {
    core: Core,
    credentials: Arc<Credentials>,
    domains: BaseDomains,
    body_idle: Duration,
    places: Budget,
    clock: Clock,
    seed: u64,
    requests: AtomicU64,
    audit: Audit,
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
            requests_max,
            clock,
            request_id_seed,
        } = parts;
        Self {
            core: Core {
                store,
                region: region.into(),
            },
            credentials,
            domains: BaseDomains::new(&base_domains),
            body_idle,
            places: Budget::new(requests_max),
            clock,
            seed: request_id_seed,
            requests: AtomicU64::new(0),
            audit: Audit::default(),
        }
    }

    /// Answers a request, which may have an extension that says how it came
    /// ([`http::uri::Scheme`]). Never fails: a request that can't be answered gets an S3 error.
    pub async fn answer<B>(&self, request: http::Request<B>) -> Response<AnswerBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let started = Instant::now();
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:016X}", self.seed.wrapping_add(number));
        let (mut head, body) = request.into_parts();
        set_host(&mut head);
        let (method, uri) = (head.method.clone(), head.uri.clone());
        let host = head.headers.get(HOST).cloned();
        let copies = head.headers.contains_key("x-amz-copy-source");
        let mut operation = "none";
        let mut asked = Asked {
            address: head.extensions.get::<PeerAddress>().map(|peer| peer.0),
            ..Asked::default()
        };
        let response = match self.respond(head, body, &mut operation, &mut asked).await {
            Ok(response) => response,
            Err(error) => {
                self.audit.note(&asked, &error, &id);
                let host = host.as_ref().and_then(|host| host.to_str().ok());
                let url = DecodedUrl::read(&uri, host, &self.domains).ok();
                let details = Details {
                    method: &method,
                    resource: uri.path(),
                    request_id: &id,
                    // A copy's error may be about its source.
                    url: url.as_ref().filter(|_| !copies),
                };
                error.into_response(&details)
            }
        };
        let response = self.finish(response, &id);
        let status = response.status();
        count(operation, status, started.elapsed());
        // Never log the path, which names an object, nor the query, which may hold a presigned
        // URL's signature.
        let (code, micros) = (status.as_u16(), started.elapsed().as_micros());
        if status.is_server_error() {
            tracing::info!(request = id, operation, status = code, micros, "not served");
        } else {
            tracing::debug!(request = id, operation, status = code, micros, "served");
        }
        response
    }

    /// Verifies a request and lets its operation answer it. Sets `operation` once the caller and
    /// the operation are known, and notes what is asked for.
    async fn respond<B>(
        &self,
        mut head: Parts,
        body: B,
        operation: &mut &'static str,
        asked: &mut Asked,
    ) -> Result<Response<AnswerBody>, S3Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let invalid = |_| S3Error::invalid_request("invalid header: host");
        let host = head.headers.get(HOST).map(|host| host.to_str());
        let host = host.transpose().map_err(invalid)?;
        let url = DecodedUrl::read(&head.uri, host, &self.domains)?;
        asked.note_bucket(&url);
        let means = gate(&head, &url.query, &self.core.region)?;
        if let Some(means) = &means {
            asked.note_key(means.access_key());
        }
        check_length(&head)?;
        let window = head.extensions.remove::<Window>();
        let window = window.filter(|_| !body.is_end_stream());
        let cut = head.extensions.remove::<Cut>().unwrap_or_default();
        let bytes = head_bytes(&head) + window.as_ref().map_or(0, Window::bytes);
        // Strangers hold it for a moment only, so it is worth waiting for.
        let strange = self.core.store.reserve_strange(bytes).await?;
        let now = i64::try_from((self.clock)() / 1000).unwrap_or(i64::MAX);
        // Found before the caller is known, so that a denial can name it; used only after.
        let found = find(
            &OPERATIONS,
            &head.method,
            &url.target,
            &url.query,
            &head.headers,
        );
        asked.action = match &found {
            Ok(entry) => entry.route.name,
            Err((name, _)) => name.unwrap_or_default(),
        };
        let core = self.core.begin();
        let by = (&*self.credentials, core.store.keys());
        let (verified, payload) = authenticate(&head, &url, means, by, now).await?;
        let payer = verified.caller().payer();
        let busy = |_| S3Error::from(OpError::SlowDown("too many requests"));
        let place = self.places.try_reserve(payer, 1).map_err(busy)?;
        let (_head, window) = self.hold(payer, &head, window.as_ref())?;
        drop(strange);
        let DecodedUrl { target, query, .. } = url;
        let entry = found.map_err(|(name, refusal)| {
            *operation = name.unwrap_or("none");
            refusal
        })?;
        *operation = entry.route.name;
        let body = Incoming::new(raw(body), payload, &head.headers, self.body_idle)?;
        let store = self.core.store.clone();
        let body = body
            .within(window)
            .paced(Arc::new(move || store.is_memory_short()));
        let request = Request {
            verified,
            body: Some(body),
            whole: Bytes::new(),
            route: entry.route,
            target,
            query,
            headers: head.headers,
            scheme: head.extensions.remove(),
            uri: head.uri,
        };
        let answer = entry.call(request, &core).await?.into_response();
        let store = core.store.clone();
        Ok(answer.map(|body| match body {
            AnswerBody::Stream(plaintext) => {
                let is_short = move || store.is_memory_short();
                AnswerBody::Stream(Watched::new(plaintext, cut, is_short, place).boxed())
            }
            AnswerBody::Whole(bytes) => AnswerBody::Whole(bytes),
        }))
    }

    /// Holds memory for a request's head and its connection's window.
    fn hold(
        &self,
        payer: Payer,
        head: &Parts,
        window: Option<&Window>,
    ) -> Result<(Reservation, Option<Arc<Reservation>>), S3Error> {
        let reserve = |bytes| self.core.store.reserve_incoming(payer, bytes);
        let window = window
            .map(|window| window.hold(payer, reserve))
            .transpose()?;
        Ok((reserve(head_bytes(head))?, window))
    }

    /// Adds what every answer carries.
    fn finish(&self, mut response: Response<AnswerBody>, id: &str) -> Response<AnswerBody> {
        let is_error = response.status().is_client_error() || response.status().is_server_error();
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(id) {
            headers.insert(REQUEST_ID.clone(), value.clone());
            headers.insert(HOST_ID.clone(), value);
        }
        headers.insert(SERVER, HeaderValue::from_static("Megalith"));
        if is_error && let Ok(value) = HeaderValue::from_str(&self.core.region) {
            headers.insert(BUCKET_REGION.clone(), value);
        }
        response
    }
}

/// Returns how many bytes a request's head takes, about.
fn head_bytes(head: &Parts) -> u64 {
    /// What a map of headers takes for one besides its text.
    const EACH: usize = 64;
    let fields = head.headers.iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + EACH);
    let target = head
        .uri
        .path_and_query()
        .map_or(0, |text| text.as_str().len());
    (target + fields.sum::<usize>()) as u64
}

/// Copies HTTP/2's host from the URL to a header, because it is signed as a header.
fn set_host(head: &mut Parts) {
    if head.version < Version::HTTP_2 || head.headers.contains_key(HOST) {
        return;
    }
    let authority = head.uri.authority().map(|authority| authority.as_str());
    if let Some(Ok(host)) = authority.map(HeaderValue::from_str) {
        head.headers.insert(HOST, host);
    }
}

/// Refuses a body before it is read if it is certainly too long.
fn check_length(head: &Parts) -> Result<(), S3Error> {
    let length = |name: &str| head.headers.get(name).map(|value| value.to_str());
    let is_chunked = payload_word(&head.headers)?.is_some_and(|word| word.is_chunked());
    let decoded = match length("x-amz-decoded-content-length") {
        None => None,
        Some(text) => {
            let bytes = text.ok().and_then(|text| text.parse::<u64>().ok());
            let invalid = "invalid header: x-amz-decoded-content-length";
            Some(bytes.ok_or_else(|| S3Error::invalid_request(invalid))?)
        }
    };
    let bytes = if is_chunked {
        decoded
    } else {
        length("content-length").and_then(|text| text.ok()?.parse().ok())
    };
    if bytes.is_some_and(|bytes| bytes > BODY_BYTES_MAX) {
        Err(Code::EntityTooLarge.into())
    } else {
        Ok(())
    }
}

fn count(operation: &'static str, status: StatusCode, taken: Duration) {
    let class = match status.as_u16() / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    };
    let labels = [("operation", operation), ("status", class)];
    metrics::counter!("megalith_s3_requests_total", &labels).increment(1);
    metrics::histogram!("megalith_s3_first_byte_seconds", "operation" => operation)
        .record(taken.as_secs_f64());
}
