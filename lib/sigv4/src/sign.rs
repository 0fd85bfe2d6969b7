//! Signing requests, as a client does.

use super::canonical::{Canonical, CanonicalPath, string_to_sign};
use super::chunk::ChunkChain;
use super::key::{Scope, Signature, SigningKey};
use super::time::AmzTime;
use super::uri::encode;
use super::{ALGORITHM, UNSIGNED_PAYLOAD};
use std::fmt;

/// Who signs, and for which region and service.
pub struct Signer<'a> {
    pub access_key: &'a str,
    pub secret: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

impl fmt::Debug for Signer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("access_key", &self.access_key)
            .field("region", &self.region)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// A request to sign.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    pub method: &'a str,
    /// Decoded. It must be sent in the form that [`encode`] writes.
    pub path: &'a str,
    /// Decoded.
    pub query: &'a [(String, String)],
    /// The headers to sign, with names in lower case; `host` must be among them. For a signature in
    /// a header, `x-amz-date` and `x-amz-content-sha256` must be too.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// A request's signature.
#[derive(Debug)]
pub struct Signed {
    /// The value of its `Authorization` header.
    pub authorization: String,
    /// Signs the chunks of its body, if the body travels in signed chunks.
    pub chunks: ChunkChain,
}

impl Signer<'_> {
    /// Signs a request by its header. `payload` is the hash of its body in hexadecimal digits, or
    /// one of this crate's words for it.
    #[must_use]
    pub fn sign(&self, time: AmzTime, request: Unsigned<'_>, payload: &str) -> Signed {
        let scope = self.scope(time);
        let key = SigningKey::derive(self.secret, &scope);
        let names = names_of(request.headers);
        let signature = signature(&key, time, &scope, request, &names, request.query, payload);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope},SignedHeaders={},Signature={}",
            self.access_key,
            names.join(";"),
            signature.to_hex()
        );
        Signed {
            authorization,
            chunks: ChunkChain::new(key, time, scope, signature),
        }
    }

    /// Signs a request as a URL that is valid for `expires_seconds`; returns its whole query,
    /// encoded.
    #[must_use]
    pub fn presign(&self, time: AmzTime, request: Unsigned<'_>, expires_seconds: u64) -> String {
        let scope = self.scope(time);
        let key = SigningKey::derive(self.secret, &scope);
        let names = names_of(request.headers);
        let mut query = request.query.to_vec();
        let mut add = |name: &str, value: String| query.push((name.to_owned(), value));
        add("X-Amz-Algorithm", ALGORITHM.to_owned());
        add("X-Amz-Credential", format!("{}/{scope}", self.access_key));
        add("X-Amz-Date", time.to_string());
        add("X-Amz-Expires", expires_seconds.to_string());
        add("X-Amz-SignedHeaders", names.join(";"));
        let signature = signature(
            &key,
            time,
            &scope,
            request,
            &names,
            &query,
            UNSIGNED_PAYLOAD,
        );
        query.push(("X-Amz-Signature".to_owned(), signature.to_hex()));
        encode_query(&query)
    }

    fn scope(&self, time: AmzTime) -> Scope {
        Scope {
            date: time.date(),
            region: self.region.to_owned(),
            service: self.service.to_owned(),
        }
    }
}

/// Writes a query in the form in which it is sent.
#[must_use]
pub fn encode_query(query: &[(String, String)]) -> String {
    let mut out = Vec::new();
    for (index, (name, value)) in query.iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        encode(name, false, &mut out);
        out.push(b'=');
        encode(value, false, &mut out);
    }
    String::from_utf8(out).expect("encoded text is ASCII")
}

fn names_of(headers: &[(&str, &[u8])]) -> Vec<String> {
    let mut names: Vec<String> = headers.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn signature(
    key: &SigningKey,
    time: AmzTime,
    scope: &Scope,
    request: Unsigned<'_>,
    names: &[String],
    query: &[(String, String)],
    payload: &str,
) -> Signature {
    let canonical = Canonical {
        method: request.method,
        path: CanonicalPath::Decoded(request.path),
        query,
        headers: request.headers,
        signed_headers: names,
        payload,
    };
    let text = canonical
        .text()
        .expect("the names are those of the headers");
    key.sign(&string_to_sign(time, scope, &text))
}
