//! HTTP for a backup's bucket: the client through which `object_store` calls.
//!
//! It uses the same HTTP and TLS as the rest of the program, so that this one use doesn't bring a
//! second stack. Trusts the system's certificates and those it is given. Follows no redirects and
//! uses no proxy.

use crate::trust::{Trust, TrustError, client_config};
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, Error as ClientError, connect::HttpConnector as Tcp};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use rustls::ClientConfig;
use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// Makes clients with one set of trusted certificates.
#[derive(Debug)]
pub struct BucketConnector {
    tls: ClientConfig,
    /// The time for a request, from its start to the head of its answer, and for each piece of its
    /// body.
    deadline: Duration,
}

impl BucketConnector {
    /// Trusts the system's certificates, and those in the PEM file `bundle`.
    pub fn new(bundle: Option<&Path>, deadline: Duration) -> Result<Self, TrustError> {
        let tls = client_config(Trust::SystemAnd(bundle))?;
        Ok(Self { tls, deadline })
    }
}

impl HttpConnector for BucketConnector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        // `object_store` decides whether an endpoint may be without TLS.
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.clone())
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(HttpClient::new(Service {
            client,
            deadline: self.deadline,
        }))
    }
}

/// Sends requests.
#[derive(Debug)]
struct Service {
    client: Client<HttpsConnector<Tcp>, HttpRequestBody>,
    deadline: Duration,
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answered = timeout(self.deadline, self.client.request(request)).await;
        let response = answered
            .map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?
            .map_err(request_error)?;
        let (head, body) = response.into_parts();
        let body = body.map_err(|error| HttpError::new(kind_of(&error), error));
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

fn request_error(error: ClientError) -> HttpError {
    let kind = if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        kind_of(&error)
    };
    HttpError::new(kind, error)
}

/// Finds out whether the connection failed; then a request that may be repeated is sent again.
fn kind_of(error: &(dyn Error + 'static)) -> HttpErrorKind {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_closed() || error.is_incomplete_message() || error.is_body_write_aborted())
        {
            return HttpErrorKind::Interrupted;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            match error.kind() {
                io::ErrorKind::TimedOut => return HttpErrorKind::Timeout,
                io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof => return HttpErrorKind::Interrupted,
                _ => {}
            }
        }
        cause = error.source();
    }
    HttpErrorKind::Unknown
}
