//! Reads objects: their description, their bytes, ranges and parts of them.
//!
//! Owns: opening the manifest and checking that it agrees with its row, preconditions, and which
//! parts are read. The places of all of them are looked up before the first byte: if the object is
//! replaced meanwhile, nobody finds them any more.

use super::conditions::{ReadConditions, ReadVerdict};
use super::error::{OpError, Outage};
use super::ids::check_version;
use super::names::check_key;
use super::ports::Plaintext;
use super::put::ObjectName;
use super::range::RangeWish;
use super::{Caller, Store};
use futures::{StreamExt, TryStreamExt, stream};
use megalith_blobs::{GetError, PartToRead, Payer, ReadPlan, Reading, Reservation};
use megalith_crypto::manifest::Checksum;
use megalith_crypto::{DataKey, ListingContext, Manifest, ManifestPart, ObjectContext};
use megalith_model::ids::{BlobId, BucketId, VersionId, VolumeId};
use megalith_model::query::{BlobView, ObjectView, PAGE_ROWS_MAX};
use megalith_model::question;
use megalith_model::topology::Volume;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// How many parts are read in one go.
const BATCH_PARTS: usize = 64;
/// How often an object is looked up again if it is replaced while it is being opened.
const LOOKS_MAX: usize = 3;

/// An object to read.
#[derive(Clone, Debug, Default)]
pub struct GetRequest {
    pub bucket: String,
    pub key: String,
    /// `versionId`, as the client wrote it.
    pub version: Option<String>,
    pub conditions: ReadConditions,
    pub range: Option<RangeWish>,
    pub part_number: Option<u32>,
}

/// An object's description, opened and checked.
#[derive(Clone)]
pub struct FoundObject {
    pub version: VersionId,
    pub size: u64,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
    /// The ETag without quotes.
    pub etag: String,
    /// Everything else that is known of it.
    pub manifest: Arc<Manifest>,
    pub(super) bucket: BucketId,
    pub(super) key: Arc<DataKey>,
    /// Where its parts are, as far as that was looked up.
    places: Arc<Places>,
    /// While this lasts, what they name is not deleted.
    reading: Arc<Reading>,
    payer: Payer,
    /// The memory of its windows, if its bytes are written again.
    pub(super) copied_in: Option<Arc<Reservation>>,
}

/// Where parts are.
#[derive(Clone)]
struct Places {
    blobs: HashMap<BlobId, BlobView>,
    volumes: Vec<Volume>,
}

/// A part of an object that was uploaded in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    pub number: u32,
    pub size: u64,
    pub checksums: Vec<Checksum>,
}

/// An answer to [`GetRequest`].
pub struct GetOutput {
    pub found: FoundObject,
    /// The bytes that are returned.
    pub bytes: Range<u64>,
    /// True if a range or part was requested.
    pub partial: bool,
    /// The body; None for HEAD.
    pub body: Option<Plaintext>,
}

impl FoundObject {
    /// Returns its parts, if it was uploaded in parts. They are counted from 1 without gaps,
    /// whatever their numbers in the upload.
    #[must_use]
    pub fn parts(&self) -> Option<Vec<PartInfo>> {
        let uploaded = self
            .manifest
            .parts
            .first()
            .is_some_and(|part| part.number != 0);
        let info = |(number, part): (u32, &ManifestPart)| PartInfo {
            number,
            size: part.plain_len,
            checksums: part.checksums.clone(),
        };
        uploaded.then(|| (1..).zip(&self.manifest.parts).map(info).collect())
    }

    /// Finds which bytes of the object a part covers.
    fn part_bytes(&self, number: u32) -> Result<Range<u64>, OpError> {
        let mut start = 0;
        for (index, part) in (1..).zip(&self.manifest.parts) {
            let end = start + part.plain_len;
            if index == number {
                return Ok(start..end);
            }
            start = end;
        }
        Err(OpError::InvalidPartNumber)
    }
}

impl FoundObject {
    /// Returns how to read some of its parts, whose places are known.
    fn plan(&self, parts: &[ManifestPart]) -> Result<ReadPlan, GetError> {
        let part_to_read = |part: &ManifestPart| {
            let blob = BlobId(part.blob);
            let view = self.places.blobs.get(&blob);
            Ok(PartToRead {
                view: view.cloned().ok_or_else(|| unplaced(blob))?,
                iv: part.iv,
                plain_len: part.plain_len,
                part: part.number,
            })
        };
        let parts = parts.iter().map(part_to_read);
        Ok(ReadPlan {
            parts: parts.collect::<Result<_, GetError>>()?,
            volumes: self.places.volumes.clone(),
            key: Arc::clone(&self.key),
            payer: self.payer,
            copied_in: self.copied_in.clone(),
            reading: Arc::clone(&self.reading),
        })
    }
}

