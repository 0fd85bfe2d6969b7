//! A client that signs as S3 clients do (signature version 4). It is written from the description,
//! not with the crate with which the gateway verifies.

use super::world::{Key, World};
use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("text"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first element of that name.
    pub(crate) fn element(&self, name: &str) -> Option<String> {
        self.elements(name).into_iter().next()
    }

    /// All elements of that name.
    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let text = self.text();
        text.split(&open)
            .skip(1)
            .filter_map(|rest| rest.split_once(&close).map(|(inner, _)| inner.to_owned()))
            .collect()
    }

    /// (status, S3's code).
    pub(crate) fn error(&self) -> (u16, String) {
        (self.status, self.element("Code").unwrap_or_default())
    }

    pub(crate) fn etag(&self) -> String {
        self.header("etag")
            .expect("an etag")
            .trim_matches('"')
            .to_owned()
    }
}

/// A request before it is signed.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query, encoded.
    pub(crate) target: String,
    pub(crate) host: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// Used instead of the hash of the body.
    pub(crate) payload: Option<String>,
    pub(crate) region: String,
    /// By how many seconds the clock is wrong.
    pub(crate) skew: i64,
}

pub(crate) fn call(method: &str, target: &str) -> Call {
    Call {
        method: method.parse().expect("a method"),
        target: target.to_owned(),
        host: "127.0.0.1:9000".to_owned(),
        headers: Vec::new(),
        body: Bytes::new(),
        payload: None,
        region: "us-east-1".to_owned(),
        skew: 0,
    }
}

impl Call {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers
            .push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn payload(mut self, payload: &str) -> Self {
        self.payload = Some(payload.to_owned());
        self
    }

    pub(crate) async fn send(self, world: &World) -> Answer {
        let ann = world.ann.clone();
        self.send_as(world, &ann).await
    }

    pub(crate) async fn send_as(self, world: &World, key: &Key) -> Answer {
        let signed = self.sign(key);
        answer(world, signed.request(|builder| builder)).await
    }

    /// Signs the request by header.
    pub(crate) fn sign(self, key: &Key) -> Signed {
        let (date, time) = now(self.skew);
        let mut headers = self.headers.clone();
        let hash = self.payload.clone().unwrap_or_else(|| sha256(&self.body));
        headers.push(("host".into(), self.host.clone()));
        headers.push(("x-amz-date".into(), time.clone()));
        headers.push(("x-amz-content-sha256".into(), hash.clone()));
        headers.sort();
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let signed_headers = names.join(";");
        let canonical = self.canonical(&headers, &signed_headers, &hash);
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let signing_key = signing_key(&key.secret, &date, &self.region);
        let signature = sign_text(&signing_key, &time, &scope, &canonical);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed_headers}, \
             Signature={signature}",
            key.id
        );
        Signed {
            call: self,
            headers,
            authorization,
            signing_key,
            time,
            scope,
            signature,
        }
    }

    /// Signs the request as a URL that is valid for `expires` seconds.
    pub(crate) fn presign(&self, key: &Key, expires: u64) -> String {
        let (date, time) = now(self.skew);
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let joint = if query.is_empty() { "" } else { "&" };
        let unsigned = Self {
            target: format!(
                "{path}?{query}{joint}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&\
                 X-Amz-Date={time}&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host",
                format!("{}/{scope}", key.id).replace('/', "%2F")
            ),
            ..self.clone()
        };
        let headers = [("host".to_owned(), self.host.clone())];
        let canonical = unsigned.canonical(&headers, "host", "UNSIGNED-PAYLOAD");
        let signing_key = signing_key(&key.secret, &date, &self.region);
        let signature = sign_text(&signing_key, &time, &scope, &canonical);
        format!("{}&X-Amz-Signature={signature}", unsigned.target)
    }

    fn canonical(&self, headers: &[(String, String)], signed: &str, hash: &str) -> String {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let mut pairs: Vec<String> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                if pair.contains('=') {
                    pair.to_owned()
                } else {
                    format!("{pair}=")
                }
            })
            .collect();
        pairs.sort();
        let mut text = format!("{}\n{path}\n{}\n", self.method, pairs.join("&"));
        for (name, value) in headers {
            writeln!(text, "{name}:{}", value.trim()).expect("a string");
        }
        write!(text, "\n{signed}\n{hash}").expect("a string");
        text
    }
}

