//! An entrance for `tests/fuzz`: the gate, signatures, chunked bodies and documents. Built only
//! with the feature `fuzz`, which the program never enables.

use super::auth::{gate, timely, verify};
use super::chunked::ChunkedDecoder;
use super::error::{Code, S3Error};
use super::host::BaseDomains;
use super::target::DecodedUrl;
use super::xml::{Reader, Xml};
use crate::s3::{bucket, object, upload};
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
    verdict.map(drop).map_err(code)
}

/// Verifies a head as the front door does, at `now` in seconds since 1970, if there is one access
/// key with that secret: S3's code if it is refused.
///
/// # Errors
/// That code.
pub fn verified(
    head: &Parts,
    region: &str,
    (access_key, secret): (&str, &str),
    now: i64,
) -> Result<(), &'static str> {
    let verdict = || {
        let url = DecodedUrl::read(&head.uri, None, &BaseDomains::new(&[]))?;
        let means = gate(head, &url.query, region)?;
        let timely = timely(head, means, now)?;
        if timely.claim.access_key != access_key {
            return Err(Code::InvalidAccessKeyId.into());
        }
        verify(head, &url, timely, secret)
    };
    verdict().map(drop).map_err(code)
}

/// What each kind of document says to the operation that takes it: deletions, parts, a location.
pub fn read_documents(document: &[u8]) -> [Result<String, &'static str>; 3] {
    [
        object::deletes(document).map(|said| format!("{said:?}")),
        upload::parts(document).map(|said| format!("{said:?}")),
        bucket::location(document).map(|said| format!("{said:?}")),
    ]
    .map(|said| said.map_err(code))
}

/// Writes a document that has these texts, each in an element of that name.
#[must_use]
pub fn write_texts(root: &str, name: &str, texts: &[String]) -> Bytes {
    let write = |xml: &mut Xml| texts.iter().for_each(|text| xml.text(name, text));
    Xml::document(root, write).into_bytes()
}

/// Reads the texts of such a document; None if it is refused.
#[must_use]
pub fn read_texts(document: &[u8], root: &str, name: &str) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    let read = Reader::document(document, root, |reader, found| {
        if found == name {
            texts.push(reader.text()?);
            return Ok(());
        }
        reader.skip()
    });
    read.ok().map(|()| texts)
}

#[expect(clippy::needless_pass_by_value, reason = "it is mapped over")]
fn code(refusal: S3Error) -> &'static str {
    refusal.code().name()
}

/// Decodes a chunked body that comes in pieces; None if it is refused.
#[must_use]
pub fn take(body: &[u8], signed: bool, piece: usize) -> Option<Taken> {
    let mut decoder = ChunkedDecoder::new(signed.then(|| Box::new(chain())));
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
