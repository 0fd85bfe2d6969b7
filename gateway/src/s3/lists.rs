//! Listings, as s3s has them.

use super::api::Api;
use super::convert::{
    Encoding, checksum_type, count, etag, initiator, invalid_argument, moment, owner,
    set_checksums, size,
};
use super::error::s3_error;
use crate::ops::{
    Caller, ListOutput, ListRequest, ListUploadsRequest, ListedObject, ListedPart, ListedUpload,
    UploadName,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

const PAGE_MAX: u32 = 1_000;

pub(super) async fn objects(
    api: &Api,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let input = request.input;
    let encoding = Encoding::parse(input.encoding_type.as_ref())?;
    let max = count("max-keys", input.max_keys, PAGE_MAX)?.min(PAGE_MAX);
    let wish = ListRequest {
        bucket: input.bucket.clone(),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        after: input.marker.clone().unwrap_or_default(),
        max,
    };
    let page = api.store.list(caller, wish).await.map_err(s3_error)?;
    let encoded = |text: String| encoding.text(&text);
    let folded = input
        .delimiter
        .as_ref()
        .is_some_and(|delimiter| !delimiter.is_empty());
    let (contents, common_prefixes) = shown(&page, encoding, Some(caller));
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(input.prefix.map(encoded).unwrap_or_default()),
        marker: Some(input.marker.map(encoded).unwrap_or_default()),
        max_keys: i32::try_from(max).ok(),
        is_truncated: Some(page.next.is_some()),
        // As in S3: without a delimiter the last key is the marker.
        next_marker: page.next.filter(|_| folded).map(encoded),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: input.delimiter.map(encoded),
        encoding_type: input.encoding_type,
        request_charged: None,
    }))
}

pub(super) async fn objects_v2(
    api: &Api,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let input = request.input;
    let encoding = Encoding::parse(input.encoding_type.as_ref())?;
    let max = count("max-keys", input.max_keys, PAGE_MAX)?.min(PAGE_MAX);
    let after = match input.continuation_token.as_deref() {
        Some(token) => parse_token(token)?,
        None => input.start_after.clone().unwrap_or_default(),
    };
    let wish = ListRequest {
        bucket: input.bucket.clone(),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        after,
        max,
    };
    let page = api.store.list(caller, wish).await.map_err(s3_error)?;
    let encoded = |text: String| encoding.text(&text);
    let shown_owner = (input.fetch_owner == Some(true)).then_some(caller);
    let (contents, common_prefixes) = shown(&page, encoding, shown_owner);
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(input.prefix.map(encoded).unwrap_or_default()),
        max_keys: i32::try_from(max).ok(),
        key_count: i32::try_from(contents.len() + common_prefixes.len()).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.as_deref().map(token),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: input.delimiter.map(encoded),
        encoding_type: input.encoding_type,
        start_after: input.start_after.map(encoded),
        request_charged: None,
    }))
}

pub(super) async fn parts(
    api: &Api,
    request: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let input = request.input;
    let max = count("max-parts", input.max_parts, PAGE_MAX)?.min(PAGE_MAX);
    let after = count("part-number-marker", input.part_number_marker, 0)?;
    let name = UploadName {
        bucket: input.bucket.clone(),
        key: input.key.clone(),
        upload: input.upload_id.clone(),
    };
    let page = api
        .store
        .list_parts(caller, &name, after, max)
        .await
        .map_err(s3_error)?;
    let last = page.parts.last().map_or(after, |part| part.number);
    let algorithm = page.checksum.map(|(algorithm, _)| algorithm);
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        checksum_algorithm: algorithm
            .map(|algorithm| ChecksumAlgorithm::from_static(algorithm.name())),
        checksum_type: checksum_type(page.checksum.map(|(_, covers)| covers)),
        initiator: initiator(caller),
        owner: owner(caller),
        is_truncated: Some(page.truncated),
        max_parts: i32::try_from(max).ok(),
        part_number_marker: i32::try_from(after).ok(),
        next_part_number_marker: i32::try_from(last).ok(),
        parts: Some(page.parts.into_iter().map(part).collect()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        ..ListPartsOutput::default()
    }))
}

