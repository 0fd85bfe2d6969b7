//! Creates a bucket.

use crate::ops::OpError;
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::{Code, S3Error};
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Field, On, Operation, Route, Takes};
use crate::s3::edge::xml::Reader;
use crate::s3::fields::{GRANTS, OPEN_LISTS, unknown_acl};
use http::header::LOCATION;
use http::{HeaderName, Method};

const OWN: &[Field] = &[
    Field::Refuses("x-amz-grant-write", "x-amz-grant-write"),
    Field::Checks("x-amz-bucket-object-lock-enabled", check_lock),
    Field::Checks("x-amz-acl", check_acl),
];

const ARN: HeaderName = HeaderName::from_static("x-amz-bucket-arn");
const FIRST_REGION: &str = "us-east-1";

/// Creates a bucket.
pub(in crate::s3) struct CreateBucket {
    bucket: String,
    /// The region in which to create it, if the client names one.
    location: Option<String>,
}

impl Operation for CreateBucket {
    const ROUTE: &'static Route = &Route {
        name: "CreateBucket",
        method: Method::PUT,
        on: On::Bucket,
        chosen_by: &[],
        query: &[],
        headers: &[GRANTS, OWN],
        takes: Takes::Xml,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        Ok(Self {
            bucket: request.bucket(),
            location: location(request.document())?,
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let elsewhere = |wish: &String| !wish.is_empty() && **wish != *core.region;
        if self.location.as_ref().is_some_and(elsewhere) {
            return Err(Code::IllegalLocationConstraint.into());
        }
        match core
            .store
            .create_bucket(granted.caller(), &self.bucket)
            .await
        {
            // S3's first region answers like this, and the others with 409.
            Err(OpError::BucketAlreadyOwnedByYou) if *core.region == *FIRST_REGION => {}
            other => drop(other?),
        }
        Ok(Answer::ok()
            .header(LOCATION, &format!("/{}", self.bucket))
            .header(ARN, &format!("arn:aws:s3:::{}", self.bucket)))
    }
}

fn check_lock(wish: &str) -> Result<(), S3Error> {
    match wish {
        "true" | "True" => Err(S3Error::not_implemented("object lock")),
        "false" | "False" => Ok(()),
        _ => {
            let text = "invalid header: x-amz-bucket-object-lock-enabled";
            Err(S3Error::invalid_argument(text))
        }
    }
}

fn check_acl(wish: &str) -> Result<(), S3Error> {
    match wish {
        "private" => Ok(()),
        open if OPEN_LISTS.contains(&open) => Err(Code::InvalidBucketAcl.into()),
        other => Err(unknown_acl(other)),
    }
}

/// Reads `<CreateBucketConfiguration>`, if it is there.
pub(in crate::s3) fn location(document: &[u8]) -> Result<Option<String>, S3Error> {
    let mut location = None;
    if !document.is_empty() {
        Reader::document(
            document,
            "CreateBucketConfiguration",
            |reader, name| match name {
                "LocationConstraint" => reader.text_into(&mut location),
                _ => reader.skip(),
            },
        )?;
    }
    Ok(location)
}
