//! Reads an object.

use super::read::{HEADERS, Overrides, QUERY, Reading};
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{On, Operation, Route, Takes};
use http::Method;

/// Reads an object.
pub(in crate::s3) struct GetObject {
    reading: Reading,
    overrides: Overrides,
}

impl Operation for GetObject {
    const ROUTE: &'static Route = &Route {
        name: "GetObject",
        method: Method::GET,
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
        let mut got = core.store.get(granted.caller(), &reading.get).await?;
        let body = got.body.take();
        let answer = overrides.apply(reading.describe(&got));
        Ok(match body {
            Some(plaintext) => answer.stream(plaintext),
            None => answer,
        })
    }
}
