//! Writing, copying and deleting objects, as s3s has them.

use super::api::Api;
use super::convert::{
    algorithm, checksum_texts, checksum_type, encryption, etag, etag_match, expires_text,
    invalid_argument, moment, seconds, set_checksums, values,
};
use super::error::s3_error;
use super::guard::{Verdict, body_error};
use super::refuse::{not_implemented, refuse_fields, refuse_for_new_objects, refuse_foreign_keys};
use crate::ops::checksum::{Algorithm, Claims, Value, parse_content_md5};
use crate::ops::conditions::{EtagMatch, ReadConditions, WriteConditions};
use crate::ops::names::stored_content_encoding;
use crate::ops::{
    Body, BodyError, Caller, CopyRequest, CopySource, DeleteRequest, Description, MetadataSource,
    OpError, PutRequest, Trailer,
};
use futures::{StreamExt, TryStreamExt, stream};
use http::HeaderMap;
use megalith_blobs::SourceError;
use megalith_crypto::manifest::ContentHeaders;
use s3s::dto::{self, *};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, TrailingHeaders};

/// Most keys of one batch delete.
const DELETES_MAX: usize = 1_000;
/// Deletes of one batch that are under way at a time.
const DELETES_AT_ONCE: usize = 32;
/// What an object without a type is.
pub(super) const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

pub(super) async fn put(
    api: &Api,
    mut request: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let expected = request.input.expected_bucket_owner.take();
    let caller = api.caller_of(&request, expected.as_ref()).await?;
    refuse_for_new_objects!(request.input);
    refuse_fields!(request.input, { write_offset_bytes => "x-amz-write-offset-bytes" });
    let claims = Claims {
        md5: md5(request.input.content_md5.as_deref())?,
        checksums: values(checksum_texts!(request.input)).map_err(s3_error)?,
    };
    let blob = request.input.body.take();
    let length = request.input.content_length;
    let body = body(&request, blob, length, claims)?;
    let input = request.input;
    let conditions = WriteConditions {
        if_match: etag_match(input.if_match),
        if_none_match: etag_match(input.if_none_match),
    };
    let headers = ContentHeaders {
        content_type: input.content_type,
        content_encoding: stored_content_encoding(input.content_encoding.as_deref()),
        content_disposition: input.content_disposition,
        content_language: input.content_language,
        cache_control: input.cache_control,
        expires: expires_text(input.expires),
    };
    let put = PutRequest {
        bucket: input.bucket,
        key: input.key,
        body,
        description: Description {
            headers,
            user_metadata: user_metadata(input.metadata),
        },
        conditions,
    };
    let written = Box::pin(api.store.put(caller, put))
        .await
        .map_err(s3_error)?;
    let mut output = PutObjectOutput {
        e_tag: etag(&written.etag),
        server_side_encryption: encryption(),
        checksum_type: checksum_type(written.checksums.first().map(|sum| sum.covers)),
        ..PutObjectOutput::default()
    };
    set_checksums!(output, &written.checksums);
    Ok(S3Response::new(output))
}

pub(super) async fn copy(
    api: &Api,
    request: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let conditions = WriteConditions {
        if_match: header_match(&request.headers, "if-match")?,
        if_none_match: header_match(&request.headers, "if-none-match")?,
    };
    let input = request.input;
    super::refuse::expected_owner(caller, input.expected_source_bucket_owner.as_ref())?;
    refuse_for_new_objects!(input);
    refuse_fields!(input, {
        copy_source_sse_customer_algorithm => "SSE-C",
        copy_source_sse_customer_key => "SSE-C",
    });
    let replaces = match input
        .metadata_directive
        .as_ref()
        .map(MetadataDirective::as_str)
    {
        None | Some(MetadataDirective::COPY) => false,
        Some(MetadataDirective::REPLACE) => true,
        Some(_) => return Err(invalid_argument("Unknown metadata directive.")),
    };
    let headers = ContentHeaders {
        content_type: input.content_type,
        content_encoding: stored_content_encoding(input.content_encoding.as_deref()),
        content_disposition: input.content_disposition,
        content_language: input.content_language,
        cache_control: input.cache_control,
        expires: expires_text(input.expires),
    };
    let metadata = if replaces {
        let user_metadata = user_metadata(input.metadata);
        MetadataSource::Replaced(Description {
            headers,
            user_metadata,
        })
    } else {
        MetadataSource::Copied
    };
    let source_conditions = ReadConditions {
        if_match: etag_match(input.copy_source_if_match),
        if_none_match: etag_match(input.copy_source_if_none_match),
        if_modified_since: seconds(input.copy_source_if_modified_since),
        if_unmodified_since: seconds(input.copy_source_if_unmodified_since),
    };
    let copy = CopyRequest {
        source: copy_source(input.copy_source, source_conditions)?,
        bucket: input.bucket,
        key: input.key,
        metadata,
        conditions,
    };
    let written = Box::pin(api.store.copy(caller, &copy))
        .await
        .map_err(s3_error)?;
    let mut result = CopyObjectResult {
        e_tag: etag(&written.etag),
        last_modified: moment(written.modified_ms),
        checksum_type: checksum_type(written.checksums.first().map(|sum| sum.covers)),
        ..CopyObjectResult::default()
    };
    set_checksums!(result, &written.checksums);
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
        server_side_encryption: encryption(),
        ..CopyObjectOutput::default()
    }))
}

