//! Uploads a part.

use crate::ops::PartRequest;
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, On, Operation, Route, Takes};
use crate::s3::fields::{BODY, CHECKSUMS, CUSTOMER_KEYS, body, part_number, upload_name};
use crate::s3::show::{ENCRYPTION, X_AMZ_ENCRYPTION, checksum_headers, quoted};
use http::Method;
use http::header::ETAG;

/// Uploads a part.
pub(in crate::s3) struct UploadPart {
    part: PartRequest,
}

impl Operation for UploadPart {
    const ROUTE: &'static Route = &Route {
        name: "UploadPart",
        method: Method::PUT,
        on: On::Object,
        chosen_by: &[Chosen::Query("partNumber"), Chosen::Query("uploadId")],
        query: &[],
        headers: &[CUSTOMER_KEYS, CHECKSUMS, BODY],
        takes: Takes::Stream,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        Ok(Self {
            part: PartRequest {
                name: upload_name(request)?,
                number: part_number(request)?,
                body: body(request)?,
            },
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let written = core.store.put_part(granted.caller(), self.part).await?;
        let answer = Answer::ok()
            .header(ETAG, &quoted(&written.etag))
            .header(X_AMZ_ENCRYPTION, ENCRYPTION);
        Ok(checksum_headers(answer, &written.checksums))
    }
}
