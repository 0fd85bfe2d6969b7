//! Operations on objects.

mod acl;
mod attributes;
mod copy;
mod delete;
mod delete_many;
mod get;
mod head;
mod put;
mod read;

pub(super) use acl::GetObjectAcl;
pub(super) use attributes::GetObjectAttributes;
pub(super) use copy::CopyObject;
pub(super) use delete::DeleteObject;
pub(super) use delete_many::DeleteObjects;
pub(super) use get::GetObject;
pub(super) use head::HeadObject;
pub(super) use put::PutObject;