/// Asks for an object's current version.
fn current_version(object: ObjectName<'_>, with_blobs: bool) -> question::Object {
    question::Object {
        bucket: object.bucket,
        key: object.key.as_bytes().to_vec(),
        version: None,
        with_blobs,
    }
}

/// A blob whose place nobody knows (any more).
fn unplaced(blob: BlobId) -> GetError {
    GetError::Unavailable {
        blob,
        segment: 0,
        good: 0,
        needed: 1,
    }
}

impl Store {
    /// Describes an object without reading its bytes.
    ///
    /// # Errors
    /// See [`OpError`].
    pub async fn head(&self, caller: Caller, request: &GetRequest) -> Result<GetOutput, OpError> {
        let found = self.find(caller, &request.bucket, request, false).await?;
        let (bytes, partial) = choose(&found, request)?;
        Ok(GetOutput {
            found,
            bytes,
            partial,
            body: None,
        })
    }

    /// Reads an object. Returns when the first bytes are there, so that an immediate failure is
    /// still an error; a later error ends the body early.
    ///
    /// # Errors
    /// See [`OpError`].
    pub async fn get(&self, caller: Caller, request: &GetRequest) -> Result<GetOutput, OpError> {
        let mut seen = None;
        for _ in 0..LOOKS_MAX {
            let found = self.find(caller, &request.bucket, request, true).await?;
            let (bytes, partial) = choose(&found, request)?;
            let version = found.version;
            match self.read(&found, bytes.clone()).await {
                Ok(body) => {
                    return Ok(GetOutput {
                        found,
                        bytes,
                        partial,
                        body: Some(body),
                    });
                }
                // Perhaps it was replaced while it was being opened: then there is a newer one.
                Err(error @ (GetError::Unavailable { .. } | GetError::Inconsistent { .. }))
                    if seen != Some(version) =>
                {
                    tracing::debug!(%error, "look again for the object");
                    seen = Some(version);
                }
                Err(error) => return Err(get_error(error)),
            }
        }
        Err(OpError::Unavailable(
            Outage::Reads,
            "the object is replaced again and again".to_owned(),
        ))
    }

    /// Finds and opens an object, and checks the preconditions.
    pub(super) async fn find(
        &self,
        caller: Caller,
        bucket: &str,
        request: &GetRequest,
        with_blobs: bool,
    ) -> Result<FoundObject, OpError> {
        check_key(&request.key)?;
        let find = |bucket| async move {
            check_version(request.version.as_deref())?;
            let key = &request.key;
            let object = ObjectName { bucket, key };
            self.find_in(caller, object, with_blobs).await
        };
        let (_, found) = self.in_bucket(caller, bucket, find).await?;
        match request.conditions.judge(&found.etag, found.modified_ms) {
            ReadVerdict::Proceed => Ok(found),
            ReadVerdict::Failed(header) => Err(OpError::PreconditionFailed(header)),
            ReadVerdict::NotModified => Err(OpError::NotModified {
                etag: found.etag,
                modified_ms: found.modified_ms,
            }),
        }
    }

    /// Looks up an object's current version.
    pub(super) async fn current(
        &self,
        object: ObjectName<'_>,
        with_blobs: bool,
    ) -> Result<Option<Box<ObjectView>>, OpError> {
        self.ask(current_version(object, with_blobs)).await
    }

    async fn find_in(
        &self,
        caller: Caller,
        object: ObjectName<'_>,
        with_blobs: bool,
    ) -> Result<FoundObject, OpError> {
        let asked = current_version(object, with_blobs);
        let (view, index) = self.ask_at(asked).await?;
        let reading = self.blobs().reads().begin(index);
        let view = *view.ok_or(OpError::NoSuchKey)?;
        self.open(object, view, reading, caller.payer()).await
    }

