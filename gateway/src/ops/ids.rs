//! Random ids for what a gateway creates, and the texts that name versions and uploads.

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

/// Makes the id of a new upload. Ids sort by age, and so do the uploads of one key in listings.
pub(super) fn new_upload(time_ms: u64) -> Result<UploadId, OpError> {
    Ok(UploadId(VersionId::new(time_ms, random()?).0))
}

/// Makes the id of the version that an upload becomes. The id carries a mark of the upload, so
/// that a repeated completion is recognised. An upload completes only once, so no other version has
/// this id. It always differs from the upload's own id, because both occur in contexts under the
/// same data key.
pub(super) fn version_of_upload(time_ms: u64, upload: UploadId) -> VersionId {
    VersionId::new(time_ms, mark(upload))
}

/// Returns whether a version came from that upload.
pub(super) fn came_from(version: VersionId, upload: UploadId) -> bool {
    version.0[8..] == mark(upload)
}

fn mark(upload: UploadId) -> [u8; 8] {
    let mut mark = [0; 8];
    mark.copy_from_slice(&upload.0[8..]);
    mark.map(|byte| !byte)
}

/// Reads the version that a request names; buckets keep no versions yet, so only "null" is valid.
pub(super) fn check_version(text: Option<&str>) -> Result<(), OpError> {
    match text {
        None | Some("null") => Ok(()),
        Some(_) => Err(OpError::NoSuchVersion),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_show_their_upload_and_are_never_it() {
        let upload = new_upload(7).unwrap();
        let version = version_of_upload(7, upload);
        assert!(came_from(version, upload));
        assert!(!came_from(version, new_upload(7).unwrap()));
        assert_ne!(version.0, upload.0);
        assert!(new_upload(8).unwrap() > upload);
    }
}
