//! Uploads a part: from a body, or from bytes of another object.

use super::{Opened, UploadName, check_part_number};
use crate::ops::checksum::{Claims, Computed};
use crate::ops::copy::CopySource;
use crate::ops::error::OpError;
use crate::ops::get::get_error;
use crate::ops::put::{plain_len, sealed_checksums};
use crate::ops::range::RangeWish;
use crate::ops::write::{Body, BodyError, CheckedBlob, Writing};
use crate::ops::{Caller, Rejection, Store};
use futures::{StreamExt, TryStreamExt};
use megalith_blobs::Pieces;
use megalith_crypto::manifest::Checksum;
use megalith_crypto::{PartContext, PartManifest};
use megalith_model::command::Command;
use std::sync::Arc;

/// A part to upload.
pub struct PartRequest {
    pub name: UploadName,
    /// Its number, as the client wrote it.
    pub number: i64,
    pub body: Body,
}

/// A part to copy from another object.
#[derive(Clone, Debug)]
pub struct PartCopyRequest {
    pub name: UploadName,
    /// Its number, as the client wrote it.
    pub number: i64,
    pub source: CopySource,
    /// `x-amz-copy-source-range`, as the client wrote it.
    pub range: Option<String>,
}

/// A part that has been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartOutput {
    /// The ETag without quotes.
    pub etag: String,
    /// The checksums that were computed.
    pub checksums: Vec<Checksum>,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
}

impl Store {
    /// Uploads a part, replacing one with the same number.
    ///
    /// # Errors
    /// See [`OpError`].
    pub async fn put_part(
        &self,
        caller: Caller,
        request: PartRequest,
    ) -> Result<PartOutput, OpError> {
        let number = check_part_number(request.number)?;
        let opened = self.open_upload(caller, &request.name).await?;
        self.write_part(caller, &opened, number, request.body).await
    }

    /// Uploads a part with bytes of another object, which are sealed again.
    ///
    /// # Errors
    /// See [`OpError`].
    pub async fn copy_part(
        &self,
        caller: Caller,
        request: &PartCopyRequest,
    ) -> Result<PartOutput, OpError> {
        let number = check_part_number(request.number)?;
        let opened = self.open_upload(caller, &request.name).await?;
        let mut found = request.source.find(self, caller, true).await?;
        found.copied_in = Some(Arc::new(self.blobs().reserve_copy(caller.payer()).await?));
        let bytes = match &request.range {
            Some(text) => RangeWish::parse_copy(text, found.size)?,
            None => 0..found.size,
        };
        let len = bytes.end - bytes.start;
        let plaintext = self.read(&found, bytes).await.map_err(get_error)?;
        let source: Pieces = plaintext
            .map_err(|error| {
                tracing::warn!(%error, "the source of a copied part can't be read");
                BodyError::SourceUnreadable
            })
            .boxed();
        let body = Body {
            source,
            len,
            claims: Claims::default(),
            trailer: None,
            wanted: Vec::new(),
            copied: true,
        };
        self.write_part(caller, &opened, number, body).await
    }

    async fn write_part(
        &self,
        caller: Caller,
        opened: &Opened,
        number: u32,
        mut body: Body,
    ) -> Result<PartOutput, OpError> {
        if let Some((wanted, _)) = opened.checksum {
            let announced = body
                .trailer
                .iter()
                .flat_map(|trailer| trailer.algorithms.iter());
            let claimed = body.claims.checksums.iter().map(|value| &value.algorithm);
            if let Some(other) = claimed.chain(announced).find(|given| **given != wanted) {
                return Err(OpError::InvalidRequest(format!(
                    "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum \
                     Type: {}",
                    wanted.name(),
                    other.name()
                )));
            }
        }
        // The object's checksum is computed from those of all parts, whatever their senders claim.
        body.wanted
            .extend(opened.checksum.map(|(algorithm, _)| algorithm));
        let mut writing = self.take_body(caller, body).await?;
        loop {
            match self.write_part_once(opened, number, &mut writing).await {
                Ok(output) => return Ok(output),
                Err(rejection) => writing.again(rejection)?,
            }
        }
    }

    async fn write_part_once(
        &self,
        opened: &Opened,
        number: u32,
        writing: &mut Writing,
    ) -> Result<PartOutput, Rejection> {
        let CheckedBlob {
            id,
            blob,
            iv,
            computed,
        } = self.write(writing, &opened.data_key, number).await?;
        let Computed { md5, .. } = computed;
        let checksums = sealed_checksums(&computed);
        let size = plain_len(&blob).map_err(Rejection::Failed)?;
        let context = PartContext {
            upload: self.upload_context(opened.bucket, &opened.key, opened.upload),
            number,
        };
        let written = self.timed(async |written_ms| {
            let manifest = PartManifest {
                plain_len: size,
                written_ms,
                blob: blob.blob.0,
                iv,
                md5,
                checksums: checksums.clone(),
            };
            let sealed_part = manifest
                .seal(&opened.data_key, &context)
                .map_err(|error| Rejection::Failed(OpError::sealing(error)))?;
            let command = Command::PutPart {
                bucket: opened.bucket,
                key: opened.key.as_bytes().to_vec(),
                upload: opened.upload,
                part: number,
                size,
                written_ms,
                sealed_part,
                blob: blob.clone(),
            };
            self.propose(&id, command).await?;
            Ok(written_ms)
        });
        let modified_ms = written.await?;
        Ok(PartOutput {
            etag: hex::encode(md5),
            checksums,
            modified_ms,
        })
    }
}
