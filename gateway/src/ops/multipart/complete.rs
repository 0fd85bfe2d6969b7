//! Completes an upload: one command links its parts. No byte is copied.

use super::{Opened, PARTS_MAX, UploadName, parse_upload};
use crate::ops::checksum::{Algorithm, Value, compose, multipart_etag};
use crate::ops::conditions::WriteConditions;
use crate::ops::error::OpError;
use crate::ops::ids::{came_from, version_of_upload};
use crate::ops::put::{NewVersion, ObjectName};
use crate::ops::{Caller, Rejection, Store};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use megalith_blobs::LeasedId;
use megalith_crypto::manifest::{Checksum, ChecksumType};
use megalith_crypto::{Manifest, ManifestPart, PartManifest};
use megalith_model::command::{Command, Condition, ObjectBlobs, PutObject, Refusal};
use megalith_model::ids::BlobId;
use megalith_model::query::PAGE_ROWS_MAX;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The fewest bytes of a part that is not the last one: 5 MiB.
pub const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// The most bytes of an object: 5 TiB, as in S3.
pub const OBJECT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024 * 1024;
/// How often parts are looked up, if one is replaced meanwhile or the upload has ended.
const TRIES_MAX: usize = 2;

/// A part as a completion names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPart {
    /// Its number, as the client wrote it.
    pub number: i64,
    /// The ETag without quotes.
    pub etag: String,
    /// Its checksums, as far as the client gives them.
    pub checksums: Vec<Value>,
}

/// An upload to complete.
#[derive(Clone, Debug)]
pub struct CompleteRequest {
    pub name: UploadName,
    /// Its parts, in order.
    pub parts: Vec<NamedPart>,
    /// On which conditions to write the object.
    pub conditions: WriteConditions,
    /// The object's checksums in S3's spelling, if the client gives them.
    pub checksums: Vec<(Algorithm, String)>,
    /// What those checksums cover, according to the client.
    pub checksum_type: Option<ChecksumType>,
    /// The object's size in bytes, if the client gives it.
    pub size: Option<u64>,
}

/// A completed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteOutput {
    /// The ETag without quotes.
    pub etag: String,
    pub checksums: Vec<Checksum>,
}

impl Store {
    /// Completes an upload. Repeating a completion that succeeded succeeds again.
    ///
    /// # Errors
    /// See [`OpError`].
    pub async fn complete_upload(
        &self,
        caller: Caller,
        request: &CompleteRequest,
    ) -> Result<CompleteOutput, OpError> {
        let numbers = check_order(&request.parts)?;
        let wish = request.conditions.clone().wish()?;
        for _ in 0..TRIES_MAX {
            let opened = match self.open_upload(caller, &request.name).await {
                Err(OpError::NoSuchUpload) => return self.completed(caller, request).await,
                other => other?,
            };
            let name = ObjectName {
                bucket: opened.bucket,
                key: &opened.key,
            };
            let first = self.condition(name, &wish).await?;
            let parts = match self.named_parts(&opened, &numbers, &request.parts).await {
                // If the upload ended during the look-up, it has no parts any more: look again.
                Err(OpError::InvalidPart) => continue,
                other => other?,
            };
            let md5s: Vec<[u8; 16]> = parts.iter().map(|(_, part)| part.md5).collect();
            let etag = multipart_etag(&md5s);
            let manifest = manifest(&opened, parts, request)?;
            let linked: Vec<(u32, BlobId)> = manifest
                .parts
                .iter()
                .map(|part| (part.number, BlobId(part.blob)))
                .collect();
            let completed = self.with_key(async |id: Arc<LeasedId>| {
                let timed = self.timed(async |time_ms| {
                    let new = NewVersion {
                        object: name,
                        version: version_of_upload(time_ms, opened.upload),
                        etag: &etag,
                    };
                    let object = self.seal(new, &opened.data_key, &manifest, ObjectBlobs::Parts);
                    let object = object.await.map_err(Rejection::Failed)?;
                    let command = |condition: Condition| Command::CompleteUpload {
                        upload: opened.upload,
                        parts: linked.clone(),
                        object: Box::new(PutObject {
                            condition,
                            ..object.clone()
                        }),
                    };
                    self.commit(&id, name, &wish, first, command).await
                });
                timed.await
            });
            match completed.await {
                Ok(()) => {
                    let checksums = manifest.checksums;
                    return Ok(CompleteOutput { etag, checksums });
                }
                // Replaced meanwhile, or completed by another request: look again.
                Err(Rejection::Refused(Refusal::NoSuchPart(_) | Refusal::NoSuchUpload)) => {}
                Err(rejection) => return Err(rejection.into()),
            }
        }
        Err(OpError::InvalidPart)
    }

