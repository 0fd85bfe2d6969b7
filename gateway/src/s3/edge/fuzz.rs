//! An entrance for `tests/fuzz`: the gate, and chunked bodies. Built only with the feature `fuzz`,
//! which the program never enables.

use super::auth::gate;
use super::chunked::Decoder;
use bytes::Bytes;
use http::request::Parts;
use megalith_sigv4::uri::parse_query;
use megalith_sigv4::{AmzTime, ChunkChain, Scope, SigningKey};

/// A body's data and its trailers.
pub type Taken = (Vec<u8>, Vec<(String, String)>);

/// Checks a head as the front door does before anything is looked up; fails with S3's code.
///
/// # Errors
/// The code of the refusal.
pub fn judge(head: &Parts, region: &str) -> Result<(), &'static str> {
    let query = parse_query(head.uri.query().unwrap_or_default()).map_err(|_| "InvalidURI")?;
    let verdict = gate(head, &query, region);
    verdict.map(|_| ()).map_err(|refusal| refusal.code().name())
}

/// Decodes a chunked body that comes in pieces; None if it is refused.
#[must_use]
pub fn take(body: &[u8], signed: bool, piece: usize) -> Option<Taken> {
    let mut decoder = Decoder::new(signed.then(|| Box::new(chain())));
    let mut data = Vec::new();
    for piece in body.chunks(piece) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(found) = decoder.next(&mut piece).ok()? {
            data.extend_from_slice(&found);
        }
    }
    Some((data, decoder.finish().ok()?))
}

/// The seed of a signed body's signatures; always the same.
#[must_use]
pub fn chain() -> ChunkChain {
    let time = AmzTime::at(0);
    let scope = Scope {
        date: time.date(),
        region: "us-east-1".to_owned(),
        service: "s3".to_owned(),
    };
    let key = SigningKey::derive("secret", &scope);
    let seed = key.sign(b"seed");
    ChunkChain::new(key, time, scope, seed)
}
