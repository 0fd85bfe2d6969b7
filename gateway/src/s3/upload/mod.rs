//! Operations on uploads in parts.

mod abort;
mod complete;
mod create;
mod part;
mod part_copy;

pub(super) use abort::AbortMultipartUpload;
pub(super) use complete::CompleteMultipartUpload;
pub(super) use create::CreateMultipartUpload;
pub(super) use part::UploadPart;
pub(super) use part_copy::UploadPartCopy;
