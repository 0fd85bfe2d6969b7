//! Shows who may do what with an object: its owner may do everything.

use crate::ops::GetRequest;
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, On, Operation, Route, Takes};
use crate::s3::show::access_list;
use http::Method;

/// Shows who may do what with an object: its owner may do everything.
pub(in crate::s3) struct GetObjectAcl {
    get: GetRequest,
}

impl Operation for GetObjectAcl {
    const ROUTE: &'static Route = &Route {
        name: "GetObjectAcl",
        method: Method::GET,
        on: On::Object,
        chosen_by: &[Chosen::Query("acl")],
        query: &["versionId"],
        headers: &[],
        takes: Takes::Nothing,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        Ok(Self {
            get: GetRequest {
                bucket: request.bucket(),
                key: request.key(),
                version: request.query_text("versionId")?,
                ..GetRequest::default()
            },
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        core.store.head(granted.caller(), &self.get).await?;
        Ok(Answer::xml(access_list(granted.caller())))
    }
}
