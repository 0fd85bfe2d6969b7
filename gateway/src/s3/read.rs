//! Reading objects, as s3s has them.

use super::api::Api;
use super::buckets::full_control;
use super::convert::{
    checksum_type, encryption, etag, etag_match, expires, invalid_argument, moment, owner, range,
    seconds, set_checksums, size,
};
use super::error::s3_error;
use super::objects::DEFAULT_CONTENT_TYPE;
use super::refuse::refuse_foreign_keys;
use crate::ops::conditions::ReadConditions;
use crate::ops::{Found, GetOutput, GetRequest, PartInfo};
use futures::TryStreamExt;
use http_body::Frame;
use http_body_util::StreamBody;
use megalith_crypto::manifest::Checksum as SealedChecksum;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, StdError};

/// Reads the fields that GET and HEAD have in common.
macro_rules! get_request {
    ($input:expr) => {
        GetRequest {
            bucket: $input.bucket,
            key: $input.key,
            version: $input.version_id,
            conditions: ReadConditions {
                if_match: etag_match($input.if_match),
                if_none_match: etag_match($input.if_none_match),
                if_modified_since: seconds($input.if_modified_since),
                if_unmodified_since: seconds($input.if_unmodified_since),
            },
            range: range($input.range),
            part_number: part_number($input.part_number)?,
        }
    };
}

/// Writes the fields that the answers to GET and HEAD have in common.
macro_rules! describe {
    ($kind:ident, $got:expr, $asked_part:expr, $checksums:expr) => {{
        let headers = $got.found.manifest.headers.clone();
        let shown = if $checksums {
            shown_checksums(&$got, $asked_part)
        } else {
            Vec::new()
        };
        let content_type = headers
            .content_type
            .unwrap_or_else(|| DEFAULT_CONTENT_TYPE.to_owned());
        let mut output = $kind {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: headers.cache_control,
            content_disposition: headers.content_disposition,
            content_encoding: headers.content_encoding,
            content_language: headers.content_language,
            content_length: size($got.bytes.end - $got.bytes.start),
            content_range: content_range(&$got),
            content_type: Some(content_type),
            e_tag: etag($got.found.etag()),
            expires: expires(headers.expires.as_ref()),
            last_modified: moment($got.found.modified_ms),
            metadata: metadata(&$got.found),
            parts_count: $asked_part.and_then(|_| parts_count(&$got.found)),
            server_side_encryption: encryption(),
            checksum_type: checksum_type(shown.first().map(|sum| sum.covers)),
            ..$kind::default()
        };
        set_checksums!(output, &shown);
        output
    }};
}

pub(super) async fn get(
    api: &Api,
    request: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let input = request.input;
    refuse_foreign_keys!(input);
    let with_checksums = wants_checksums(input.checksum_mode.as_ref());
    let wish = get_request!(input);
    let part = wish.part_number;
    let mut got = Box::pin(api.store.get(caller, &wish))
        .await
        .map_err(s3_error)?;
    let body = got.body.take();
    let mut output = describe!(GetObjectOutput, got, part, with_checksums);
    output.body = body.map(|plaintext| {
        let log = |error: megalith_blobs::GetError| -> StdError {
            tracing::error!(%error, "a body breaks off");
            Box::new(error)
        };
        let frames = plaintext.map_err(log).map_ok(Frame::data);
        StreamingBlob::from(s3s::Body::http_body_unsync(StreamBody::new(frames)))
    });
    Ok(S3Response::new(output))
}

pub(super) async fn head(
    api: &Api,
    request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let input = request.input;
    refuse_foreign_keys!(input);
    let with_checksums = wants_checksums(input.checksum_mode.as_ref());
    let wish = get_request!(input);
    let part = wish.part_number;
    let got = api.store.head(caller, &wish).await.map_err(s3_error)?;
    let output = describe!(HeadObjectOutput, got, part, with_checksums);
    Ok(S3Response::new(output))
}

pub(super) async fn acl(
    api: &Api,
    request: S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let GetObjectAclInput {
        bucket,
        key,
        version_id: version,
        ..
    } = request.input;
    let wish = GetRequest {
        bucket,
        key,
        version,
        ..GetRequest::default()
    };
    api.store.head(caller, &wish).await.map_err(s3_error)?;
    Ok(S3Response::new(GetObjectAclOutput {
        grants: Some(full_control(caller)),
        owner: owner(caller),
        request_charged: None,
    }))
}

