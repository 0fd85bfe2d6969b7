//! A request's head as a text that a fuzzer can write: `METHOD target`, then one header per line.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri};

/// The most headers that are read.
const HEADERS_MAX: usize = 64;

/// Reads a head; None if it can't be one. Skips lines that are not headers.
#[must_use]
pub fn parts(text: &[u8]) -> Option<Parts> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|&byte| byte == b' ')?;
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = Method::from_bytes(&first[..space]).ok()?;
    head.uri = Uri::try_from(&first[space + 1..]).ok()?;
    for line in lines.take(HEADERS_MAX) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let value = line[colon + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(&line[..colon]),
            HeaderValue::from_bytes(value),
        ) {
            head.headers.append(name, value);
        }
    }
    Some(head)
}
