//! Reading a request's head. Whatever is not exactly in the form is malformed.

use super::Refused;
use http::{HeaderMap, Method, header, request};
use megalith_client::DataFault;
use megalith_client::framing::{self, READ_CELLS_MAX};
use megalith_client::wire::{DIGEST_HEADER, ShardPath, parse_digest};
use megalith_model::ids::{DiskId, Epoch};
use megalith_model::shape::{SEGMENT_CELLS_MAX, SEGMENT_LEN_MAX};
use megalith_model::shard::ShardDigest;
use megalith_store::{DiskHandle, Disks};

/// The most bytes of a shard: a whole segment, if k is 1.
const SHARD_LEN_MAX: u64 = SEGMENT_LEN_MAX;

/// What a request wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Put(WantedPut),
    Get(WantedGet),
}

/// A write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WantedPut {
    pub(super) path: ShardPath,
    pub(super) epoch: Epoch,
    pub(super) length: u64,
    /// None if it comes as a trailer.
    pub(super) digest: Option<ShardDigest>,
}

/// A read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WantedGet {
    pub(super) path: ShardPath,
    pub(super) first: u64,
    pub(super) count: u64,
}

pub(super) fn malformed(message: impl Into<String>) -> Refused {
    Refused::new(DataFault::Malformed, message)
}

/// Reads a head.
pub(super) fn read(head: &request::Parts) -> Result<Wanted, Refused> {
    let path: ShardPath = head
        .uri
        .path()
        .parse()
        .map_err(|error| malformed(format!("path: {error}")))?;
    let query = head.uri.query().unwrap_or_default();
    match head.method {
        Method::PUT => read_put(path, query, &head.headers).map(Wanted::Put),
        Method::GET => read_get(path, query).map(Wanted::Get),
        _ => Err(malformed(format!("method {}", head.method))),
    }
}

fn read_put(path: ShardPath, query: &str, headers: &HeaderMap) -> Result<WantedPut, Refused> {
    let [epoch, length] = numbers(query, ["epoch", "length"])?;
    let epoch = u32::try_from(epoch).map_err(|_| malformed("epoch: too large"))?;
    if length == 0 || length > SHARD_LEN_MAX {
        return Err(malformed(format!("length: not 1 to {SHARD_LEN_MAX}")));
    }
    let digest = one(headers, DIGEST_HEADER)?
        .map(|text| parse_digest(text).ok_or_else(|| malformed("digest: not 64 digits")))
        .transpose()?;
    let expected = framing::body_len(length, 0, framing::cells(length));
    match (one(headers, header::CONTENT_LENGTH.as_str())?, digest) {
        (Some(text), Some(_)) if text.parse() != Ok(expected) => {
            Err(malformed(format!("content-length: not {expected}")))
        }
        (Some(_), None) => Err(malformed(
            "a body with a length needs its digest in the head",
        )),
        (None, Some(_)) => Err(malformed("a chunked body has its digest in its trailer")),
        (Some(_), Some(_)) | (None, None) => Ok(WantedPut {
            path,
            epoch: Epoch(epoch),
            length,
            digest,
        }),
    }
}

fn read_get(path: ShardPath, query: &str) -> Result<WantedGet, Refused> {
    let [first, count] = numbers(query, ["first", "count"])?;
    if count == 0 || count > READ_CELLS_MAX || first >= SEGMENT_CELLS_MAX {
        return Err(malformed(format!("cells: {count} from {first} on")));
    }
    Ok(WantedGet { path, first, count })
}

/// Reads exactly these parameters, each once, in any order.
fn numbers<const N: usize>(query: &str, names: [&str; N]) -> Result<[u64; N], Refused> {
    let mut found = [None; N];
    for pair in query.split('&') {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let at = names.iter().position(|&known| known == name);
        let at = at.ok_or_else(|| malformed(format!("parameter {name:?} is not known")))?;
        let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|_| digits);
        let number = number.ok_or_else(|| malformed(format!("{name}: not a number")))?;
        if found[at].replace(number).is_some() {
            return Err(malformed(format!("{name}: given twice")));
        }
    }
    let mut numbers = [0; N];
    for ((number, found), name) in numbers.iter_mut().zip(found).zip(names) {
        *number = found.ok_or_else(|| malformed(format!("{name}: missing")))?;
    }
    Ok(numbers)
}

