//! Tells a bucket's region.

use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, On, Operation, Route, Takes};
use crate::s3::edge::xml::Xml;
use http::Method;

/// Tells a bucket's region.
pub(in crate::s3) struct GetBucketLocation {
    bucket: String,
}

impl Operation for GetBucketLocation {
    const ROUTE: &'static Route = &Route {
        name: "GetBucketLocation",
        method: Method::GET,
        on: On::Bucket,
        chosen_by: &[Chosen::Query("location")],
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
        // S3's first region is written as an empty name here.
        let named = Some(&*core.region).filter(|region| *region != "us-east-1");
        Ok(Answer::xml(Xml::document("LocationConstraint", |xml| {
            xml.put(named.unwrap_or_default());
        })))
    }
}
