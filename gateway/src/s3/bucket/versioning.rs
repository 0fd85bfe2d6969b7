//! Tells that a bucket keeps no versions.

use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, On, Operation, Route, Takes};
use crate::s3::edge::xml::Xml;
use http::Method;

/// Tells that a bucket keeps no versions.
pub(in crate::s3) struct GetBucketVersioning {
    bucket: String,
}

impl Operation for GetBucketVersioning {
    const ROUTE: &'static Route = &Route {
        name: "GetBucketVersioning",
        method: Method::GET,
        on: On::Bucket,
        chosen_by: &[Chosen::Query("versioning")],
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
        // Never enabled; S3 says so with an empty document.
        Ok(Answer::xml(Xml::document(
            "VersioningConfiguration",
            |_| {},
        )))
    }
}