pub(super) async fn uploads(
    api: &Api,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    let input = request.input;
    let encoding = Encoding::parse(input.encoding_type.as_ref())?;
    let max = count("max-uploads", input.max_uploads, PAGE_MAX)?.min(PAGE_MAX);
    let wish = ListUploadsRequest {
        bucket: input.bucket.clone(),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        key_marker: input.key_marker.clone().unwrap_or_default(),
        upload_marker: input.upload_id_marker.clone().unwrap_or_default(),
        max,
    };
    let page = api
        .store
        .list_uploads(caller, wish)
        .await
        .map_err(s3_error)?;
    let encoded = |text: String| encoding.text(&text);
    let upload = |upload: ListedUpload| MultipartUpload {
        initiated: moment(upload.created_ms),
        initiator: initiator(caller),
        key: Some(encoding.text(&upload.key)),
        owner: owner(caller),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        upload_id: Some(upload.upload),
        ..MultipartUpload::default()
    };
    let truncated = page.next.is_some();
    let (next_key, next_upload) = page.next.unzip();
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: Some(input.prefix.map(encoded).unwrap_or_default()),
        delimiter: input.delimiter.map(encoded),
        key_marker: Some(input.key_marker.map(encoded).unwrap_or_default()),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        next_key_marker: next_key.map(encoded),
        next_upload_id_marker: next_upload,
        max_uploads: i32::try_from(max).ok(),
        is_truncated: Some(truncated),
        encoding_type: input.encoding_type,
        uploads: Some(page.uploads.into_iter().map(upload).collect()),
        common_prefixes: Some(prefixes(&page.common_prefixes, encoding)),
        request_charged: None,
    }))
}

fn shown(
    page: &ListOutput,
    encoding: Encoding,
    shown_owner: Option<Caller>,
) -> (Vec<Object>, Vec<CommonPrefix>) {
    let object = |object: &ListedObject| Object {
        checksum_algorithm: Some(
            object
                .checksum_algorithms
                .iter()
                .cloned()
                .map(ChecksumAlgorithm::from)
                .collect(),
        ),
        checksum_type: checksum_type(object.checksum_type),
        e_tag: etag(&object.etag),
        key: Some(encoding.text(&object.key)),
        last_modified: moment(object.modified_ms),
        owner: shown_owner.and_then(owner),
        restore_status: None,
        size: size(object.size),
        storage_class: Some(ObjectStorageClass::from_static(
            ObjectStorageClass::STANDARD,
        )),
    };
    let contents = page.objects.iter().map(object).collect();
    (contents, prefixes(&page.common_prefixes, encoding))
}

fn prefixes(prefixes: &[String], encoding: Encoding) -> Vec<CommonPrefix> {
    let prefix = |prefix: &String| CommonPrefix {
        prefix: Some(encoding.text(prefix)),
    };
    prefixes.iter().map(prefix).collect()
}

fn part(part: ListedPart) -> Part {
    let mut shown = Part {
        e_tag: etag(&part.etag),
        last_modified: moment(part.modified_ms),
        part_number: i32::try_from(part.number).ok(),
        size: size(part.size),
        ..Part::default()
    };
    set_checksums!(shown, &part.checksums);
    shown
}

/// Makes a continuation token: the place where the next page starts, in an opaque form.
fn token(after: &str) -> String {
    format!("1{}", URL_SAFE_NO_PAD.encode(after))
}

fn parse_token(token: &str) -> S3Result<String> {
    let after = token
        .strip_prefix('1')
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    after.ok_or_else(|| invalid_argument("The continuation token provided is incorrect"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_return_to_their_place() {
        for place in ["", "a", "a/b c", "ключ", "photos/"] {
            assert_eq!(parse_token(&token(place)).unwrap(), place);
        }
        for bad in ["", "x", "2YQ", "1***", "1/w=="] {
            assert!(parse_token(bad).is_err(), "{bad}");
        }
    }
}
