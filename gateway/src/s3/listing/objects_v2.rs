//! Lists a bucket's objects.

use super::{PAGE_MAX, object, prefixes};
use crate::ops::ListRequest;
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, On, Operation, Route, Takes};
use crate::s3::edge::xml::Xml;
use crate::s3::fields::count;
use crate::s3::show::Encoding;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;

/// Lists a bucket's objects.
pub(in crate::s3) struct ListObjectsV2 {
    bucket: String,
    prefix: String,
    delimiter: Option<String>,
    token: Option<String>,
    start_after: Option<String>,
    max: u32,
    encoding: Encoding,
    shows_owner: bool,
}

impl Operation for ListObjectsV2 {
    const ROUTE: &'static Route = &Route {
        name: "ListObjectsV2",
        method: Method::GET,
        on: On::Bucket,
        chosen_by: &[Chosen::QueryIs("list-type", "2")],
        query: &[
            "continuation-token",
            "delimiter",
            "encoding-type",
            "fetch-owner",
            "max-keys",
            "prefix",
            "start-after",
        ],
        headers: &[],
        takes: Takes::Nothing,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        let max = count("max-keys", request.parsed_query("max-keys")?, PAGE_MAX)?;
        Ok(Self {
            bucket: request.bucket(),
            prefix: request.query_text("prefix")?.unwrap_or_default(),
            delimiter: request
                .query_text("delimiter")?
                .filter(|text| !text.is_empty()),
            token: request.query_text("continuation-token")?,
            start_after: request.query_text("start-after")?,
            max: max.min(PAGE_MAX),
            encoding: Encoding::parse(request.query("encoding-type")?)?,
            shows_owner: request.parsed_query("fetch-owner")?.unwrap_or(false),
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let encoding = self.encoding;
        let after = match self.token.as_deref() {
            Some(token) => parse_token(token)?,
            None => self.start_after.clone().unwrap_or_default(),
        };
        let wish = ListRequest {
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            delimiter: self.delimiter.clone().unwrap_or_default(),
            after,
            max: self.max,
        };
        let page = core.store.list(granted.caller(), wish).await?;
        let owner = self.shows_owner.then_some(granted.caller());
        let encoded = |text: &String| encoding.text(text);
        Ok(Answer::xml(Xml::document("ListBucketResult", |xml| {
            xml.text("Name", &self.bucket);
            xml.text("Prefix", &encoding.text(&self.prefix));
            xml.value("MaxKeys", self.max);
            xml.value("KeyCount", page.objects.len() + page.common_prefixes.len());
            xml.text_if("ContinuationToken", self.token.as_deref());
            xml.value("IsTruncated", page.next.is_some());
            xml.text_if("NextContinuationToken", page.next.as_deref().map(token));
            for listed in &page.objects {
                object(xml, listed, encoding, owner);
            }
            prefixes(xml, &page.common_prefixes, encoding);
            xml.text_if("Delimiter", self.delimiter.as_ref().map(encoded));
            encoding.show(xml);
            xml.text_if("StartAfter", self.start_after.as_ref().map(encoded));
        })))
    }
}

/// Makes a continuation token: the place where the next page starts, in an opaque form.
fn token(after: &str) -> String {
    format!("1{}", URL_SAFE_NO_PAD.encode(after))
}

fn parse_token(token: &str) -> Result<String, S3Error> {
    let after = token
        .strip_prefix('1')
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    after.ok_or_else(|| S3Error::invalid_argument("The continuation token provided is incorrect"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_return_to_their_place() {
        for place in ["", "a", "a/b c", "ключ", "photos/"] {
            assert_eq!(parse_token(&token(place)).unwrap(), place);
        }
        for bad in ["", "x", "2YQ", "1***", "1/w=="] {
            assert!(parse_token(bad).is_err(), "{bad}");
        }
    }
}