/// A signed request.
pub(crate) struct Signed {
    pub(crate) call: Call,
    headers: Vec<(String, String)>,
    authorization: String,
    signing_key: Vec<u8>,
    time: String,
    scope: String,
    signature: String,
}

impl Signed {
    pub(crate) fn request(
        &self,
        change: impl FnOnce(http::request::Builder) -> http::request::Builder,
    ) -> Request<Full<Bytes>> {
        let mut builder = Request::builder()
            .method(self.call.method.clone())
            .uri(&self.call.target)
            .header("authorization", &self.authorization);
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        let length = self.call.body.len();
        if length > 0 || self.call.method == Method::PUT {
            builder = builder.header("content-length", length);
        }
        change(builder)
            .body(Full::new(self.call.body.clone()))
            .expect("a request")
    }

    /// Frames a body in signed chunks, with trailers if there are any.
    pub(crate) fn chunked(&self, chunks: &[&[u8]], trailers: &[(&str, &str)]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.signing_key);
        let mut previous = self.signature.clone();
        let mut body = Vec::new();
        let empty = sha256(b"");
        for chunk in chunks.iter().copied().chain([&b""[..]]) {
            let text = format!(
                "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{previous}\n{empty}\n{}",
                self.time,
                self.scope,
                sha256(chunk)
            );
            previous = hex::encode(hmac::sign(&key, text.as_bytes()));
            body.extend_from_slice(
                format!("{:x};chunk-signature={previous}\r\n", chunk.len()).as_bytes(),
            );
            body.extend_from_slice(chunk);
            if !chunk.is_empty() || trailers.is_empty() {
                body.extend_from_slice(b"\r\n");
            }
        }
        if !trailers.is_empty() {
            let mut canonical = String::new();
            for (name, value) in trailers {
                writeln!(canonical, "{name}:{value}").expect("a string");
                body.extend_from_slice(format!("{name}:{value}\r\n").as_bytes());
            }
            let text = format!(
                "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{previous}\n{}",
                self.time,
                self.scope,
                sha256(canonical.as_bytes())
            );
            let signature = hex::encode(hmac::sign(&key, text.as_bytes()));
            body.extend_from_slice(
                format!("x-amz-trailer-signature:{signature}\r\n\r\n").as_bytes(),
            );
        }
        body
    }

    /// Sends another body with the same head.
    pub(crate) async fn send_body(mut self, world: &World, body: Vec<u8>) -> Answer {
        self.call.body = body.into();
        answer(world, self.request(|builder| builder)).await
    }
}

/// Sends a request as it is.
pub(crate) async fn answer(world: &World, request: Request<Full<Bytes>>) -> Answer {
    read(world.face.answer(request).await).await
}

/// Sends a request whose body comes in pieces, breaks off or falls silent.
pub(crate) async fn answer_streamed<S>(world: &World, request: Request<S>) -> Answer
where
    S: futures::Stream<Item = Result<http_body::Frame<Bytes>, std::io::Error>> + Send + Unpin,
    S: 'static,
{
    read(world.face.answer(request.map(StreamBody::new)).await).await
}

async fn read(response: Response<crate::s3::AnswerBody>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
        .as_ref()
        .to_vec()
}

fn signing_key(secret: &str, date: &str, region: &str) -> Vec<u8> {
    let key = mac(format!("AWS4{secret}").as_bytes(), date);
    ["s3", "aws4_request"]
        .iter()
        .fold(mac(&key, region), |key, text| mac(&key, text))
}

fn sign_text(key: &[u8], time: &str, scope: &str, canonical: &str) -> String {
    let text = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        sha256(canonical.as_bytes())
    );
    hex::encode(mac(key, &text))
}

/// Returns the date and the time in the form of signatures.
fn now(skew: i64) -> (String, String) {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let moment = time::OffsetDateTime::from_unix_timestamp(since as i64 + skew).expect("a time");
    let date = format!(
        "{:04}{:02}{:02}",
        moment.year(),
        u8::from(moment.month()),
        moment.day()
    );
    let clock = format!(
        "{:02}{:02}{:02}",
        moment.hour(),
        moment.minute(),
        moment.second()
    );
    (date.clone(), format!("{date}T{clock}Z"))
}