/// Returns the one value of a header.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(malformed(format!("{name}: given twice")));
    }
    value
        .map(|value| {
            value
                .to_str()
                .map_err(|_| malformed(format!("{name}: not text")))
        })
        .transpose()
}

/// Reads the digest in a chunked body's trailers.
pub(super) fn trailer_digest(trailers: Option<&HeaderMap>) -> Result<ShardDigest, Refused> {
    let none = || malformed("a chunked body has its digest in its trailer");
    let text = one(trailers.ok_or_else(none)?, DIGEST_HEADER)?.ok_or_else(none)?;
    parse_digest(text).ok_or_else(|| malformed("digest: not 64 digits"))
}

/// Returns a disk of this node. If it isn't here, that says nothing of the shards on it.
pub(super) fn disk(disks: &Disks, id: DiskId) -> Result<DiskHandle, Refused> {
    let missing = || Refused::new(DataFault::Io, format!("no disk {id} here"));
    disks.get(id).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    type Headers<'a> = &'a [(&'a str, &'a str)];

    const PATH: &str = "/v1/shards/07070707070707070707070707070707/1/2/0/3";

    fn read(method: &str, uri: &str, headers: Headers<'_>) -> Result<Wanted, &'static str> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("valid HTTP").into_parts();
        super::read(&head).map_err(|refused| refused.fault.name())
    }

    #[test]
    fn only_the_exact_form_is_read() {
        let digest = "ab".repeat(32);
        let put = format!("{PATH}?epoch=5&length=10");
        let whole = [
            ("content-length", "14"),
            ("x-megalith-digest", digest.as_str()),
        ];
        assert!(matches!(read("PUT", &put, &whole), Ok(Wanted::Put(_))));
        assert!(matches!(read("PUT", &put, &[]), Ok(Wanted::Put(_))));
        let largest = format!("{PATH}?epoch=5&length={SEGMENT_LEN_MAX}");
        assert!(matches!(read("PUT", &largest, &[]), Ok(Wanted::Put(_))));
        let get = format!("{PATH}?count=2&first=1");
        assert!(matches!(read("GET", &get, &[]), Ok(Wanted::Get(_))));
        let bad: &[(&str, String, Headers<'_>)] = &[
            ("PUT", put.clone(), &whole[..1]),
            ("PUT", put.clone(), &whole[1..]),
            ("PUT", put.clone(), &[("content-length", "15"), whole[1]]),
            ("PUT", put.clone(), &[whole[0], whole[1], whole[1]]),
            ("PUT", put.clone(), &[whole[0], ("x-megalith-digest", "ab")]),
            ("PUT", format!("{PATH}?epoch=5"), &[]),
            ("PUT", format!("{PATH}?epoch=5&length=0"), &[]),
            (
                "PUT",
                format!("{PATH}?epoch=5&length={}", SEGMENT_LEN_MAX + 1),
                &[],
            ),
            ("PUT", format!("{PATH}?epoch=5&epoch=5&length=1"), &[]),
            ("PUT", format!("{PATH}?epoch=4294967296&length=1"), &[]),
            ("PUT", format!("{PATH}?epoch=+5&length=1"), &[]),
            ("PUT", format!("{PATH}?epoch=5&length=1&x=1"), &[]),
            ("PUT", format!("/{put}"), &[]),
            ("GET", format!("{PATH}?first=0&count=65"), &[]),
            ("GET", format!("{PATH}?first=0&count=0"), &[]),
            ("GET", format!("{PATH}?first=1024&count=1"), &[]),
            ("GET", PATH.to_owned(), &[]),
            ("GET", format!("{PATH}/?first=0&count=1"), &[]),
            ("GET", "/?first=0&count=1".to_owned(), &[]),
            ("POST", put.clone(), &[]),
            ("DELETE", put.clone(), &[]),
        ];
        for (method, uri, headers) in bad {
            assert_eq!(
                read(method, uri, headers),
                Err("malformed"),
                "{method} {uri}"
            );
        }
    }
}
