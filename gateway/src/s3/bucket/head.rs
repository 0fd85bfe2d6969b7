//! Tells whether a bucket exists and belongs to the caller.

use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{On, Operation, Route, Takes};
use http::HeaderName;
use http::Method;

/// Tells whether a bucket exists and belongs to the caller.
pub(in crate::s3) struct HeadBucket {
    bucket: String,
}

impl Operation for HeadBucket {
    const ROUTE: &'static Route = &Route {
        name: "HeadBucket",
        method: Method::HEAD,
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
            .head_bucket(granted.caller(), &self.bucket)
            .await?;
        let region = HeaderName::from_static("x-amz-bucket-region");
        Ok(Answer::ok().header(region, &core.region))
    }
}
