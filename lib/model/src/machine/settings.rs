//! The cluster's settings, and the uploads that end by them.

use super::context::{Machine, Step, malformed};
use super::uploads::Place;
use crate::command::{Outcome, Refusal};
use crate::ids::UploadId;
use crate::keys::{Meta, RowKey};
use crate::rows::{BucketRow, UploadTarget};
use crate::settings::Settings;

/// The most uploads of one command that ends old ones.
pub const EXPIRED_MAX: usize = 64;

impl Machine<'_, '_> {
    pub(super) fn set_settings(&mut self, new: Settings) -> Step<Outcome> {
        if let Err(error) = new.check() {
            return malformed(error.to_string());
        }
        let key = RowKey::Meta(Meta::Settings);
        let old: Settings = self.read(&key)?.unwrap_or_default();
        // The same command once more changes nothing.
        if old != new {
            if old.revision.checked_add(1) != Some(new.revision) {
                return Err(Refusal::Changed.into());
            }
            self.write(&key, &new);
        }
        Ok(Outcome::Done)
    }

    /// Ends those of the named uploads that are too old; skips the others. What they hold is
    /// doomed: their parts go with later commands.
    pub(super) fn expire_uploads(&mut self, uploads: &[UploadId]) -> Step<Outcome> {
        if uploads.len() > EXPIRED_MAX {
            return malformed("too many uploads at once");
        }
        let settings: Option<Settings> = self.read(&RowKey::Meta(Meta::Settings))?;
        let end_ms = settings.unwrap_or_default();
        let Some(end_ms) = end_ms.uploads_end_before_ms(self.now_ms) else {
            return Ok(Outcome::Done);
        };
        for upload in uploads.iter().filter(|upload| upload.time_ms() < end_ms) {
            let target: Option<UploadTarget> = self.read(&RowKey::UploadTarget(*upload))?;
            let Some(UploadTarget { bucket, key }) = target else {
                continue;
            };
            let bucket: BucketRow = self.require(&RowKey::Bucket(bucket))?;
            let place = Place {
                bucket: bucket.id,
                key: &key,
                upload: *upload,
            };
            self.end_upload(place, &bucket)?;
        }
        Ok(Outcome::Done)
    }
}
