//! Lists a bucket's objects, by the first version of the call.

use super::{PAGE_MAX, object, prefixes};
use crate::ops::ListRequest;
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{On, Operation, Route, Takes};
use crate::s3::edge::xml::Xml;
use crate::s3::fields::count;
use crate::s3::show::Encoding;
use http::Method;

/// Lists a bucket's objects, by the first version of the call.
pub(in crate::s3) struct ListObjects {
    bucket: String,
    prefix: String,
    delimiter: Option<String>,
    marker: String,
    max: u32,
    encoding: Encoding,
}

impl Operation for ListObjects {
    const ROUTE: &'static Route = &Route {
        name: "ListObjects",
        method: Method::GET,
        on: On::Bucket,
        chosen_by: &[],
        query: &["delimiter", "encoding-type", "marker", "max-keys", "prefix"],
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
            marker: request.query_text("marker")?.unwrap_or_default(),
            max: max.min(PAGE_MAX),
            encoding: Encoding::parse(request.query("encoding-type")?)?,
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let Self {
            bucket,
            prefix,
            delimiter,
            marker,
            max,
            encoding,
        } = self;
        let wish = ListRequest {
            bucket: bucket.clone(),
            prefix: prefix.clone(),
            delimiter: delimiter.clone().unwrap_or_default(),
            after: marker.clone(),
            max,
        };
        let page = core.store.list(granted.caller(), wish).await?;
        let folded = delimiter.is_some();
        Ok(Answer::xml(Xml::document("ListBucketResult", |xml| {
            xml.text("Name", &bucket);
            xml.text("Prefix", &encoding.text(&prefix));
            xml.text("Marker", &encoding.text(&marker));
            xml.value("MaxKeys", max);
            xml.value("IsTruncated", page.next.is_some());
            for listed in &page.objects {
                object(xml, listed, encoding, Some(granted.caller()));
            }
            prefixes(xml, &page.common_prefixes, encoding);
            xml.text_if("Delimiter", delimiter.map(|text| encoding.text(&text)));
            // As in S3: without a delimiter clients use the last key as the marker.
            let next = page.next.as_deref().filter(|_| folded);
            xml.text_if("NextMarker", next.map(|text| encoding.text(text)));
            encoding.show(xml);
        })))
    }
}