    async fn open(
        &self,
        object: ObjectName<'_>,
        view: ObjectView,
        reading: Arc<Reading>,
        payer: Payer,
    ) -> Result<FoundObject, OpError> {
        let ObjectName { bucket, key } = object;
        let ObjectView {
            row,
            blobs,
            volumes,
        } = view;
        let version = row.version;
        let context = ObjectContext {
            cluster: self.keys().cluster().0,
            bucket: bucket.0,
            key: key.as_bytes(),
            version: version.0,
        };
        let data_key = self.keys().unwrap(&row.wrapped_key, &context).await?;
        let manifest = Manifest::open(&data_key, &context, row.size, &row.sealed_manifest)
            .map_err(|_| damaged("manifest", bucket, version))?;
        let named = manifest.parts.iter().map(|part| BlobId(part.blob));
        if !named.eq(row.blobs.iter().copied()) {
            return Err(damaged("list of blobs", bucket, version));
        }
        let listed = ListingContext {
            key: key.as_bytes(),
            version: version.0,
            plain_len: row.size,
        };
        let listing = self.open_listing(bucket, listed, &row.sealed_listing);
        let etag = listing.await?.etag;
        Ok(FoundObject {
            version,
            size: row.size,
            modified_ms: version.time_ms(),
            etag,
            manifest: Arc::new(manifest),
            bucket,
            key: Arc::new(data_key),
            places: Arc::new(Places {
                blobs: blobs.into_iter().map(|view| (view.blob, view)).collect(),
                volumes,
            }),
            reading,
            payer,
            copied_in: None,
        })
    }

    /// Reads bytes of an opened object.
    pub(super) async fn read(
        &self,
        found: &FoundObject,
        bytes: Range<u64>,
    ) -> Result<Plaintext, GetError> {
        let batches = batches(&found.manifest, &bytes);
        let found = &self.located(found, &batches).await?;
        let mut batches = batches.into_iter();
        let Some(first) = batches.next() else {
            return Ok(stream::empty().boxed());
        };
        let head = self.read_batch(found, first).await?;
        let rest: Vec<Batch> = batches.collect();
        if rest.is_empty() {
            return Ok(head);
        }
        let (store, found) = (self.clone(), found.clone());
        let tail = stream::iter(rest)
            .then(move |batch| {
                let (store, found) = (store.clone(), found.clone());
                async move { store.read_batch(&found, batch).await }
            })
            .try_flatten();
        Ok(head.chain(tail).boxed())
    }

    async fn read_batch(&self, found: &FoundObject, batch: Batch) -> Result<Plaintext, GetError> {
        let parts = &found.manifest.parts[batch.parts];
        let plan = found.plan(parts)?;
        self.blobs().read(plan, batch.bytes).await
    }

    /// Looks up where the parts of all batches are, as far as it did not come with the object.
    async fn located(
        &self,
        found: &FoundObject,
        batches: &[Batch],
    ) -> Result<FoundObject, GetError> {
        let parts = batches
            .iter()
            .flat_map(|batch| &found.manifest.parts[batch.parts.clone()]);
        let named: Vec<BlobId> = parts.map(|part| BlobId(part.blob)).collect();
        let known = |blob: &&BlobId| found.places.blobs.contains_key(blob);
        let missing: Vec<BlobId> = named.iter().filter(|blob| !known(blob)).copied().collect();
        let mut found = found.clone();
        for page in missing.chunks(PAGE_ROWS_MAX as usize) {
            let asked = self.look_up(page.to_vec(), &found.places.volumes).await;
            let (more, volumes) = asked.map_err(|_| unplaced(page[0]))?;
            let places = Arc::make_mut(&mut found.places);
            places
                .blobs
                .extend(more.into_iter().map(|view| (view.blob, view)));
            places.volumes.extend(volumes);
        }
        let gone = missing
            .iter()
            .find(|blob| !found.places.blobs.contains_key(blob));
        gone.map_or(Ok(found.clone()), |blob| Err(unplaced(*blob)))
    }

    async fn look_up(
        &self,
        blobs: Vec<BlobId>,
        known: &[Volume],
    ) -> Result<(Vec<BlobView>, Vec<Volume>), OpError> {
        let views = self.ask(question::Blobs { blobs }).await?;
        let named = views
            .iter()
            .flat_map(|view| &view.row.segments)
            .map(|row| row.volume);
        let volumes: BTreeSet<VolumeId> = named
            .filter(|id| !known.iter().any(|volume| volume.id == *id))
            .collect();
        if volumes.is_empty() {
            return Ok((views, Vec::new()));
        }
        let volumes = volumes.into_iter().collect();
        Ok((views, self.ask(question::Volumes { volumes }).await?))
    }
}

