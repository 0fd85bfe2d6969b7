//! Lists an upload's parts.

use super::PAGE_MAX;
use crate::ops::UploadName;
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::dates::iso;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, On, Operation, Route, Takes};
use crate::s3::edge::xml::Xml;
use crate::s3::fields::{count, upload_name};
use crate::s3::show::{STANDARD, account, checksums, covers, quoted};
use http::Method;

/// Lists an upload's parts.
pub(in crate::s3) struct ListParts {
    name: UploadName,
    after: u32,
    max: u32,
}

impl Operation for ListParts {
    const ROUTE: &'static Route = &Route {
        name: "ListParts",
        method: Method::GET,
        on: On::Object,
        chosen_by: &[Chosen::Query("uploadId")],
        query: &["max-parts", "part-number-marker"],
        headers: &[],
        takes: Takes::Nothing,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        let max = count("max-parts", request.parsed_query("max-parts")?, PAGE_MAX)?;
        let marker = request.parsed_query("part-number-marker")?;
        Ok(Self {
            name: upload_name(request)?,
            after: count("part-number-marker", marker, 0)?,
            max: max.min(PAGE_MAX),
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let Self { name, after, max } = self;
        let caller = granted.caller();
        let page = core.store.list_parts(caller, &name, after, max).await?;
        let last = page.parts.last().map_or(after, |part| part.number);
        Ok(Answer::xml(Xml::document("ListPartsResult", |xml| {
            xml.text("Bucket", &name.bucket);
            if let Some((algorithm, kind)) = page.checksum {
                xml.text("ChecksumAlgorithm", algorithm.name());
                xml.text("ChecksumType", covers(kind));
            }
            account(xml, "Initiator", caller);
            xml.value("IsTruncated", page.truncated);
            xml.text("Key", &name.key);
            xml.value("MaxParts", max);
            xml.value("NextPartNumberMarker", last);
            account(xml, "Owner", caller);
            xml.value("PartNumberMarker", after);
            for part in &page.parts {
                xml.element("Part", |xml| {
                    checksums(xml, &part.checksums);
                    xml.text("ETag", &quoted(&part.etag));
                    xml.text("LastModified", &iso(part.modified_ms));
                    xml.value("PartNumber", part.number);
                    xml.value("Size", part.size);
                });
            }
            xml.text("StorageClass", STANDARD);
            xml.text("UploadId", &name.upload);
        })))
    }
}
