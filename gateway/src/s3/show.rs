//! What the answers of several operations share.

use super::edge::answer::Answer;
use super::edge::authorise::owner_id;
use super::edge::error::S3Error;
use super::edge::xml::Xml;
use crate::ops::Caller;
use crate::ops::checksum::Algorithm;
use http::HeaderName;
use megalith_crypto::manifest::{Checksum, ChecksumType};

/// S3's name for the encryption that every object has.
pub(super) const ENCRYPTION: &str = "AES256";
pub(super) const STANDARD: &str = "STANDARD";

/// Names of headers that are S3's and not HTTP's.
pub(super) const X_AMZ_ENCRYPTION: HeaderName =
    HeaderName::from_static("x-amz-server-side-encryption");
const X_AMZ_CHECKSUM_TYPE: HeaderName = HeaderName::from_static("x-amz-checksum-type");

pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

pub(super) fn covers(covers: ChecksumType) -> &'static str {
    match covers {
        ChecksumType::FullObject => "FULL_OBJECT",
        ChecksumType::Composite => "COMPOSITE",
    }
}

/// Writes checksums into headers.
pub(super) fn checksum_headers(answer: Answer, checksums: &[Checksum]) -> Answer {
    checksums.iter().fold(answer, |answer, checksum| {
        match Algorithm::parse(&checksum.algorithm) {
            Some(algorithm) => {
                let name = HeaderName::from_static(algorithm.header());
                answer.header(name, &checksum.value)
            }
            None => answer,
        }
    })
}

/// Writes what checksums cover into a header.
pub(super) fn checksum_type_header(answer: Answer, checksums: &[Checksum]) -> Answer {
    let covers = checksums.first().map(|checksum| covers(checksum.covers));
    answer.header_if(X_AMZ_CHECKSUM_TYPE, covers)
}

/// Writes checksums as elements.
pub(super) fn checksums(xml: &mut Xml, checksums: &[Checksum]) {
    for checksum in checksums {
        if let Some(algorithm) = Algorithm::parse(&checksum.algorithm) {
            xml.text(&format!("Checksum{}", algorithm.name()), &checksum.value);
        }
    }
}

/// Writes what checksums cover as an element.
pub(super) fn checksum_type(xml: &mut Xml, checksums: &[Checksum]) {
    xml.text_if(
        "ChecksumType",
        checksums.first().map(|checksum| covers(checksum.covers)),
    );
}

/// Writes an account as an element of that name.
pub(super) fn account(xml: &mut Xml, name: &str, caller: Caller) {
    xml.element(name, |xml| xml.text("ID", &owner_id(caller)));
}

/// Writes the only access list there is: the owner may do everything.
pub(super) fn access_list(caller: Caller) -> Xml {
    let grantee = [
        ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
        ("xsi:type", "CanonicalUser"),
    ];
    Xml::document("AccessControlPolicy", |xml| {
        xml.element("AccessControlList", |xml| {
            xml.element("Grant", |xml| {
                xml.with("Grantee", &grantee, |xml| xml.text("ID", &owner_id(caller)));
                xml.text("Permission", "FULL_CONTROL");
            });
        });
        account(xml, "Owner", caller);
    })
}

/// How keys and prefixes are written, as `encoding-type` requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Url,
}

impl Encoding {
    pub(super) fn parse(wish: Option<&str>) -> Result<Self, S3Error> {
        match wish {
            None => Ok(Self::Plain),
            Some("url") => Ok(Self::Url),
            Some(other) => {
                let text = "Invalid Encoding Method specified in Request";
                Err(S3Error::invalid_argument(text).argument("encoding-type", other))
            }
        }
    }

    /// Names the encoding, if one was requested.
    pub(super) fn show(self, xml: &mut Xml) {
        match self {
            Self::Plain => {}
            Self::Url => xml.text("EncodingType", "url"),
        }
    }

    /// Writes a key; slashes stay as they are.
    pub(super) fn text(self, key: &str) -> String {
        match self {
            Self::Plain => key.to_owned(),
            Self::Url => {
                let mut text = String::with_capacity(key.len());
                for byte in key.bytes() {
                    if byte.is_ascii_alphanumeric() || b"-_.~/*".contains(&byte) {
                        text.push(char::from(byte));
                    } else {
                        text.push_str(&format!("%{byte:02X}"));
                    }
                }
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_encoding_keeps_slashes() {
        assert_eq!(
            Encoding::Url.text("a/b c+d&ü\n.txt"),
            "a/b%20c%2Bd%26%C3%BC%0A.txt"
        );
        assert_eq!(Encoding::Plain.text("a b"), "a b");
    }
}
