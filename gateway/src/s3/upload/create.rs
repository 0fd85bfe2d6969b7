//! Begins an upload.

use crate::ops::CreateUploadRequest;
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, Field, On, Operation, Route, Takes};
use crate::s3::edge::xml::Xml;
use crate::s3::fields::{
    CUSTOMER_KEYS, DESCRIPTION, GRANTS, NEW_OBJECT, algorithm, covers, description,
};
use crate::s3::show::{self, ENCRYPTION, X_AMZ_ENCRYPTION};
use http::HeaderName;
use http::Method;

const OWN: &[Field] = &[
    Field::Reads("x-amz-checksum-algorithm"),
    Field::Reads("x-amz-checksum-type"),
];

/// Begins an upload.
pub(in crate::s3) struct CreateMultipartUpload {
    create: CreateUploadRequest,
    /// The algorithm as the client spells it.
    algorithm: Option<String>,
}

impl Operation for CreateMultipartUpload {
    const ROUTE: &'static Route = &Route {
        name: "CreateMultipartUpload",
        method: Method::POST,
        on: On::Object,
        chosen_by: &[Chosen::Query("uploads")],
        query: &[],
        headers: &[CUSTOMER_KEYS, GRANTS, NEW_OBJECT, DESCRIPTION, OWN],
        takes: Takes::Nothing,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        let spelled = request
            .header("x-amz-checksum-algorithm")?
            .map(str::to_owned);
        let wished = spelled.as_deref().map(algorithm).transpose()?;
        let covers = covers(request)?;
        let checksum = |wished: crate::ops::checksum::Algorithm| {
            (wished, covers.unwrap_or_else(|| wished.default_type()))
        };
        Ok(Self {
            create: CreateUploadRequest {
                bucket: request.bucket(),
                key: request.key(),
                description: description(request)?,
                checksum: wished.map(checksum),
            },
            algorithm: spelled,
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let Self { create, algorithm } = self;
        let (bucket, key) = (create.bucket.clone(), create.key.clone());
        let covers = create.checksum.map(|(_, covers)| show::covers(covers));
        let created = core.store.create_upload(granted.caller(), create).await?;
        let document = Xml::document("InitiateMultipartUploadResult", |xml| {
            xml.text("Bucket", &bucket);
            xml.text("Key", &key);
            xml.text("UploadId", &created.upload);
        });
        let name = HeaderName::from_static;
        Ok(Answer::xml(document)
            .header(X_AMZ_ENCRYPTION, ENCRYPTION)
            .header_if(name("x-amz-checksum-algorithm"), algorithm)
            .header_if(name("x-amz-checksum-type"), covers))
    }
}
