//! Deletes an object.

use crate::ops::DeleteRequest;
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Field, On, Operation, Route, Takes};
use crate::s3::fields::{WRITE_CONDITIONS, write_conditions};
use http::Method;

const OWN: &[Field] = &[
    Field::Refuses(
        "x-amz-if-match-last-modified-time",
        "x-amz-if-match-last-modified-time",
    ),
    Field::Refuses("x-amz-if-match-size", "x-amz-if-match-size"),
];

/// Deletes an object.
pub(in crate::s3) struct DeleteObject {
    bucket: String,
    delete: DeleteRequest,
}

impl Operation for DeleteObject {
    const ROUTE: &'static Route = &Route {
        name: "DeleteObject",
        method: Method::DELETE,
        on: On::Object,
        chosen_by: &[],
        query: &["versionId"],
        headers: &[WRITE_CONDITIONS, OWN],
        takes: Takes::Nothing,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        Ok(Self {
            bucket: request.bucket(),
            delete: DeleteRequest {
                key: request.key(),
                version: request.query_text("versionId")?,
                if_match: write_conditions(request)?.if_match,
            },
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let deleted = core
            .store
            .delete(granted.caller(), &self.bucket, &self.delete);
        deleted.await?;
        Ok(Answer::no_content())
    }
}
