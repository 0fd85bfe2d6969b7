//! All supported operations. The first one that matches a request serves it, so the more specific
//! ones stand before the plain ones.

use super::edge::route::Entry;
use super::{bucket, listing, object, upload};

pub(super) static OPERATIONS: [Entry; 24] = [
    // On all buckets.
    Entry::of::<bucket::ListBuckets>(),
    // On one bucket.
    Entry::of::<bucket::GetBucketLocation>(),
    Entry::of::<bucket::GetBucketVersioning>(),
    Entry::of::<bucket::GetBucketAcl>(),
    Entry::of::<listing::ListMultipartUploads>(),
    Entry::of::<listing::ListObjectsV2>(),
    Entry::of::<listing::ListObjects>(),
    Entry::of::<bucket::HeadBucket>(),
    Entry::of::<bucket::CreateBucket>(),
    Entry::of::<bucket::DeleteBucket>(),
    Entry::of::<object::DeleteObjects>(),
    // On one object.
    Entry::of::<object::GetObjectAttributes>(),
    Entry::of::<object::GetObjectAcl>(),
    Entry::of::<listing::ListParts>(),
    Entry::of::<object::GetObject>(),
    Entry::of::<object::HeadObject>(),
    Entry::of::<upload::UploadPartCopy>(),
    Entry::of::<upload::UploadPart>(),
    Entry::of::<object::CopyObject>(),
    Entry::of::<object::PutObject>(),
    Entry::of::<upload::AbortMultipartUpload>(),
    Entry::of::<object::DeleteObject>(),
    Entry::of::<upload::CreateMultipartUpload>(),
    Entry::of::<upload::CompleteMultipartUpload>(),
];
