//! What a request may not ask for yet: refused by name, never passed over.

use super::convert::{account_number, owner_id};
use super::error::s3_error;
use crate::ops::{Caller, OpError};
use s3s::dto::{ObjectCannedACL, ServerSideEncryption, StorageClass};
use s3s::{S3Error, S3ErrorCode, S3Result};

/// Refuses a request where a field is there.
macro_rules! refuse_fields {
    ($input:expr, { $($field:ident => $what:literal),+ $(,)? }) => {
        $(
            if $input.$field.is_some() {
                return Err($crate::s3::refuse::not_implemented($what));
            }
        )+
    };
}

/// Refuses keys that a client brings itself, and grants to others.
macro_rules! refuse_foreign_keys {
    ($input:expr) => {
        $crate::s3::refuse::refuse_fields!($input, {
            sse_customer_algorithm => "SSE-C",
            sse_customer_key => "SSE-C",
            sse_customer_key_md5 => "SSE-C",
        })
    };
}

/// Refuses what no new object can have yet.
macro_rules! refuse_for_new_objects {
    ($input:expr) => {
        $crate::s3::refuse::refuse_foreign_keys!($input);
        $crate::s3::refuse::refuse_fields!($input, {
            grant_full_control => "x-amz-grant-full-control",
            grant_read => "x-amz-grant-read",
            grant_read_acp => "x-amz-grant-read-acp",
            grant_write_acp => "x-amz-grant-write-acp",
            object_lock_legal_hold_status => "object lock",
            object_lock_mode => "object lock",
            object_lock_retain_until_date => "object lock",
            ssekms_key_id => "SSE-KMS",
            ssekms_encryption_context => "SSE-KMS",
            website_redirect_location => "x-amz-website-redirect-location",
        });
        if $input.tagging.as_ref().is_some_and(|tags| !tags.is_empty()) {
            return Err($crate::s3::refuse::not_implemented("x-amz-tagging"));
        }
        $crate::s3::refuse::encryption($input.server_side_encryption.as_ref())?;
        $crate::s3::refuse::storage_class($input.storage_class.as_ref())?;
        $crate::s3::refuse::acl($input.acl.as_ref())?;
    };
}
pub(super) use {refuse_fields, refuse_for_new_objects, refuse_foreign_keys};

pub(super) fn not_implemented(what: &'static str) -> S3Error {
    s3_error(OpError::NotImplemented(what))
}

/// Every object is encrypted with our own keys; nothing else can be asked for.
pub(super) fn encryption(wish: Option<&ServerSideEncryption>) -> S3Result<()> {
    match wish.map(ServerSideEncryption::as_str) {
        None | Some(ServerSideEncryption::AES256) => Ok(()),
        Some(ServerSideEncryption::AWS_KMS | ServerSideEncryption::AWS_KMS_DSSE) => {
            Err(not_implemented("x-amz-server-side-encryption"))
        }
        Some(_) => {
            let text = "The encryption method specified is not supported";
            Err(s3_error(OpError::InvalidArgument(text.to_owned())))
        }
    }
}

pub(super) fn storage_class(wish: Option<&StorageClass>) -> S3Result<()> {
    match wish.map(StorageClass::as_str) {
        None | Some(StorageClass::STANDARD) => Ok(()),
        Some(_) => Err(S3Error::with_message(
            S3ErrorCode::InvalidStorageClass,
            "The storage class you specified is not valid",
        )),
    }
}

/// Everything is private to its owner; lists that say just that are accepted.
pub(super) fn acl(wish: Option<&ObjectCannedACL>) -> S3Result<()> {
    match wish.map(ObjectCannedACL::as_str) {
        None | Some(ObjectCannedACL::PRIVATE | ObjectCannedACL::BUCKET_OWNER_FULL_CONTROL) => {
            Ok(())
        }
        Some(_) => Err(not_implemented("x-amz-acl")),
    }
}

/// Checks `x-amz-expected-bucket-owner`: buckets that a caller may use are the caller's.
pub(super) fn expected_owner(caller: Caller, expected: Option<&String>) -> S3Result<()> {
    match expected {
        Some(owner) if *owner != account_number(caller) && *owner != owner_id(caller) => {
            Err(s3_error(OpError::AccessDenied))
        }
        Some(_) | None => Ok(()),
    }
}
