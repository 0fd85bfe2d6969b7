//! Objects of many parts, made and deleted: few bytes of log, many rows.

use super::objects::{Objects, bytes};
use super::{Failed, IN_FLIGHT};
use futures::{StreamExt, TryStreamExt, stream};
use megalith_metadata::MetaHandle;
use megalith_model::command::{Command, Condition, ObjectBlobs, Outcome, PutObject};
use megalith_model::ids::{UploadId, VersionId};
use std::time::Instant;

const PARTS: u64 = 64;
const SEALED_PART_LEN: usize = 220;

/// Objects of 64 parts, a megabyte each.
#[derive(Clone)]
pub struct Videos {
    pub objects: Objects,
    /// The number of the first part of the first one.
    pub first: u64,
    pub count: u64,
}

fn key(video: u64) -> Vec<u8> {
    format!("videos/{video:013}.mp4").into_bytes()
}

impl Videos {
    fn part(&self, video: u64, part: u64) -> u64 {
        self.first + video * PARTS + part
    }

    /// Uploads all parts, completes all objects.
    pub async fn make(&self, handle: &MetaHandle) -> Result<(), Failed> {
        let begun = Instant::now();
        let made = stream::iter(0..self.count).map(|video| self.make_one(handle, video));
        made.buffer_unordered(IN_FLIGHT / PARTS as usize)
            .try_for_each(async |()| Ok(()))
            .await?;
        let (count, seconds) = (self.count, begun.elapsed().as_secs_f64());
        println!("{count} objects of {PARTS} parts made in {seconds:.1} s");
        Ok(())
    }

    async fn make_one(&self, handle: &MetaHandle, video: u64) -> Result<(), Failed> {
        let time_ms = self.objects.moment(self.part(video, 0));
        let upload = UploadId::new(time_ms, video.to_be_bytes());
        let (bucket, objects) = (self.objects.bucket(), &self.objects);
        let create = Command::CreateUpload {
            bucket,
            key: key(video),
            upload,
            wrapped_key: bytes(video, 80),
            sealed_manifest: bytes(video, 120),
        };
        objects.without_blob(handle, video * 3, create).await?;
        let parts = (0..PARTS).map(|part| {
            let blob = objects.blob(self.part(video, part));
            let command = Command::PutPart {
                bucket,
                key: key(video),
                upload,
                part: u32::try_from(part).expect("few") + 1,
                size: blob.len,
                written_ms: time_ms,
                sealed_part: bytes(video, SEALED_PART_LEN),
                blob,
            };
            objects.with_blob(handle, command)
        });
        futures::future::try_join_all(parts).await?;
        let blob = |part| objects.blob(self.part(video, part)).blob;
        let object = PutObject {
            bucket,
            key: key(video),
            version: VersionId::new(time_ms, video.to_be_bytes()),
            size: PARTS * objects.blob(0).len,
            condition: Condition::None,
            wrapped_key: bytes(video, 80),
            sealed_manifest: bytes(video, 64 * 90),
            sealed_listing: bytes(video, 100),
            blobs: ObjectBlobs::Parts,
        };
        let complete = Command::CompleteUpload {
            upload,
            parts: (0..PARTS)
                .map(|part| (part as u32 + 1, blob(part)))
                .collect(),
            object: Box::new(object),
        };
        objects
            .without_blob(handle, video * 3 + 1, complete)
            .await?;
        Ok(())
    }

    /// Deletes all of them, and works off what that dooms.
    pub async fn delete(&self, handle: &MetaHandle) -> Result<(), Failed> {
        let begun = Instant::now();
        let deletes = stream::iter(0..self.count).map(|video| {
            let command = Command::DeleteObject {
                bucket: self.objects.bucket(),
                key: key(video),
                condition: Condition::None,
            };
            self.objects.without_blob(handle, video * 3 + 2, command)
        });
        deletes
            .buffer_unordered(IN_FLIGHT)
            .try_for_each(async |_done| Ok(()))
            .await?;
        println!("deleted in {:.1} s", begun.elapsed().as_secs_f64());
        Ok(())
    }

    /// Works off what is doomed, one piece after the other; returns how many there were.
    pub async fn work_off(&self, handle: &MetaHandle) -> Result<u64, Failed> {
        let mut pieces = 0;
        loop {
            pieces += 1;
            match self
                .objects
                .without_blob(handle, 0, Command::WorkOff)
                .await?
            {
                Outcome::WorkedOff { left: true } => {}
                Outcome::WorkedOff { left: false } => return Ok(pieces),
                other => return Err(format!("worked off: {other:?}").into()),
            }
        }
    }
}