    /// Answers a completion whose upload is gone: an earlier try may have completed it.
    async fn completed(
        &self,
        caller: Caller,
        request: &CompleteRequest,
    ) -> Result<CompleteOutput, OpError> {
        let upload = parse_upload(&request.name.upload)?;
        let lookup = crate::ops::GetRequest {
            bucket: request.name.bucket.clone(),
            key: request.name.key.clone(),
            ..Default::default()
        };
        let found = match self
            .find(caller, &request.name.bucket, &lookup, false)
            .await
        {
            Err(OpError::NoSuchKey) => return Err(OpError::NoSuchUpload),
            other => other?,
        };
        let linked = found
            .manifest
            .parts
            .iter()
            .map(|part| i64::from(part.number));
        let named = request.parts.iter().map(|part| part.number);
        let same_parts =
            linked.eq(named) && named_etag(&request.parts).as_ref() == Some(&found.etag);
        if came_from(found.version, upload) && same_parts {
            return Ok(CompleteOutput {
                etag: found.etag,
                checksums: found.manifest.checksums.clone(),
            });
        }
        Err(OpError::NoSuchUpload)
    }

    /// Finds the parts that a completion names, and checks them against its claims.
    async fn named_parts(
        &self,
        opened: &Opened,
        numbers: &[u32],
        named: &[NamedPart],
    ) -> Result<Vec<(u32, PartManifest)>, OpError> {
        let mut rows = BTreeMap::new();
        let mut after = 0;
        loop {
            let page = self.part_rows(opened, after, PAGE_ROWS_MAX).await?;
            after = page.parts.last().map_or(after, |(number, _)| *number);
            rows.extend(page.parts);
            if !page.truncated {
                break;
            }
        }
        let last = numbers.len() - 1;
        let mut parts = Vec::with_capacity(numbers.len());
        for (index, (number, named)) in numbers.iter().zip(named).enumerate() {
            let row = rows.get(number).ok_or(OpError::InvalidPart)?;
            let manifest = self.open_part(opened, *number, row)?;
            if !named.etag.eq_ignore_ascii_case(&hex::encode(manifest.md5)) {
                return Err(OpError::InvalidPart);
            }
            let known = |value: &Value| manifest.checksums.contains(&value.sealed());
            if !named.checksums.iter().all(known) {
                return Err(OpError::InvalidPart);
            }
            if index < last && manifest.plain_len < PART_BYTES_MIN {
                return Err(OpError::EntityTooSmall {
                    part: *number,
                    size: manifest.plain_len,
                });
            }
            parts.push((*number, manifest));
        }
        Ok(parts)
    }
}

/// Returns the ETag of an object of these parts; None if one of their ETags is no MD5.
fn named_etag(parts: &[NamedPart]) -> Option<String> {
    let md5 = |part: &NamedPart| {
        let mut md5 = [0; 16];
        hex::decode_to_slice(&part.etag, &mut md5).ok()?;
        Some(md5)
    };
    let md5s: Option<Vec<[u8; 16]>> = parts.iter().map(md5).collect();
    Some(multipart_etag(&md5s?))
}

/// Checks that part numbers are valid and rise.
fn check_order(parts: &[NamedPart]) -> Result<Vec<u32>, OpError> {
    if parts.is_empty() {
        return Err(OpError::InvalidRequest(
            "You must specify at least one part".to_owned(),
        ));
    }
    let valid = |part: &NamedPart| {
        u32::try_from(part.number)
            .ok()
            .filter(|number| (1..=PARTS_MAX).contains(number))
    };
    let numbers: Vec<u32> = parts
        .iter()
        .map(valid)
        .collect::<Option<_>>()
        .ok_or(OpError::InvalidPart)?;
    if numbers.is_sorted_by(|before, after| before < after) {
        Ok(numbers)
    } else {
        Err(OpError::InvalidPartOrder)
    }
}