/// Parts that are read together, and which of their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Batch {
    parts: Range<usize>,
    bytes: Range<u64>,
}

/// Cuts a range of an object into batches of parts.
fn batches(manifest: &Manifest, bytes: &Range<u64>) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut start = 0;
    let mut index = 0;
    for parts in manifest.parts.chunks(BATCH_PARTS) {
        let mut found: Option<Batch> = None;
        for part in parts {
            let end = start + part.plain_len;
            let from = bytes.start.max(start);
            let to = bytes.end.min(end);
            if from < to {
                let batch = found.get_or_insert(Batch {
                    parts: index..index,
                    bytes: from - start..from - start,
                });
                batch.parts.end = index + 1;
                batch.bytes.end += to - from;
            }
            (start, index) = (end, index + 1);
        }
        batches.extend(found);
    }
    batches
}

/// Finds the bytes that a request asks for, and whether they are only part of the object.
fn choose(found: &FoundObject, request: &GetRequest) -> Result<(Range<u64>, bool), OpError> {
    let meant = |_: &RangeWish| {
        let conditions = &request.conditions;
        conditions.heeds_range(&found.etag, found.modified_ms)
    };
    match (request.range.filter(meant), request.part_number) {
        (None, None) => Ok((0..found.size, false)),
        (Some(range), None) => Ok((range.resolve(found.size)?, true)),
        (None, Some(number)) => Ok((found.part_bytes(number)?, true)),
        (Some(_), Some(_)) => Err(OpError::InvalidRequest(
            "Cannot specify both Range header and partNumber query parameter".to_owned(),
        )),
    }
}

fn damaged(what: &'static str, bucket: BucketId, version: VersionId) -> OpError {
    tracing::error!(%bucket, %version, what, "a stored record does not open");
    OpError::Damaged(what)
}

/// Turns a failed read into the error that the reader gets.
pub(super) fn get_error(error: GetError) -> OpError {
    match error {
        GetError::Busy(busy) => busy.into(),
        GetError::Unavailable { .. } => OpError::Unavailable(Outage::Reads, error.to_string()),
        GetError::Unauthentic { .. } | GetError::Inconsistent { .. } => {
            tracing::error!(%error, "an object can't be read");
            OpError::Damaged("object bytes")
        }
        GetError::Range { .. } | GetError::Compute(_) => OpError::Internal(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_crypto::StreamIv;

    fn manifest(lengths: &[u64]) -> Manifest {
        let part = |(index, plain_len): (usize, &u64)| ManifestPart {
            number: index as u32 + 1,
            plain_len: *plain_len,
            blob: index as u64,
            iv: StreamIv([0; StreamIv::LEN]),
            checksums: Vec::new(),
            key: None,
        };
        Manifest {
            parts: lengths.iter().enumerate().map(part).collect(),
            ..Manifest::default()
        }
    }

    #[test]
    fn a_range_takes_only_the_parts_it_touches() {
        let three = manifest(&[10, 20, 30]);
        let check = |bytes, parts, inner| {
            assert_eq!(
                batches(&three, &bytes),
                [Batch {
                    parts,
                    bytes: inner
                }]
            );
        };
        check(0..60, 0..3, 0..60);
        check(9..11, 0..2, 9..11);
        check(10..11, 1..2, 0..1);
        check(15..60, 1..3, 5..50);
        check(59..60, 2..3, 29..30);
        assert!(batches(&three, &(0..0)).is_empty());
        assert!(batches(&manifest(&[0]), &(0..0)).is_empty());
    }

    #[test]
    fn batches_cover_a_range_once() {
        let many = manifest(&[7; 200]);
        for bytes in [0..1400, 5..1000, 447..449, 1399..1400] {
            let batches = batches(&many, &bytes);
            let mut next = bytes.start;
            for batch in &batches {
                let base = batch.parts.start as u64 * 7;
                assert_eq!(base + batch.bytes.start, next, "{bytes:?}");
                assert!(batch.parts.len() <= BATCH_PARTS);
                next = base + batch.bytes.end;
                assert!(next <= batch.parts.end as u64 * 7);
            }
            assert_eq!(next, bytes.end);
        }
    }
}
