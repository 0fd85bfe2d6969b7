//! Describes an object without its bytes.

use super::read::{HEADERS, Overrides, QUERY, Reading};
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{On, Operation, Route, Takes};
use http::Method;

/// Describes an object without its bytes.
pub(in crate::s3) struct HeadObject {
    reading: Reading,
    overrides: Overrides,
}

impl Operation for HeadObject {
    const ROUTE: &'static Route = &Route {
        name: "HeadObject",
        method: Method::HEAD,
        on: On::Object,
        chosen_by: &[],
        query: QUERY,
        headers: HEADERS,
        takes: Takes::Nothing,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        Ok(Self {
            reading: Reading::read(request)?,
            overrides: Overrides::read(request)?,
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let Self { reading, overrides } = self;
        let got = core.store.head(granted.caller(), &reading.get).await?;
        Ok(overrides.apply(reading.describe(&got)))
    }
}