/// Builds the object's manifest and checks the client's claims about the whole object.
fn manifest(
    opened: &Opened,
    parts: Vec<(u32, PartManifest)>,
    request: &CompleteRequest,
) -> Result<Manifest, OpError> {
    let checksum = opened
        .checksum
        .map(|(algorithm, covers)| whole(algorithm, covers, &parts))
        .transpose()?;
    let link = |(number, part): (u32, PartManifest)| ManifestPart {
        number,
        plain_len: part.plain_len,
        blob: part.blob,
        iv: part.iv,
        checksums: part.checksums,
        key: None,
    };
    let manifest = Manifest {
        parts: parts.into_iter().map(link).collect(),
        checksums: checksum.into_iter().collect(),
        headers: opened.headers.clone(),
        user_metadata: opened.user_metadata.clone(),
        tags: Vec::new(),
    };
    let size = manifest.total_len().ok_or(OpError::EntityTooLarge)?;
    if size > OBJECT_BYTES_MAX {
        return Err(OpError::EntityTooLarge);
    }
    if request.size.is_some_and(|claimed| claimed != size) {
        return Err(OpError::InvalidRequest(
            "The provided 'x-amz-mp-object-size' header does not match the object's size."
                .to_owned(),
        ));
    }
    check_whole(&manifest.checksums, request)?;
    Ok(manifest)
}

/// Computes the object's checksum from those of its parts.
fn whole(
    algorithm: Algorithm,
    covers: ChecksumType,
    parts: &[(u32, PartManifest)],
) -> Result<Checksum, OpError> {
    let value = |(_, part): &(u32, PartManifest)| {
        let found = part
            .checksums
            .iter()
            .find(|sum| sum.algorithm == algorithm.name())?;
        Some((STANDARD.decode(&found.value).ok()?, part.plain_len))
    };
    let values: Vec<(Vec<u8>, u64)> = parts
        .iter()
        .map(value)
        .collect::<Option<_>>()
        .ok_or(OpError::Damaged("part"))?;
    compose(algorithm, covers, &values)
}

fn check_whole(checksums: &[Checksum], request: &CompleteRequest) -> Result<(), OpError> {
    let covers = checksums.first().map(|checksum| checksum.covers);
    if request.checksum_type.is_some() && request.checksum_type != covers {
        return Err(OpError::InvalidRequest(
            "The upload was created with another checksum type.".to_owned(),
        ));
    }
    for (algorithm, claimed) in &request.checksums {
        // A composite value may be given with or without its count of parts.
        let holds = checksums.iter().any(|checksum| {
            let bare = checksum.value.split_once('-').map(|(value, _)| value);
            checksum.algorithm == algorithm.name()
                && (checksum.value == *claimed || bare == Some(claimed))
        });
        if !holds {
            return Err(OpError::BadDigest(algorithm.name()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(numbers: &[i64]) -> Vec<NamedPart> {
        let part = |number: &i64| NamedPart {
            number: *number,
            etag: String::new(),
            checksums: Vec::new(),
        };
        numbers.iter().map(part).collect()
    }

    #[test]
    fn parts_must_rise() {
        assert_eq!(
            check_order(&named(&[1, 3, 10_000])).unwrap(),
            [1, 3, 10_000]
        );
        assert!(matches!(
            check_order(&named(&[2, 1])),
            Err(OpError::InvalidPartOrder)
        ));
        assert!(matches!(
            check_order(&named(&[1, 1])),
            Err(OpError::InvalidPartOrder)
        ));
        assert!(matches!(
            check_order(&named(&[0])),
            Err(OpError::InvalidPart)
        ));
        assert!(matches!(
            check_order(&named(&[10_001])),
            Err(OpError::InvalidPart)
        ));
        assert!(matches!(
            check_order(&named(&[])),
            Err(OpError::InvalidRequest(_))
        ));
    }
}
