//! Lists an upload's parts, and a bucket's uploads.

use super::{Opened, UploadName, parse_upload};
use crate::ops::checksum::Algorithm;
use crate::ops::error::OpError;
use crate::ops::list::text;
use crate::ops::{Caller, Store};
use megalith_crypto::manifest::{Checksum, ChecksumType};
use megalith_crypto::{PartContext, PartManifest};
use megalith_model::ids::UploadId;
use megalith_model::query::{PAGE_ROWS_MAX, PartPage};
use megalith_model::question;
use megalith_model::rows::{PartRow, UploadPlace};

/// Comes after all uploads of a key.
const AFTER_ALL: UploadId = UploadId([0xff; 16]);

/// A part as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPart {
    pub number: u32,
    pub size: u64,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
    /// The ETag without quotes.
    pub etag: String,
    pub checksums: Vec<Checksum>,
}

/// A page of parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPartsOutput {
    pub parts: Vec<ListedPart>,
    pub truncated: bool,
    /// The checksum that the upload requires.
    pub checksum: Option<(Algorithm, ChecksumType)>,
}

/// Selects a page of uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListUploadsRequest {
    pub bucket: String,
    /// Only keys with this prefix.
    pub prefix: String,
    /// If not empty, keys are folded into common prefixes at this text.
    pub delimiter: String,
    /// Only keys after this one.
    pub key_marker: String,
    /// With `key_marker`: uploads of that key after this one.
    pub upload_marker: String,
    /// The most entries; more than 1,000 count as 1,000.
    pub max: u32,
}

/// An upload as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUpload {
    pub key: String,
    /// Its id, as clients see it.
    pub upload: String,
    /// When it was begun, in milliseconds since 1970.
    pub created_ms: u64,
}

/// A page of uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListUploadsOutput {
    /// By key, then age.
    pub uploads: Vec<ListedUpload>,
    /// Common prefixes, ascending.
    pub common_prefixes: Vec<String>,
    /// (key, upload) after which the next page starts; None at the end. No upload: after all of
    /// that key.
    pub next: Option<(String, Option<String>)>,
}

impl Store {
    /// Lists a page of an upload's parts.
    ///
    /// # Errors
    /// [`OpError::NoSuchUpload`].
    pub async fn list_parts(
        &self,
        caller: Caller,
        name: &UploadName,
        after: u32,
        max: u32,
    ) -> Result<ListPartsOutput, OpError> {
        let opened = self.open_upload(caller, name).await?;
        let checksum = opened.checksum;
        let max = max.min(PAGE_ROWS_MAX);
        if max == 0 {
            return Ok(ListPartsOutput {
                parts: Vec::new(),
                truncated: false,
                checksum,
            });
        }
        let page = self.part_rows(&opened, after, max).await?;
        if page.parts.is_empty() {
            // The list is also empty if the upload has ended since it was opened.
            self.open_upload(caller, name).await?;
        }
        let mut parts = Vec::with_capacity(page.parts.len());
        for (number, row) in page.parts {
            let manifest = self.open_part(&opened, number, &row)?;
            parts.push(ListedPart {
                number,
                size: row.size,
                modified_ms: manifest.written_ms,
                etag: hex::encode(manifest.md5),
                checksums: manifest.checksums,
            });
        }
        Ok(ListPartsOutput {
            parts,
            truncated: page.truncated,
            checksum,
        })
    }

    /// Lists a page of a bucket's uploads.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::AccessDenied`].
    pub async fn list_uploads(
        &self,
        caller: Caller,
        request: ListUploadsRequest,
    ) -> Result<ListUploadsOutput, OpError> {
        let bucket = self.bucket_now(caller, &request.bucket).await?.row.id;
        let max = request.max.min(PAGE_ROWS_MAX);
        if max == 0 {
            return Ok(ListUploadsOutput::default());
        }
        let after =
            match (
                request.key_marker.is_empty(),
                request.upload_marker.is_empty(),
            ) {
                (true, _) => None,
                // Without an upload marker, the page starts after all uploads of the marked key.
                (false, true) => Some(AFTER_ALL),
                (false, false) => {
                    let marker = parse_upload(&request.upload_marker);
                    Some(marker.map_err(|_| {
                        OpError::InvalidArgument("Invalid uploadId marker".to_owned())
                    })?)
                }
            };
        let asked = question::Uploads {
            bucket,
            prefix: request.prefix.into_bytes(),
            delimiter: request.delimiter.into_bytes(),
            after: after.map(|upload| UploadPlace {
                key: request.key_marker.into_bytes(),
                upload,
            }),
            max,
        };
        let page = self.ask(asked).await?;
        let listed = |place: UploadPlace| {
            Ok(ListedUpload {
                key: text(place.key)?,
                upload: place.upload.to_string(),
                created_ms: place.upload.time_ms(),
            })
        };
        let place = |place: UploadPlace| {
            let upload = (place.upload != AFTER_ALL).then(|| place.upload.to_string());
            Ok::<_, OpError>((text(place.key)?, upload))
        };
        let next = page.next.map(place).transpose()?;
        Ok(ListUploadsOutput {
            uploads: page
                .uploads
                .into_iter()
                .map(listed)
                .collect::<Result<_, OpError>>()?,
            common_prefixes: page
                .common_prefixes
                .into_iter()
                .map(text)
                .collect::<Result<_, _>>()?,
            next,
        })
    }

    pub(super) async fn part_rows(
        &self,
        opened: &Opened,
        after: u32,
        max: u32,
    ) -> Result<PartPage, OpError> {
        let asked = question::Parts {
            upload: opened.upload,
            after,
            max,
        };
        self.ask(asked).await
    }

    /// Opens a part's manifest and checks that it agrees with its row.
    pub(super) fn open_part(
        &self,
        opened: &Opened,
        number: u32,
        row: &PartRow,
    ) -> Result<PartManifest, OpError> {
        let context = PartContext {
            upload: self.upload_context(opened.bucket, &opened.key, opened.upload),
            number,
        };
        let manifest = PartManifest::open(&opened.data_key, &context, &row.sealed_part)
            .map_err(|_| OpError::Damaged("part"))?;
        if manifest.plain_len == row.size && manifest.blob == row.blob.0 {
            Ok(manifest)
        } else {
            Err(OpError::Damaged("part"))
        }
    }
}
