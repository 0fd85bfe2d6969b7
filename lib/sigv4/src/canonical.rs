//! The canonical request and the string to sign.

use super::key::Scope;
use super::time::AmzTime;
use super::uri::encode;
use super::{ALGORITHM, hash};
use std::io::Write as _;

/// The form of the path in the canonical request.
#[derive(Clone, Copy, Debug)]
pub enum CanonicalPath<'a> {
    /// Decoded once, and encoded again here. `//`, `.` and `..` stay, as S3 requires.
    Decoded(&'a str),
    /// As it was sent. Some clients sign reserved characters as they are in the URL.
    AsSent(&'a str),
}

/// The signed parts of a request.
#[derive(Clone, Copy, Debug)]
pub struct Canonical<'a> {
    pub method: &'a str,
    pub path: CanonicalPath<'a>,
    /// Decoded, in any order. `X-Amz-Signature` is left out.
    pub query: &'a [(String, String)],
    /// All headers of the request, with names in lower case, in the order of the request.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Which of them are signed: in lower case, sorted, each once.
    pub signed_headers: &'a [String],
    /// What stands for the body.
    pub payload: &'a str,
}

/// A header is said to be signed, but is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signed header is missing")]
pub struct MissingHeader;

impl Canonical<'_> {
    /// Writes the canonical request.
    ///
    /// # Errors
    /// [`MissingHeader`].
    pub fn text(&self) -> Result<Vec<u8>, MissingHeader> {
        // Each name can be found only once, so a longer list must contain a missing name.
        if self.signed_headers.len() > self.headers.len() {
            return Err(MissingHeader);
        }
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(self.method.as_bytes());
        out.push(b'\n');
        match self.path {
            CanonicalPath::Decoded(path) => encode(path, true, &mut out),
            CanonicalPath::AsSent(path) => out.extend_from_slice(path.as_bytes()),
        }
        out.push(b'\n');
        self.put_query(&mut out);
        out.push(b'\n');
        for name in self.signed_headers {
            self.put_header(name, &mut out)?;
        }
        out.push(b'\n');
        out.extend_from_slice(self.signed_headers.join(";").as_bytes());
        out.push(b'\n');
        out.extend_from_slice(self.payload.as_bytes());
        Ok(out)
    }

    fn put_query(&self, out: &mut Vec<u8>) {
        let encoded = |text: &str| {
            let mut out = Vec::with_capacity(text.len());
            encode(text, false, &mut out);
            out
        };
        let mut pairs: Vec<_> = self
            .query
            .iter()
            .filter(|(name, _)| name != "X-Amz-Signature")
            .map(|(name, value)| (encoded(name), encoded(value)))
            .collect();
        pairs.sort_unstable();
        for (index, (name, value)) in pairs.iter().enumerate() {
            if index > 0 {
                out.push(b'&');
            }
            out.extend_from_slice(name);
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }

    /// Writes a header; several of one name are joined by commas.
    fn put_header(&self, name: &str, out: &mut Vec<u8>) -> Result<(), MissingHeader> {
        out.extend_from_slice(name.as_bytes());
        let mut mark = b':';
        for (_, value) in self.headers.iter().filter(|(found, _)| *found == name) {
            out.push(mark);
            put_value(value, out);
            mark = b',';
        }
        out.push(b'\n');
        if mark == b':' {
            Err(MissingHeader)
        } else {
            Ok(())
        }
    }
}

/// Writes a header's value without spaces at its ends; several spaces within become one.
fn put_value(value: &[u8], out: &mut Vec<u8>) {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let words = value.split(blank).filter(|word| !word.is_empty());
    for (index, word) in words.enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

/// Writes the text that is signed for a canonical request.
#[must_use]
pub fn string_to_sign(time: AmzTime, scope: &Scope, canonical: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    let hash = hex::encode(hash(canonical));
    write!(out, "{ALGORITHM}\n{time}\n{scope}\n{hash}").expect("memory can be written");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(
        query: &[(&str, &str)],
        headers: &[(&str, &[u8])],
        signed: &[&str],
    ) -> Result<String, MissingHeader> {
        let query: Vec<_> = query
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let signed_headers: Vec<_> = signed.iter().map(|name| (*name).to_owned()).collect();
        let canonical = Canonical {
            method: "GET",
            path: CanonicalPath::Decoded("/b//a b/../ü"),
            query: &query,
            headers,
            signed_headers: &signed_headers,
            payload: "UNSIGNED-PAYLOAD",
        };
        Ok(String::from_utf8(canonical.text()?).expect("ASCII"))
    }

    #[test]
    fn names_then_values_are_sorted_and_blanks_folded() {
        let query = [
            ("b", "2"),
            ("a b", "é+"),
            ("b", "1"),
            ("X-Amz-Signature", "0"),
            ("a", ""),
        ];
        let headers: [(&str, &[u8]); 4] = [
            ("x-amz-meta-a", b"  two \t words  "),
            ("host", b"h"),
            ("x-amz-meta-a", b"again"),
            ("not-signed", b"x"),
        ];
        let expected = "GET\n/b//a%20b/../%C3%BC\na=&a%20b=%C3%A9%2B&b=1&b=2\nhost:h\n\
                        x-amz-meta-a:two words,again\n\nhost;x-amz-meta-a\nUNSIGNED-PAYLOAD";
        let written = text(&query, &headers, &["host", "x-amz-meta-a"]);
        assert_eq!(written.as_deref(), Ok(expected));
    }

    #[test]
    fn a_signed_header_must_be_there() {
        assert_eq!(
            text(&[], &[("host", b"h")], &["host", "range"]),
            Err(MissingHeader)
        );
        let both: [(&str, &[u8]); 2] = [("host", b"h"), ("date", b"d")];
        assert_eq!(text(&[], &both, &["host", "range"]), Err(MissingHeader));
    }
}
