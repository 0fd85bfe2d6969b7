//! Uploads in parts, as s3s has them.

use super::api::Api;
use super::convert::{
    algorithm, checksum_texts, checksum_type, covers, encryption, etag, etag_match, expires_text,
    moment, seconds, set_checksums, values,
};
use super::error::s3_error;
use super::objects::{body, copy_source, md5, refuse_keys_of_part};
use super::refuse::{expected_owner, refuse_fields, refuse_for_new_objects, refuse_foreign_keys};
use crate::ops::checksum::Claims;
use crate::ops::conditions::{ReadConditions, WriteConditions};
use crate::ops::names::stored_content_encoding;
use crate::ops::{
    CompleteRequest, CreateUploadRequest, Description, NamedPart, PartCopyRequest, PartRequest,
    UploadName,
};
use megalith_crypto::manifest::ContentHeaders;
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

pub(super) async fn create(
    api: &Api,
    request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let input = request.input;
    refuse_for_new_objects!(input);
    let wished = algorithm(input.checksum_algorithm.as_ref())?;
    let covers = covers(input.checksum_type.as_ref())?;
    let checksum = wished.map(|wished| (wished, covers.unwrap_or_else(|| wished.default_type())));
    let headers = ContentHeaders {
        content_type: input.content_type,
        content_encoding: stored_content_encoding(input.content_encoding.as_deref()),
        content_disposition: input.content_disposition,
        content_language: input.content_language,
        cache_control: input.cache_control,
        expires: expires_text(input.expires),
    };
    let mut user_metadata: Vec<_> = input.metadata.unwrap_or_default().into_iter().collect();
    user_metadata.sort();
    let create = CreateUploadRequest {
        bucket: input.bucket.clone(),
        key: input.key.clone(),
        description: Description {
            headers,
            user_metadata,
        },
        checksum,
    };
    let created = api
        .store
        .create_upload(caller, create)
        .await
        .map_err(s3_error)?;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(created.upload),
        checksum_algorithm: input.checksum_algorithm,
        checksum_type: checksum_type(checksum.map(|(_, covers)| covers)),
        server_side_encryption: encryption(),
        ..CreateMultipartUploadOutput::default()
    }))
}

pub(super) async fn part(
    api: &Api,
    mut request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let expected = request.input.expected_bucket_owner.take();
    let caller = api.caller_of(&request, expected.as_ref()).await?;
    refuse_keys_of_part(&request.input)?;
    let claims = Claims {
        md5: md5(request.input.content_md5.as_deref())?,
        checksums: values(checksum_texts!(request.input)).map_err(s3_error)?,
    };
    let blob = request.input.body.take();
    let length = request.input.content_length;
    let body = body(&request, blob, length, claims)?;
    let input = request.input;
    let upload = PartRequest {
        name: UploadName {
            bucket: input.bucket,
            key: input.key,
            upload: input.upload_id,
        },
        number: i64::from(input.part_number),
        body,
    };
    let written = Box::pin(api.store.put_part(caller, upload))
        .await
        .map_err(s3_error)?;
    let mut output = UploadPartOutput {
        e_tag: etag(&written.etag),
        server_side_encryption: encryption(),
        ..UploadPartOutput::default()
    };
    set_checksums!(output, &written.checksums);
    Ok(S3Response::new(output))
}

pub(super) async fn part_copy(
    api: &Api,
    request: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let input = request.input;
    expected_owner(caller, input.expected_source_bucket_owner.as_ref())?;
    refuse_foreign_keys!(input);
    refuse_fields!(input, {
        copy_source_sse_customer_algorithm => "SSE-C",
        copy_source_sse_customer_key => "SSE-C",
    });
    let conditions = ReadConditions {
        if_match: etag_match(input.copy_source_if_match),
        if_none_match: etag_match(input.copy_source_if_none_match),
        if_modified_since: seconds(input.copy_source_if_modified_since),
        if_unmodified_since: seconds(input.copy_source_if_unmodified_since),
    };
    let copy = PartCopyRequest {
        name: UploadName {
            bucket: input.bucket,
            key: input.key,
            upload: input.upload_id,
        },
        number: i64::from(input.part_number),
        source: copy_source(input.copy_source, conditions)?,
        range: input.copy_source_range,
    };
    let written = Box::pin(api.store.copy_part(caller, &copy))
        .await
        .map_err(s3_error)?;
    let mut result = CopyPartResult {
        e_tag: etag(&written.etag),
        last_modified: moment(written.modified_ms),
        ..CopyPartResult::default()
    };
    set_checksums!(result, &written.checksums);
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
        server_side_encryption: encryption(),
        ..UploadPartCopyOutput::default()
    }))
}

pub(super) async fn complete(
    api: &Api,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let input = request.input;
    refuse_foreign_keys!(input);
    let checksums = checksum_texts!(input).collect();
    let named = input
        .multipart_upload
        .and_then(|named| named.parts)
        .unwrap_or_default();
    if named.is_empty() {
        return Err(malformed_xml());
    }
    let complete = CompleteRequest {
        name: UploadName {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            upload: input.upload_id,
        },
        parts: named.into_iter().map(named_part).collect::<S3Result<_>>()?,
        conditions: WriteConditions {
            if_match: etag_match(input.if_match),
            if_none_match: etag_match(input.if_none_match),
        },
        checksums,
        checksum_type: covers(input.checksum_type.as_ref())?,
        size: input
            .mpu_object_size
            .and_then(|size| u64::try_from(size).ok()),
    };
    let written = Box::pin(api.store.complete_upload(caller, &complete))
        .await
        .map_err(s3_error)?;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: etag(&written.etag),
        checksum_type: checksum_type(written.checksums.first().map(|sum| sum.covers)),
        server_side_encryption: encryption(),
        ..CompleteMultipartUploadOutput::default()
    };
    set_checksums!(output, &written.checksums);
    Ok(S3Response::new(output))
}

pub(super) async fn abort(
    api: &Api,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let input = request.input;
    let name = UploadName {
        bucket: input.bucket,
        key: input.key,
        upload: input.upload_id,
    };
    api.store
        .abort_upload(caller, &name)
        .await
        .map_err(s3_error)?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

fn named_part(part: CompletedPart) -> S3Result<NamedPart> {
    let checksums = values(checksum_texts!(part)).map_err(s3_error)?;
    Ok(NamedPart {
        number: part.part_number.map(i64::from).ok_or_else(malformed_xml)?,
        etag: part.e_tag.map(ETag::into_value).ok_or_else(malformed_xml)?,
        checksums,
    })
}

fn malformed_xml() -> S3Error {
    S3Error::with_message(
        S3ErrorCode::MalformedXML,
        "The XML you provided was not well-formed or did not validate against our published schema",
    )
}
