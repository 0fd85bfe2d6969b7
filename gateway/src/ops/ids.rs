//! Random ids of what a gateway creates, and texts that name versions and uploads.

use super::error::OpError;
use megalith_crypto::{Entropy as _, SystemEntropy};
use megalith_model::ids::{UploadId, VersionId};

/// Draws random bytes from the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], OpError> {
    let mut bytes = [0; N];
    SystemEntropy
        .fill(&mut bytes)
        .map_err(|error| OpError::Internal(error.to_string()))?;
    Ok(bytes)
}

/// Makes the id of a new version.
pub(super) fn new_version(time_ms: u64) -> Result<VersionId, OpError> {
    Ok(VersionId::new(time_ms, random()?))
}

/// Makes the id of the version that an upload becomes. It shows its upload, so that a repeated
/// completion is known for what it is; an upload completes once, so no other version has it.
pub(super) fn version_of_upload(time_ms: u64, upload: UploadId) -> VersionId {
    let mut mark = [0; 8];
    mark.copy_from_slice(&upload.0[..8]);
    VersionId::new(time_ms, mark)
}

/// Returns whether a version came from that upload.
pub(super) fn came_from(version: VersionId, upload: UploadId) -> bool {
    version.0[8..] == upload.0[..8]
}

/// Reads the version a request names; buckets have no versions yet, so only "null" is one.
pub(super) fn check_version(text: Option<&str>) -> Result<(), OpError> {
    match text {
        None | Some("null") => Ok(()),
        Some(_) => Err(OpError::NoSuchVersion),
    }
}
