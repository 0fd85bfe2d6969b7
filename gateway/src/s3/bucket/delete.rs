//! Deletes an empty bucket.

use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{On, Operation, Route, Takes};
use http::Method;

/// Deletes an empty bucket.
pub(in crate::s3) struct DeleteBucket {
    bucket: String,
}

impl Operation for DeleteBucket {
    const ROUTE: &'static Route = &Route {
        name: "DeleteBucket",
        method: Method::DELETE,
        on: On::Bucket,
        chosen_by: &[],
        query: &[],
        headers: &[],
        takes: Takes::Nothing,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        Ok(Self {
            bucket: request.bucket(),
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        core.store
            .delete_bucket(granted.caller(), &self.bucket)
            .await?;
        Ok(Answer::no_content())
    }
}
