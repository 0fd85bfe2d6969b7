//! Deletes up to a thousand objects.

use crate::ops::checksum::Algorithm;
use crate::ops::conditions::EtagMatch;
use crate::ops::{Caller, DeleteRequest, OpError};
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::body::announced_trailers;
use crate::s3::edge::error::{Code, S3Error};
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, On, Operation, Route, Takes};
use crate::s3::edge::xml::{Malformed, Reader, Xml};
use crate::s3::fields::document_etag;
use futures::{StreamExt as _, stream};
use http::Method;

/// The most keys of one batch.
const DELETES_MAX: usize = 1_000;
/// How many deletes of one batch run at a time.
const DELETES_AT_ONCE: usize = 32;

/// One key to delete.
#[derive(Debug)]
pub(in crate::s3) struct Delete {
    key: String,
    version: Option<String>,
    etag: Option<String>,
    /// Whether it requires a time or size of the object.
    by_time_or_size: bool,
}

/// Deletes up to a thousand objects.
pub(in crate::s3) struct DeleteObjects {
    bucket: String,
    deletes: Vec<Delete>,
    /// Whether to report only failures.
    quiet: bool,
}

impl Operation for DeleteObjects {
    const ROUTE: &'static Route = &Route {
        name: "DeleteObjects",
        method: Method::POST,
        on: On::Bucket,
        chosen_by: &[Chosen::Query("delete")],
        query: &[],
        headers: &[],
        takes: Takes::Xml,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        let headers = request.headers();
        let digests = Algorithm::ALL.map(Algorithm::header);
        let mut digests = ["content-md5"].iter().chain(&digests);
        if !digests.any(|name| headers.contains_key(*name))
            && announced_trailers(headers)?.is_empty()
        {
            return Err(S3Error::invalid_request(
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
            ));
        }
        let (deletes, quiet) = deletes(request.document())?;
        Ok(Self {
            bucket: request.bucket(),
            deletes,
            quiet,
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let Self {
            bucket,
            deletes,
            quiet,
        } = self;
        let caller = granted.caller();
        core.store.head_bucket(caller, &bucket).await?;
        let outcomes: Vec<_> = stream::iter(deletes)
            .map(|delete| delete.run(core, caller, &bucket))
            .buffered(DELETES_AT_ONCE)
            .collect()
            .await;
        Ok(Answer::xml(Xml::document("DeleteResult", |xml| {
            for (delete, outcome) in &outcomes {
                match outcome {
                    Ok(()) if quiet => {}
                    Ok(()) => xml.element("Deleted", |xml| {
                        xml.text("Key", &delete.key);
                        xml.text_if("VersionId", delete.version.as_deref());
                    }),
                    Err(error) => xml.element("Error", |xml| {
                        xml.text("Code", error.code().name());
                        xml.text("Key", &delete.key);
                        xml.text("Message", error.message());
                        xml.text_if("VersionId", delete.version.as_deref());
                    }),
                }
            }
        })))
    }
}

impl Delete {
    async fn run(self, core: &Core, caller: Caller, bucket: &str) -> (Self, Result<(), S3Error>) {
        if self.by_time_or_size {
            let refusal = OpError::NotImplemented("deleting by time or size");
            return (self, Err(refusal.into()));
        }
        let one = DeleteRequest {
            key: self.key.clone(),
            version: self.version.clone(),
            if_match: self.etag.clone().map(EtagMatch::Etag),
        };
        let deleted = core.store.delete(caller, bucket, &one).await;
        (self, deleted.map_err(S3Error::from))
    }
}

/// Reads `<Delete>`: its keys, and whether it is quiet.
pub(in crate::s3) fn deletes(document: &[u8]) -> Result<(Vec<Delete>, bool), S3Error> {
    if document.is_empty() {
        return Err(Code::MissingRequestBody.into());
    }
    let (mut deletes, mut quiet) = (Vec::new(), None);
    Reader::document(document, "Delete", |reader, name| match name {
        "Object" => {
            if deletes.len() == DELETES_MAX {
                return Err(Malformed);
            }
            deletes.push(delete(reader)?);
            Ok(())
        }
        "Quiet" => reader.text_into(&mut quiet),
        _ => reader.skip(),
    })?;
    let quiet = match quiet.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Malformed.into()),
    };
    if deletes.is_empty() {
        return Err(Malformed.into());
    }
    Ok((deletes, quiet))
}

fn delete(reader: &mut Reader<'_>) -> Result<Delete, Malformed> {
    let (mut key, mut version, mut etag) = (None, None, None);
    let mut by_time_or_size = false;
    reader.children(|reader, name| match name {
        "Key" => reader.text_into(&mut key),
        "VersionId" => reader.text_into(&mut version),
        "ETag" => reader.text_into(&mut etag),
        "LastModifiedTime" | "Size" => {
            by_time_or_size = true;
            reader.skip()
        }
        _ => reader.skip(),
    })?;
    Ok(Delete {
        key: key.ok_or(Malformed)?,
        version,
        etag: etag
            .map(|text| document_etag(&text).ok_or(Malformed))
            .transpose()?,
        by_time_or_size,
    })
}
