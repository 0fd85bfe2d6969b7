//! Writes an object.

use crate::ops::PutRequest;
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Field, On, Operation, Route, Takes};
use crate::s3::fields::{
    BODY, CHECKSUMS, CUSTOMER_KEYS, DESCRIPTION, GRANTS, NEW_OBJECT, WRITE_CONDITIONS, body,
    description, write_conditions,
};
use crate::s3::show::{
    ENCRYPTION, X_AMZ_ENCRYPTION, checksum_headers, checksum_type_header, quoted,
};
use http::Method;
use http::header::ETAG;

const OWN: &[Field] = &[Field::Refuses(
    "x-amz-write-offset-bytes",
    "x-amz-write-offset-bytes",
)];

/// Writes an object.
pub(in crate::s3) struct PutObject {
    put: PutRequest,
}

impl Operation for PutObject {
    const ROUTE: &'static Route = &Route {
        name: "PutObject",
        method: Method::PUT,
        on: On::Object,
        chosen_by: &[],
        query: &[],
        headers: &[
            CUSTOMER_KEYS,
            GRANTS,
            NEW_OBJECT,
            DESCRIPTION,
            CHECKSUMS,
            BODY,
            WRITE_CONDITIONS,
            OWN,
        ],
        takes: Takes::Stream,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        Ok(Self {
            put: PutRequest {
                bucket: request.bucket(),
                key: request.key(),
                description: description(request)?,
                conditions: write_conditions(request)?,
                body: body(request)?,
            },
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let written = core.store.put(granted.caller(), self.put).await?;
        let answer = Answer::ok()
            .header(ETAG, &quoted(&written.etag))
            .header(X_AMZ_ENCRYPTION, ENCRYPTION);
        let answer = checksum_type_header(answer, &written.checksums);
        Ok(checksum_headers(answer, &written.checksums))
    }
}
