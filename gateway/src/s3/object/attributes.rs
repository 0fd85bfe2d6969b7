//! Shows selected attributes of an object.

use crate::ops::{GetRequest, PartInfo};
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::dates::http_date_ms;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, Field, On, Operation, Route, Takes};
use crate::s3::edge::xml::Xml;
use crate::s3::fields::{CUSTOMER_KEYS, count};
use crate::s3::show::{STANDARD, checksum_type, checksums};
use http::Method;
use http::header::LAST_MODIFIED;

const ATTRIBUTES: &str = "x-amz-object-attributes";
const KNOWN: [&str; 5] = [
    "Checksum",
    "ETag",
    "ObjectParts",
    "ObjectSize",
    "StorageClass",
];
const OWN: &[Field] = &[
    Field::Reads(ATTRIBUTES),
    Field::Reads("x-amz-max-parts"),
    Field::Reads("x-amz-part-number-marker"),
];

/// Shows selected attributes of an object.
pub(in crate::s3) struct GetObjectAttributes {
    get: GetRequest,
    wishes: Vec<String>,
    after: u32,
    max: u32,
}

impl Operation for GetObjectAttributes {
    const ROUTE: &'static Route = &Route {
        name: "GetObjectAttributes",
        method: Method::GET,
        on: On::Object,
        chosen_by: &[Chosen::Query("attributes")],
        query: &["versionId"],
        headers: &[CUSTOMER_KEYS, OWN],
        takes: Takes::Nothing,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        // One header may hold several names, and there may be several headers.
        let mut wishes = Vec::new();
        for value in request.headers().get_all(ATTRIBUTES) {
            let invalid = |_| S3Error::invalid_argument(format!("invalid header: {ATTRIBUTES}"));
            let names = value.to_str().map_err(invalid)?.split(',');
            wishes.extend(names.map(|name| name.trim().to_owned()));
        }
        wishes.retain(|name| !name.is_empty());
        if wishes.is_empty() {
            return Err(S3Error::invalid_request(
                "The x-amz-object-attributes header specifying the attributes to be retrieved is \
                 either missing or empty",
            ));
        }
        if let Some(odd) = wishes.iter().find(|name| !KNOWN.contains(&name.as_str())) {
            let text = "Invalid attribute name specified.";
            return Err(S3Error::invalid_argument(text).argument(ATTRIBUTES, odd));
        }
        let marker = request.parsed_header("x-amz-part-number-marker")?;
        Ok(Self {
            get: GetRequest {
                bucket: request.bucket(),
                key: request.key(),
                version: request.query_text("versionId")?,
                ..GetRequest::default()
            },
            wishes,
            after: count("part-number-marker", marker, 0)?,
            max: count("max-parts", request.parsed_header("x-amz-max-parts")?, 1000)?.min(1000),
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let found = core.store.head(granted.caller(), &self.get).await?.found;
        let wished = |name: &str| self.wishes.iter().any(|wish| wish == name);
        let sums = &found.manifest.checksums;
        let document = Xml::document("GetObjectAttributesResponse", |xml| {
            if wished("Checksum") && !sums.is_empty() {
                xml.element("Checksum", |xml| {
                    checksums(xml, sums);
                    checksum_type(xml, sums);
                });
            }
            if wished("ETag") {
                // S3 writes it without quotes here, and only here.
                xml.text("ETag", &found.etag);
            }
            if let Some(parts) = found.parts().filter(|_| wished("ObjectParts")) {
                xml.element("ObjectParts", |xml| self.show_parts(xml, parts));
            }
            if wished("ObjectSize") {
                xml.value("ObjectSize", found.size);
            }
            if wished("StorageClass") {
                xml.text("StorageClass", STANDARD);
            }
        });
        Ok(Answer::xml(document).header(LAST_MODIFIED, &http_date_ms(found.modified_ms)))
    }
}

impl GetObjectAttributes {
    fn show_parts(&self, xml: &mut Xml, parts: Vec<PartInfo>) {
        let total = parts.len();
        let mut rest = parts.into_iter().filter(|part| part.number > self.after);
        let page: Vec<PartInfo> = rest.by_ref().take(self.max as usize).collect();
        let last = page.last().map_or(self.after, |part| part.number);
        xml.value("IsTruncated", rest.next().is_some());
        xml.value("MaxParts", self.max);
        xml.value("NextPartNumberMarker", last);
        xml.value("PartNumberMarker", self.after);
        for part in &page {
            xml.element("Part", |xml| {
                checksums(xml, &part.checksums);
                xml.value("PartNumber", part.number);
                xml.value("Size", part.size);
            });
        }
        xml.value("PartsCount", total);
    }
}