pub(super) async fn delete(
    api: &Api,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let input = request.input;
    refuse_fields!(input, {
        if_match_last_modified_time => "x-amz-if-match-last-modified-time",
        if_match_size => "x-amz-if-match-size",
    });
    let one = DeleteRequest {
        key: input.key,
        version: input.version_id,
        if_match: etag_match(input.if_match),
    };
    api.store
        .delete(caller, &input.bucket, &one)
        .await
        .map_err(s3_error)?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub(super) async fn delete_many(
    api: &Api,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let digests = Algorithm::ALL.map(Algorithm::header);
    let is_digest = |name: &&str| request.headers.contains_key(*name);
    if !["content-md5", "x-amz-trailer"]
        .iter()
        .chain(&digests)
        .any(is_digest)
    {
        return Err(s3_error(OpError::InvalidRequest(
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*".to_owned(),
        )));
    }
    let DeleteObjectsInput {
        bucket,
        delete: Delete { objects, quiet },
        ..
    } = request.input;
    if objects.is_empty() || objects.len() > DELETES_MAX {
        return Err(S3Error::with_message(
            S3ErrorCode::MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published \
             schema",
        ));
    }
    api.store
        .head_bucket(caller, &bucket)
        .await
        .map_err(s3_error)?;
    let done: Vec<_> = stream::iter(objects)
        .map(|object| delete_one(api, caller, &bucket, object))
        .buffered(DELETES_AT_ONCE)
        .collect()
        .await;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for outcome in done {
        match outcome {
            Ok(one) => deleted.push(one),
            Err(error) => errors.push(error),
        }
    }
    let deleted = if quiet.unwrap_or(false) {
        Vec::new()
    } else {
        deleted
    };
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted),
        errors: Some(errors),
        request_charged: None,
    }))
}

async fn delete_one(
    api: &Api,
    caller: Caller,
    bucket: &str,
    object: ObjectIdentifier,
) -> Result<DeletedObject, dto::Error> {
    let ObjectIdentifier {
        e_tag,
        key,
        last_modified_time,
        size,
        version_id,
    } = object;
    let outcome = if last_modified_time.is_some() || size.is_some() {
        Err(OpError::NotImplemented("deleting by time or size"))
    } else {
        let one = DeleteRequest {
            key: key.clone(),
            version: version_id.clone(),
            if_match: e_tag.map(|etag| EtagMatch::Etag(etag.into_value())),
        };
        api.store.delete(caller, bucket, &one).await
    };
    match outcome {
        Ok(()) => Ok(DeletedObject {
            key: Some(key),
            version_id,
            ..DeletedObject::default()
        }),
        Err(error) => {
            let error = s3_error(error);
            Err(dto::Error {
                code: Some(error.code().as_str().to_owned()),
                key: Some(key),
                message: error.message().map(str::to_owned),
                version_id,
            })
        }
    }
}

