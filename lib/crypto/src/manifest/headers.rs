//! The standard headers of an object, and how they are kept: as a list of those that are there.
//!
//! ```text
//! header = 0 ‖ content type, as `texts.rs` stores it
//!        | 1: Content-Encoding, 2: Content-Disposition, 3: Content-Language, 4: Cache-Control,
//!          5: Expires ‖ text
//! ```

use crate::texts::ContentType;
use serde::{Deserialize, Serialize};

/// The standard headers returned with an object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Header>", into = "Vec<Header>")]
pub struct ContentHeaders {
    /// `Content-Type`
    pub content_type: Option<String>,
    /// `Content-Encoding`
    pub content_encoding: Option<String>,
    /// `Content-Disposition`
    pub content_disposition: Option<String>,
    /// `Content-Language`
    pub content_language: Option<String>,
    /// `Cache-Control`
    pub cache_control: Option<String>,
    /// `Expires`
    pub expires: Option<String>,
}

/// The order of the variants is stored.
#[derive(Serialize, Deserialize)]
enum Header {
    ContentType(ContentType),
    ContentEncoding(String),
    ContentDisposition(String),
    ContentLanguage(String),
    CacheControl(String),
    Expires(String),
}

impl ContentHeaders {
    /// Returns the texts of the headers that are there.
    pub(super) fn texts(&self) -> impl Iterator<Item = &String> {
        let Self {
            content_type,
            content_encoding,
            content_disposition,
            content_language,
            cache_control,
            expires,
        } = self;
        [
            content_type,
            content_encoding,
            content_disposition,
            content_language,
            cache_control,
            expires,
        ]
        .into_iter()
        .flatten()
    }
}

impl From<ContentHeaders> for Vec<Header> {
    fn from(headers: ContentHeaders) -> Self {
        let ContentHeaders {
            content_type,
            content_encoding,
            content_disposition,
            content_language,
            cache_control,
            expires,
        } = headers;
        [
            content_type.map(|text| Header::ContentType(text.into())),
            content_encoding.map(Header::ContentEncoding),
            content_disposition.map(Header::ContentDisposition),
            content_language.map(Header::ContentLanguage),
            cache_control.map(Header::CacheControl),
            expires.map(Header::Expires),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl From<Vec<Header>> for ContentHeaders {
    fn from(list: Vec<Header>) -> Self {
        let mut headers = Self::default();
        for header in list {
            match header {
                Header::ContentType(text) => headers.content_type = Some(text.into()),
                Header::ContentEncoding(text) => headers.content_encoding = Some(text),
                Header::ContentDisposition(text) => headers.content_disposition = Some(text),
                Header::ContentLanguage(text) => headers.content_language = Some(text),
                Header::CacheControl(text) => headers.cache_control = Some(text),
                Header::Expires(text) => headers.expires = Some(text),
            }
        }
        headers
    }
}
