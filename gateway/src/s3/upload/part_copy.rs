//! Copies a part from an object.

use crate::ops::PartCopyRequest;
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::dates::iso;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, Field, On, Operation, Route, Takes};
use crate::s3::edge::xml::Xml;
use crate::s3::fields::{
    COPY_SOURCE, CUSTOMER_KEYS, SOURCE_CUSTOMER_KEYS, copy_source, part_number, upload_name,
};
use crate::s3::show::{ENCRYPTION, X_AMZ_ENCRYPTION, checksums, quoted};
use http::Method;

const OWN: &[Field] = &[Field::Reads("x-amz-copy-source-range")];

/// Copies a part from an object.
pub(in crate::s3) struct UploadPartCopy {
    copy: PartCopyRequest,
}

impl Operation for UploadPartCopy {
    const ROUTE: &'static Route = &Route {
        name: "UploadPartCopy",
        method: Method::PUT,
        on: On::Object,
        chosen_by: &[
            Chosen::Query("partNumber"),
            Chosen::Query("uploadId"),
            Chosen::Header("x-amz-copy-source"),
        ],
        query: &[],
        headers: &[CUSTOMER_KEYS, SOURCE_CUSTOMER_KEYS, COPY_SOURCE, OWN],
        takes: Takes::Nothing,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        let range = request.header("x-amz-copy-source-range")?;
        Ok(Self {
            copy: PartCopyRequest {
                name: upload_name(request)?,
                number: part_number(request)?,
                range: range.map(str::to_owned),
                source: copy_source(request)?,
            },
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let written = core.store.copy_part(granted.caller(), &self.copy).await?;
        let document = Xml::plain("CopyPartResult", |xml| {
            checksums(xml, &written.checksums);
            xml.text("ETag", &quoted(&written.etag));
            xml.text("LastModified", &iso(written.modified_ms));
        });
        Ok(Answer::xml(document).header(X_AMZ_ENCRYPTION, ENCRYPTION))
    }
}