pub(super) async fn attributes(
    api: &Api,
    request: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let input = request.input;
    refuse_foreign_keys!(input);
    // One header may hold several names.
    let wishes: Vec<&str> = input
        .object_attributes
        .iter()
        .flat_map(|wish| wish.as_str().split(','))
        .collect();
    let wished = |name: &str| wishes.iter().any(|wish| wish.trim() == name);
    let wish = GetRequest {
        bucket: input.bucket,
        key: input.key,
        version: input.version_id,
        ..GetRequest::default()
    };
    let found = api.store.head(caller, &wish).await.map_err(s3_error)?.found;
    let checksums = &found.manifest.checksums;
    let mut checksum = Checksum {
        checksum_type: checksum_type(checksums.first().map(|sum| sum.covers)),
        ..Checksum::default()
    };
    set_checksums!(checksum, checksums);
    let shows_checksum = wished(ObjectAttributes::CHECKSUM) && !checksums.is_empty();
    let parts = found
        .parts()
        .filter(|_| wished(ObjectAttributes::OBJECT_PARTS));
    Ok(S3Response::new(GetObjectAttributesOutput {
        checksum: shows_checksum.then_some(checksum),
        e_tag: wished(ObjectAttributes::ETAG)
            .then(|| etag(found.etag()))
            .flatten(),
        last_modified: moment(found.modified_ms),
        object_parts: parts
            .map(|parts| parts_page(parts, input.part_number_marker, input.max_parts))
            .transpose()?,
        object_size: wished(ObjectAttributes::OBJECT_SIZE)
            .then(|| size(found.size))
            .flatten(),
        storage_class: wished(ObjectAttributes::STORAGE_CLASS)
            .then(|| StorageClass::from_static(StorageClass::STANDARD)),
        ..GetObjectAttributesOutput::default()
    }))
}

fn parts_page(
    parts: Vec<PartInfo>,
    marker: Option<i32>,
    max: Option<i32>,
) -> S3Result<GetObjectAttributesParts> {
    let total = parts.len();
    let after = super::convert::count("part-number-marker", marker, 0)?;
    let max = super::convert::count("max-parts", max, 1000)?.min(1000);
    let mut rest = parts.into_iter().filter(|part| part.number > after);
    let page: Vec<PartInfo> = rest.by_ref().take(max as usize).collect();
    let last = page.last().map_or(after, |part| part.number);
    let shown = |part: PartInfo| {
        let mut object_part = ObjectPart {
            part_number: i32::try_from(part.number).ok(),
            size: size(part.size),
            ..ObjectPart::default()
        };
        set_checksums!(object_part, &part.checksums);
        object_part
    };
    Ok(GetObjectAttributesParts {
        is_truncated: Some(rest.next().is_some()),
        max_parts: i32::try_from(max).ok(),
        next_part_number_marker: i32::try_from(last).ok(),
        part_number_marker: i32::try_from(after).ok(),
        parts: Some(page.into_iter().map(shown).collect()),
        total_parts_count: i32::try_from(total).ok(),
    })
}

fn wants_checksums(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

/// The checksums of just the bytes that are given out: the object's, a part's, none of a range.
fn shown_checksums(got: &GetOutput, part: Option<u32>) -> Vec<SealedChecksum> {
    match (got.partial, part) {
        (false, _) => got.found.manifest.checksums.clone(),
        (true, None) => Vec::new(),
        (true, Some(number)) => match got.found.parts() {
            None => got.found.manifest.checksums.clone(),
            Some(parts) => parts
                .into_iter()
                .find(|part| part.number == number)
                .map_or_else(Vec::new, |part| part.checksums),
        },
    }
}

fn content_range(got: &GetOutput) -> Option<String> {
    // An empty part of an empty object has no first byte to name.
    (got.partial && !got.bytes.is_empty()).then(|| {
        format!(
            "bytes {}-{}/{}",
            got.bytes.start,
            got.bytes.end - 1,
            got.found.size
        )
    })
}

fn metadata(found: &Found) -> Option<Metadata> {
    let entries = &found.manifest.user_metadata;
    (!entries.is_empty()).then(|| entries.iter().cloned().collect())
}

fn parts_count(found: &Found) -> Option<i32> {
    i32::try_from(found.parts()?.len()).ok()
}

fn part_number(number: Option<i32>) -> S3Result<Option<u32>> {
    let Some(number) = number else {
        return Ok(None);
    };
    match u32::try_from(number) {
        Ok(number @ 1..=10_000) => Ok(Some(number)),
        Ok(_) | Err(_) => Err(invalid_argument(
            "Part number must be an integer between 1 and 10000, inclusive",
        )),
    }
}
