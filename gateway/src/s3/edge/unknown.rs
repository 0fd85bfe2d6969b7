//! S3 operations that are not supported yet. They are refused by name, so that none is taken for a
//! supported one. When an operation is added, its row is removed.

use super::route::{Chosen, On};
use http::Method;

/// An operation that is refused by name.
pub(super) struct Unknown {
    pub(super) name: &'static str,
    pub(super) method: Method,
    pub(super) on: On,
    pub(super) chosen_by: Chosen,
}

const fn on(on: On, method: Method, parameter: &'static str, name: &'static str) -> Unknown {
    Unknown {
        name,
        method,
        on,
        chosen_by: Chosen::Query(parameter),
    }
}

const fn bucket(method: Method, parameter: &'static str, name: &'static str) -> Unknown {
    on(On::Bucket, method, parameter, name)
}

const fn object(method: Method, parameter: &'static str, name: &'static str) -> Unknown {
    on(On::Object, method, parameter, name)
}

/// All operations that are refused by name.
pub(super) static UNKNOWN: [Unknown; 71] = [
    Unknown {
        name: "ListDirectoryBuckets",
        method: Method::GET,
        on: On::Service,
        chosen_by: Chosen::QueryIs("x-id", "ListDirectoryBuckets"),
    },
    bucket(Method::GET, "analytics", "GetBucketAnalyticsConfiguration"),
    bucket(
        Method::GET,
        "intelligent-tiering",
        "GetBucketIntelligentTieringConfiguration",
    ),
    bucket(Method::GET, "inventory", "GetBucketInventoryConfiguration"),
    bucket(Method::GET, "metrics", "GetBucketMetricsConfiguration"),
    bucket(Method::PUT, "analytics", "PutBucketAnalyticsConfiguration"),
    bucket(
        Method::PUT,
        "intelligent-tiering",
        "PutBucketIntelligentTieringConfiguration",
    ),
    bucket(Method::PUT, "inventory", "PutBucketInventoryConfiguration"),
    bucket(Method::PUT, "metrics", "PutBucketMetricsConfiguration"),
    bucket(
        Method::DELETE,
        "analytics",
        "DeleteBucketAnalyticsConfiguration",
    ),
    bucket(
        Method::DELETE,
        "intelligent-tiering",
        "DeleteBucketIntelligentTieringConfiguration",
    ),
    bucket(
        Method::DELETE,
        "inventory",
        "DeleteBucketInventoryConfiguration",
    ),
    bucket(
        Method::DELETE,
        "metrics",
        "DeleteBucketMetricsConfiguration",
    ),
    bucket(Method::GET, "cors", "GetBucketCors"),
    bucket(Method::GET, "encryption", "GetBucketEncryption"),
    bucket(
        Method::GET,
        "ownershipControls",
        "GetBucketOwnershipControls",
    ),
    bucket(Method::GET, "policy", "GetBucketPolicy"),
    bucket(Method::GET, "replication", "GetBucketReplication"),
    bucket(Method::GET, "tagging", "GetBucketTagging"),
    bucket(Method::GET, "website", "GetBucketWebsite"),
    bucket(Method::GET, "publicAccessBlock", "GetPublicAccessBlock"),
    bucket(Method::PUT, "cors", "PutBucketCors"),
    bucket(Method::PUT, "encryption", "PutBucketEncryption"),
    bucket(
        Method::PUT,
        "ownershipControls",
        "PutBucketOwnershipControls",
    ),
    bucket(Method::PUT, "policy", "PutBucketPolicy"),
    bucket(Method::PUT, "replication", "PutBucketReplication"),
    bucket(Method::PUT, "tagging", "PutBucketTagging"),
    bucket(Method::PUT, "website", "PutBucketWebsite"),
    bucket(Method::PUT, "publicAccessBlock", "PutPublicAccessBlock"),
    bucket(Method::DELETE, "cors", "DeleteBucketCors"),
    bucket(Method::DELETE, "encryption", "DeleteBucketEncryption"),
    bucket(
        Method::DELETE,
        "ownershipControls",
        "DeleteBucketOwnershipControls",
    ),
    bucket(Method::DELETE, "policy", "DeleteBucketPolicy"),
    bucket(Method::DELETE, "replication", "DeleteBucketReplication"),
    bucket(Method::DELETE, "tagging", "DeleteBucketTagging"),
    bucket(Method::DELETE, "website", "DeleteBucketWebsite"),
    bucket(
        Method::DELETE,
        "publicAccessBlock",
        "DeletePublicAccessBlock",
    ),
    bucket(
        Method::GET,
        "accelerate",
        "GetBucketAccelerateConfiguration",
    ),
    bucket(Method::GET, "lifecycle", "GetBucketLifecycleConfiguration"),
    bucket(Method::GET, "logging", "GetBucketLogging"),
    bucket(
        Method::GET,
        "notification",
        "GetBucketNotificationConfiguration",
    ),
    bucket(Method::GET, "requestPayment", "GetBucketRequestPayment"),
    bucket(Method::GET, "object-lock", "GetObjectLockConfiguration"),
    bucket(
        Method::PUT,
        "accelerate",
        "PutBucketAccelerateConfiguration",
    ),
    bucket(Method::PUT, "lifecycle", "PutBucketLifecycleConfiguration"),
    bucket(Method::PUT, "logging", "PutBucketLogging"),
    bucket(
        Method::PUT,
        "notification",
        "PutBucketNotificationConfiguration",
    ),
    bucket(Method::PUT, "requestPayment", "PutBucketRequestPayment"),
    bucket(Method::PUT, "object-lock", "PutObjectLockConfiguration"),
    bucket(Method::DELETE, "lifecycle", "DeleteBucketLifecycle"),
    bucket(Method::PUT, "acl", "PutBucketAcl"),
    bucket(Method::PUT, "versioning", "PutBucketVersioning"),
    bucket(Method::GET, "session", "CreateSession"),
    bucket(
        Method::GET,
        "metadataTable",
        "GetBucketMetadataTableConfiguration",
    ),
    bucket(
        Method::POST,
        "metadataTable",
        "CreateBucketMetadataTableConfiguration",
    ),
    bucket(
        Method::DELETE,
        "metadataTable",
        "DeleteBucketMetadataTableConfiguration",
    ),
    bucket(Method::GET, "policyStatus", "GetBucketPolicyStatus"),
    bucket(Method::GET, "versions", "ListObjectVersions"),
    bucket(Method::GET, "events", "ListenBucketNotification"),
    object(Method::GET, "legal-hold", "GetObjectLegalHold"),
    object(Method::GET, "retention", "GetObjectRetention"),
    object(Method::GET, "tagging", "GetObjectTagging"),
    object(Method::PUT, "legal-hold", "PutObjectLegalHold"),
    object(Method::PUT, "retention", "PutObjectRetention"),
    object(Method::PUT, "tagging", "PutObjectTagging"),
    object(Method::DELETE, "tagging", "DeleteObjectTagging"),
    object(Method::PUT, "acl", "PutObjectAcl"),
    object(Method::PUT, "renameObject", "RenameObject"),
    object(Method::GET, "torrent", "GetObjectTorrent"),
    object(Method::POST, "restore", "RestoreObject"),
    object(Method::POST, "select", "SelectObjectContent"),
];
