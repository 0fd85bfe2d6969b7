//! Shows who may do what with a bucket: its owner may do everything.

use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, On, Operation, Route, Takes};
use crate::s3::show::access_list;
use http::Method;

/// Shows who may do what with a bucket: its owner may do everything.
pub(in crate::s3) struct GetBucketAcl {
    bucket: String,
}

impl Operation for GetBucketAcl {
    const ROUTE: &'static Route = &Route {
        name: "GetBucketAcl",
        method: Method::GET,
        on: On::Bucket,
        chosen_by: &[Chosen::Query("acl")],
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
        Ok(Answer::xml(access_list(granted.caller())))
    }
}
