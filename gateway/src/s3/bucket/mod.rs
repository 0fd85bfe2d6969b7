//! Operations on buckets themselves.

mod acl;
mod create;
mod delete;
mod head;
mod list;
mod location;
mod versioning;

pub(super) use acl::GetBucketAcl;
pub(super) use create::CreateBucket;
pub(super) use delete::DeleteBucket;
pub(super) use head::HeadBucket;
pub(super) use list::ListBuckets;
pub(super) use location::GetBucketLocation;
pub(super) use versioning::GetBucketVersioning;
