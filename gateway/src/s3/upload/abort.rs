//! Drops an upload and its parts.

use crate::ops::UploadName;
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, On, Operation, Route, Takes};
use crate::s3::fields::upload_name;
use http::Method;

/// Drops an upload and its parts.
pub(in crate::s3) struct AbortMultipartUpload {
    name: UploadName,
}

impl Operation for AbortMultipartUpload {
    const ROUTE: &'static Route = &Route {
        name: "AbortMultipartUpload",
        method: Method::DELETE,
        on: On::Object,
        chosen_by: &[Chosen::Query("uploadId")],
        query: &[],
        headers: &[],
        takes: Takes::Nothing,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        Ok(Self {
            name: upload_name(request)?,
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        core.store
            .abort_upload(granted.caller(), &self.name)
            .await?;
        Ok(Answer::no_content())
    }
}
