//! A request as an operation reads it: signed, routed, and checked against the route's tables.

use super::auth::Verified;
use super::body::Incoming;
use super::error::{Code, S3Error};
use super::route::{Field, Route};
use super::target::Target;
use super::words;
use crate::ops::Store;
use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Uri, header};
use megalith_blobs::Reservation;
use std::borrow::Cow;
use std::str::FromStr;

/// A signed request.
pub(in crate::s3) struct Request {
    pub(super) verified: Verified,
    /// None once it is taken.
    pub(super) body: Option<Incoming>,
    /// The body of a request whose operation takes a document.
    pub(super) whole: Bytes,
    pub(super) route: &'static Route,
    pub(super) target: Target,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    /// As it was sent.
    pub(super) uri: Uri,
    /// How it came; None if that is not known.
    pub(super) scheme: Option<Scheme>,
}

impl Request {
    pub(super) fn verified(&self) -> &Verified {
        &self.verified
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(in crate::s3) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the bucket; empty if the operation needs none.
    pub(in crate::s3) fn bucket(&self) -> String {
        self.target.bucket().to_owned()
    }

    /// Returns the object's key; empty if the operation needs none.
    pub(in crate::s3) fn key(&self) -> String {
        self.target.key().to_owned()
    }

    /// Returns the URL of what the request names, without parameters, as the client wrote it.
    pub(in crate::s3) fn url(&self) -> String {
        let scheme = self.scheme.as_ref().unwrap_or(&Scheme::HTTP);
        let host = self.headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        format!("{scheme}://{host}{}", self.uri.path())
    }

    /// Returns the document, which has been read whole.
    pub(in crate::s3) fn document(&self) -> &[u8] {
        &self.whole
    }

    /// Returns the body; None if it was taken already.
    pub(in crate::s3) fn take_body(&mut self) -> Option<Incoming> {
        self.body.take()
    }

    /// Reads the document. Returns the memory that is reserved for it.
    pub(super) async fn read_whole(
        &mut self,
        of_body: bool,
        store: &Store,
    ) -> Result<Option<Reservation>, S3Error> {
        let Some(body) = self.body.take() else {
            return Ok(None);
        };
        let payer = self.verified.caller().payer();
        let reserve = |bytes| store.reserve(payer, bytes);
        let whole = body.whole(&self.headers, of_body, reserve).await?;
        self.whole = whole.bytes;
        Ok(whole.held)
    }

    /// Refuses the headers that the route's table refuses.
    pub(super) fn check_fields(&self, route: &Route) -> Result<(), S3Error> {
        for field in route.headers.iter().copied().flatten() {
            match field {
                Field::Reads(_) => {}
                Field::Refuses(name, what) => {
                    if self.text(name)?.is_some() {
                        return Err(S3Error::not_implemented(what).blame("Header", name));
                    }
                }
                Field::Checks(name, check) => {
                    if let Some(text) = self.text(name)? {
                        check(text)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads a header of the route's table. An empty one counts as absent.
    ///
    /// # Errors
    /// `InvalidRequest` if it occurs twice, `InvalidArgument` if it is not text.
    pub(in crate::s3) fn header(&self, name: &str) -> Result<Option<&str>, S3Error> {
        debug_assert!(self.route.knows_header(name), "{}: {name}", self.route.name);
        self.text(name)
    }

    fn text(&self, name: &str) -> Result<Option<&str>, S3Error> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(S3Error::invalid_request(format!(
                "duplicate header: {name}"
            )));
        }
        let invalid = |_| S3Error::invalid_argument(format!("invalid header: {name}"));
        let text = value.to_str().map_err(invalid)?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// Reads a header as a number or truth value.
    ///
    /// # Errors
    /// As [`Request::header`]; `InvalidArgument` for any other text.
    pub(in crate::s3) fn parsed_header<T: FromStr>(
        &self,
        name: &str,
    ) -> Result<Option<T>, S3Error> {
        let parse = |text: &str| {
            let invalid = |_| S3Error::invalid_argument(format!("invalid header: {name}"));
            text.parse()
                .map_err(|error| invalid(error).argument(name, text))
        };
        self.header(name)?.map(parse).transpose()
    }

    /// Reads a parameter that the route knows; it may be empty.
    ///
    /// # Errors
    /// `InvalidRequest` if it occurs twice.
    pub(in crate::s3) fn query(&self, name: &str) -> Result<Option<&str>, S3Error> {
        debug_assert!(self.route.knows_query(name), "{}: {name}", self.route.name);
        let mut values = self.query.iter().filter(|(found, _)| found == name);
        let Some((_, value)) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(S3Error::invalid_request(format!("duplicate query: {name}")));
        }
        Ok(Some(value))
    }

    /// Reads a parameter as an owned text.
    ///
    /// # Errors
    /// As [`Request::query`].
    pub(in crate::s3) fn query_text(&self, name: &str) -> Result<Option<String>, S3Error> {
        Ok(self.query(name)?.map(str::to_owned))
    }

    /// Reads a parameter as a number or truth value.
    ///
    /// # Errors
    /// As [`Request::query`]; `InvalidArgument` for any other text.
    pub(in crate::s3) fn parsed_query<T: FromStr>(&self, name: &str) -> Result<Option<T>, S3Error> {
        let parse = |text: &str| {
            let invalid = |_| S3Error::invalid_argument(format!("invalid query: {name}"));
            text.parse()
                .map_err(|error| invalid(error).argument(name, text))
        };
        self.query(name)?.map(parse).transpose()
    }

    /// Reads the user's metadata: `x-amz-meta-*` without that prefix, sorted. The values of one
    /// that occurs twice are joined by commas, as they are signed.
    ///
    /// # Errors
    /// `InvalidArgument` if one is not text.
    pub(in crate::s3) fn metadata(&self) -> Result<Vec<(String, String)>, S3Error> {
        let mut entries = Vec::new();
        for name in self.headers.keys() {
            let Some(key) = name.as_str().strip_prefix("x-amz-meta-") else {
                continue;
            };
            if key.is_empty() {
                continue;
            }
            let text = |value: &HeaderValue| {
                let text = std::str::from_utf8(value.as_bytes()).ok();
                text.and_then(words::decode).map(Cow::into_owned)
            };
            let values = self.headers.get_all(name).iter().map(text);
            let values: Option<Vec<String>> = values.collect();
            let values = values
                .ok_or_else(|| S3Error::invalid_argument(format!("invalid header: {name}")))?;
            entries.push((key.to_owned(), values.join(",")));
        }
        entries.sort();
        Ok(entries)
    }

    /// Returns how many bytes the body announces.
    ///
    /// # Errors
    /// `MissingContentLength`.
    pub(in crate::s3) fn body_length(&self) -> Result<u64, S3Error> {
        let length = |name: &str| {
            let text = self.headers.get(name)?.to_str().ok()?;
            text.parse::<u64>().ok()
        };
        length("x-amz-decoded-content-length")
            .or_else(|| length("content-length"))
            .ok_or_else(|| Code::MissingContentLength.into())
    }
}
