//! Copies an object.

use crate::ops::{CopyRequest, MetadataSource};
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::dates::iso;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, Field, On, Operation, Route, Takes};
use crate::s3::edge::xml::Xml;
use crate::s3::fields::{
    COPY_SOURCE, CUSTOMER_KEYS, DESCRIPTION, GRANTS, NEW_OBJECT, SOURCE_CUSTOMER_KEYS,
    WRITE_CONDITIONS, algorithm, copy_source, description, write_conditions,
};
use crate::s3::show::{ENCRYPTION, X_AMZ_ENCRYPTION, checksum_type, checksums, quoted};
use http::Method;

const OWN: &[Field] = &[
    Field::Reads("x-amz-metadata-directive"),
    Field::Reads("x-amz-checksum-algorithm"),
];

/// Copies an object.
pub(in crate::s3) struct CopyObject {
    copy: CopyRequest,
}

impl Operation for CopyObject {
    const ROUTE: &'static Route = &Route {
        name: "CopyObject",
        method: Method::PUT,
        on: On::Object,
        chosen_by: &[Chosen::Header("x-amz-copy-source")],
        query: &[],
        headers: &[
            CUSTOMER_KEYS,
            SOURCE_CUSTOMER_KEYS,
            GRANTS,
            NEW_OBJECT,
            DESCRIPTION,
            COPY_SOURCE,
            WRITE_CONDITIONS,
            OWN,
        ],
        takes: Takes::Nothing,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        let metadata = match request.header("x-amz-metadata-directive")? {
            None | Some("COPY") => MetadataSource::Copied,
            Some("REPLACE") => MetadataSource::Replaced(description(request)?),
            Some(other) => {
                let error = S3Error::invalid_argument("Unknown metadata directive.");
                return Err(error.argument("x-amz-metadata-directive", other));
            }
        };
        let checksum = request.header("x-amz-checksum-algorithm")?;
        // Every object is encrypted and kept alike, so a wish for that is fulfilled as it is.
        let wishes = ["x-amz-server-side-encryption", "x-amz-storage-class"];
        let headers = request.headers();
        Ok(Self {
            copy: CopyRequest {
                source: copy_source(request)?,
                bucket: request.bucket(),
                key: request.key(),
                metadata,
                conditions: write_conditions(request)?,
                checksum: checksum.map(algorithm).transpose()?,
                kept_otherwise: wishes.iter().any(|name| headers.contains_key(*name)),
            },
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let written = core.store.copy(granted.caller(), &self.copy).await?;
        let document = Xml::plain("CopyObjectResult", |xml| {
            checksums(xml, &written.checksums);
            checksum_type(xml, &written.checksums);
            xml.text("ETag", &quoted(&written.etag));
            xml.text("LastModified", &iso(written.modified_ms));
        });
        Ok(Answer::xml(document).header(X_AMZ_ENCRYPTION, ENCRYPTION))
    }
}
