//! One POST at a time to the key service. Follows no redirects and uses no proxy.

use super::VaultSettingsError;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use megalith_client::chain;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// More than the answer to the longest batch.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// A client of one service.
pub(super) struct Caller {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Without a slash at its end.
    address: String,
    deadline: Duration,
}

impl Caller {
    pub(super) fn new(
        address: &str,
        tls: rustls::ClientConfig,
        deadline: Duration,
    ) -> Result<Self, VaultSettingsError> {
        let secure = check(address)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
        let connector = if secure {
            connector.https_only()
        } else {
            connector.https_or_http()
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector.enable_http1().build());
        Ok(Self {
            client,
            address: address.trim_end_matches('/').to_owned(),
            deadline,
        })
    }

    /// Sends a request; returns the status and the body of the answer, or why there is none.
    pub(super) async fn post(
        &self,
        path: &str,
        token: &str,
        namespace: Option<&str>,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<(u16, Zeroizing<Vec<u8>>), String> {
        let secret = HeaderValue::from_str(token.trim());
        let mut secret = secret.map_err(|_| "the token has strange letters".to_owned())?;
        secret.set_sensitive(true);
        let mut request = Request::post(format!("{}/v1/{path}", self.address))
            .header(HeaderName::from_static("x-vault-token"), secret)
            .header(HeaderName::from_static("x-vault-request"), "true")
            .header(CONTENT_TYPE, "application/json");
        if let Some(namespace) = namespace {
            request = request.header(HeaderName::from_static("x-vault-namespace"), namespace);
        }
        // Wiped with its owner.
        let body = Full::new(Bytes::from_owner(body));
        let request = request.body(body).map_err(|error| error.to_string())?;
        match timeout(self.deadline, self.exchange(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(format!("no answer within {} ms", self.deadline.as_millis())),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(u16, Zeroizing<Vec<u8>>), String> {
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| chain(&error))?;
        let status = answer.status().as_u16();
        let mut body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        let mut whole = Zeroizing::new(Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("the answer broke off: {error}"))?;
            if let Ok(piece) = frame.into_data() {
                // Grown by hand: a buffer that moves leaves its content behind.
                let mut longer = Zeroizing::new(Vec::with_capacity(whole.len() + piece.len()));
                longer.extend_from_slice(&whole);
                longer.extend_from_slice(&piece);
                whole = longer;
            }
        }
        Ok((status, whole))
    }
}

/// Returns whether an address has TLS.
fn check(address: &str) -> Result<bool, VaultSettingsError> {
    let malformed = || VaultSettingsError::Address(address.to_owned());
    let uri: Uri = address.parse().map_err(|_| malformed())?;
    let host = uri.host().ok_or_else(malformed)?;
    if uri.query().is_some() || uri.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err(malformed());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let own = bare
        .parse::<IpAddr>()
        .map_or(host == "localhost", |ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(true),
        Some("http") if own => Ok(false),
        Some("http") => Err(VaultSettingsError::Plain(address.to_owned())),
        Some(_) | None => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        for address in ["https://vault:8200", "https://10.0.0.1/behind/a/path/"] {
            assert_eq!(check(address), Ok(true), "{address}");
        }
        for address in [
            "http://127.0.0.1:8200",
            "http://localhost",
            "http://[::1]:8200",
        ] {
            assert_eq!(check(address), Ok(false), "{address}");
        }
        for address in [
            "http://vault:8200",
            "http://10.0.0.1",
            "http://localhost.example.org",
        ] {
            let plain = VaultSettingsError::Plain(address.to_owned());
            assert_eq!(check(address), Err(plain));
        }
        for address in [
            "",
            "vault:8200",
            "ftp://vault",
            "https://me@vault",
            "https://v/?a=b",
        ] {
            let malformed = VaultSettingsError::Address(address.to_owned());
            assert_eq!(check(address), Err(malformed));
        }
    }
}