/// Reads what a request copies from.
pub(super) fn copy_source(
    source: dto::CopySource,
    conditions: ReadConditions,
) -> S3Result<CopySource> {
    match source {
        dto::CopySource::Bucket {
            bucket,
            key,
            version_id,
        } => Ok(CopySource {
            bucket: bucket.into(),
            key: key.into(),
            version: version_id.map(String::from),
            conditions,
        }),
        dto::CopySource::AccessPoint { .. } | dto::CopySource::Outpost { .. } => {
            Err(not_implemented("copying from an access point"))
        }
    }
}

/// Reads a condition that s3s does not know for this operation.
fn header_match(headers: &HeaderMap, name: &str) -> S3Result<Option<EtagMatch>> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let condition = ETagCondition::parse_http_header(value.as_bytes())
        .map_err(|_| invalid_argument("A precondition header is not an ETag."))?;
    Ok(etag_match(Some(condition)))
}

pub(super) fn md5(header: Option<&str>) -> S3Result<Option<[u8; 16]>> {
    header.map(parse_content_md5).transpose().map_err(s3_error)
}

fn user_metadata(metadata: Option<Metadata>) -> Vec<(String, String)> {
    let mut entries: Vec<_> = metadata.unwrap_or_default().into_iter().collect();
    entries.sort();
    entries
}

/// Makes a body of what s3s hands in: its length must be known, its trailers are verified.
pub(super) fn body<T>(
    request: &S3Request<T>,
    blob: Option<StreamingBlob>,
    content_length: Option<i64>,
    claims: Claims,
) -> S3Result<Body> {
    let blob = blob.unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()));
    let decoded = request
        .headers
        .get("x-amz-decoded-content-length")
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let given = content_length.and_then(|len| u64::try_from(len).ok());
    let len = decoded.or(given);
    let len = len.ok_or_else(|| s3_error(OpError::MissingContentLength))?;
    let trailer = trailer(&request.headers, request.trailing_headers.clone())?;
    let announced_values = trailer
        .as_ref()
        .map_or(0, |trailer| trailer.algorithms.len());
    if claims.checksums.len() + announced_values > 1 {
        return Err(s3_error(OpError::InvalidRequest(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
                .to_owned(),
        )));
    }
    let announced = algorithm(header_algorithm(&request.headers).as_ref())?;
    let verdict = request.extensions.get::<Verdict>().cloned();
    let to_ours = move |error| {
        let error: BodyError = body_error(&error, verdict.as_ref());
        SourceError(Box::new(error))
    };
    Ok(Body {
        source: blob.map_err(to_ours).boxed(),
        len,
        claims,
        trailer,
        wanted: announced.into_iter().collect(),
    })
}

/// The algorithm that a client says it uses; computed even where no value comes along.
fn header_algorithm(headers: &HeaderMap) -> Option<ChecksumAlgorithm> {
    let value = headers.get("x-amz-sdk-checksum-algorithm")?.to_str().ok()?;
    let known = Algorithm::parse(value)?;
    Some(ChecksumAlgorithm::from_static(known.name()))
}

/// Finds which checksums are announced to follow the body.
fn trailer(headers: &HeaderMap, handle: Option<TrailingHeaders>) -> S3Result<Option<Trailer>> {
    let mut algorithms = Vec::new();
    for value in headers.get_all("x-amz-trailer") {
        let names = value
            .to_str()
            .map_err(|_| s3_error(OpError::BodyMalformed))?;
        for name in names
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            // Others carry nothing that is kept.
            algorithms.extend(Algorithm::of_header(name));
        }
    }
    if algorithms.is_empty() {
        return Ok(None);
    }
    let Some(handle) = handle else {
        return Err(s3_error(OpError::InvalidRequest(
            "x-amz-trailer needs a chunked body".to_owned(),
        )));
    };
    let announced = algorithms.clone();
    let take = move || {
        let headers = handle.take().ok_or(OpError::BodyMalformed)?;
        let value = |algorithm: Algorithm| {
            let text = headers
                .get(algorithm.header())
                .and_then(|value| value.to_str().ok());
            Value::parse(algorithm, text.ok_or(OpError::BodyMalformed)?)
        };
        announced.into_iter().map(value).collect()
    };
    Ok(Some(Trailer {
        algorithms,
        take: Box::new(take),
    }))
}

pub(super) fn refuse_keys_of_part(input: &UploadPartInput) -> S3Result<()> {
    refuse_foreign_keys!(input);
    Ok(())
}
