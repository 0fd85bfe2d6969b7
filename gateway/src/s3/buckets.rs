//! Buckets, as s3s has them.

use super::api::Api;
use super::convert::{invalid_argument, moment, owner, owner_id};
use super::error::s3_error;
use super::refuse::{not_implemented, refuse_fields};
use crate::ops::Caller;
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

const BUCKETS_MAX: i32 = 10_000;

pub(super) async fn create(
    api: &Api,
    request: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let caller = api.caller(&request).await?;
    let input = request.input;
    refuse_fields!(input, {
        grant_full_control => "x-amz-grant-full-control",
        grant_read => "x-amz-grant-read",
        grant_read_acp => "x-amz-grant-read-acp",
        grant_write => "x-amz-grant-write",
        grant_write_acp => "x-amz-grant-write-acp",
    });
    if input.object_lock_enabled_for_bucket == Some(true) {
        return Err(not_implemented("object lock"));
    }
    match input.acl.as_ref().map(BucketCannedACL::as_str) {
        None | Some(BucketCannedACL::PRIVATE) => {}
        Some(_) => return Err(not_implemented("x-amz-acl")),
    }
    let constraint = input
        .create_bucket_configuration
        .and_then(|wish| wish.location_constraint);
    if constraint.is_some_and(|wish| !wish.as_str().is_empty() && wish.as_str() != &*api.region) {
        return Err(S3Error::with_message(
            S3ErrorCode::IllegalLocationConstraintException,
            "The location constraint is incompatible for the region specific endpoint this \
             request was sent to.",
        ));
    }
    let row = api
        .store
        .create_bucket(caller, &input.bucket)
        .await
        .map_err(s3_error)?;
    Ok(S3Response::new(CreateBucketOutput {
        location: Some(format!("/{}", row.name)),
    }))
}

pub(super) async fn head(
    api: &Api,
    request: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    api.store
        .head_bucket(caller, &request.input.bucket)
        .await
        .map_err(s3_error)?;
    Ok(S3Response::new(HeadBucketOutput {
        bucket_region: Some(api.region.to_string()),
        ..HeadBucketOutput::default()
    }))
}

pub(super) async fn delete(
    api: &Api,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    api.store
        .delete_bucket(caller, &request.input.bucket)
        .await
        .map_err(s3_error)?;
    Ok(S3Response::new(DeleteBucketOutput {}))
}

pub(super) async fn list(
    api: &Api,
    request: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let caller = api.caller(&request).await?;
    let input = request.input;
    let max = input.max_buckets.unwrap_or(BUCKETS_MAX);
    let max = usize::try_from(max)
        .ok()
        .filter(|max| (1..=BUCKETS_MAX as usize).contains(max));
    let max = max.ok_or_else(|| {
        invalid_argument("Argument max-buckets must be an integer between 1 and 10000")
    })?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input.continuation_token.unwrap_or_default();
    let page = api
        .store
        .list_buckets(caller, &prefix, &after, max)
        .await
        .map_err(s3_error)?;
    let bucket = |row: megalith_model::rows::BucketRow| Bucket {
        bucket_region: Some(api.region.to_string()),
        creation_date: moment(row.created_ms),
        name: Some(row.name),
    };
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(page.buckets.into_iter().map(bucket).collect()),
        continuation_token: page.next,
        owner: owner(caller),
        prefix: input.prefix,
    }))
}

pub(super) async fn location(
    api: &Api,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    api.store
        .head_bucket(caller, &request.input.bucket)
        .await
        .map_err(s3_error)?;
    // S3's first region has no name here.
    let named = (&*api.region != "us-east-1").then(|| api.region.to_string());
    Ok(S3Response::new(GetBucketLocationOutput {
        location_constraint: named.map(BucketLocationConstraint::from),
    }))
}

pub(super) async fn versioning(
    api: &Api,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    api.store
        .head_bucket(caller, &request.input.bucket)
        .await
        .map_err(s3_error)?;
    // Never enabled, which S3 says with an empty answer.
    Ok(S3Response::new(GetBucketVersioningOutput::default()))
}

pub(super) async fn acl(
    api: &Api,
    request: S3Request<GetBucketAclInput>,
) -> S3Result<S3Response<GetBucketAclOutput>> {
    let caller = api
        .caller_of(&request, request.input.expected_bucket_owner.as_ref())
        .await?;
    api.store
        .head_bucket(caller, &request.input.bucket)
        .await
        .map_err(s3_error)?;
    let output = GetBucketAclOutput {
        grants: Some(full_control(caller)),
        owner: owner(caller),
    };
    Ok(S3Response::new(output))
}

/// The only access list there is: the owner may do everything.
pub(super) fn full_control(caller: Caller) -> Vec<Grant> {
    let grantee = Grantee {
        display_name: None,
        email_address: None,
        id: Some(owner_id(caller)),
        type_: Type::from_static(Type::CANONICAL_USER),
        uri: None,
    };
    vec![Grant {
        grantee: Some(grantee),
        permission: Some(Permission::from_static(Permission::FULL_CONTROL)),
    }]
}
