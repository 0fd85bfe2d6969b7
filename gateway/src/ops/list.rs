//! Lists a bucket's keys, a page at a time.

use super::error::OpError;
use super::{Caller, Store};
use megalith_crypto::manifest::ChecksumType;
use megalith_crypto::{KeyRing, ListingContext, ListingEntry};
use megalith_model::ids::BucketId;
use megalith_model::query::ListedVersion;
use megalith_model::query::PAGE_ROWS_MAX;
use megalith_model::question;

/// Selects a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRequest {
    pub bucket: String,
    /// Only keys with this prefix.
    pub prefix: String,
    /// If not empty, keys are folded into common prefixes at this text.
    pub delimiter: String,
    /// Only keys strictly after this one.
    pub after: String,
    /// The most entries; more than 1,000 count as 1,000.
    pub max: u32,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    pub key: String,
    pub size: u64,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
    /// The ETag without quotes.
    pub etag: String,
    /// Names of its checksum algorithms.
    pub checksum_algorithms: Vec<String>,
    pub checksum_type: Option<ChecksumType>,
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOutput {
    /// Objects, ascending by the bytes of their keys.
    pub objects: Vec<ListedObject>,
    /// Common prefixes, ascending.
    pub common_prefixes: Vec<String>,
    /// The place after which the next page starts; None at the end.
    pub next: Option<String>,
}

impl Store {
    /// Lists a page of a bucket's keys.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::AccessDenied`]; [`OpError::Damaged`] if a row doesn't
    /// open: a listing never leaves out what it can't read.
    pub async fn list(&self, caller: Caller, request: ListRequest) -> Result<ListOutput, OpError> {
        let bucket = self.bucket_now(caller, &request.bucket).await?.row.id;
        let max = request.max.min(PAGE_ROWS_MAX);
        if max == 0 {
            return Ok(ListOutput::default());
        }
        let asked = question::List {
            bucket,
            prefix: request.prefix.into_bytes(),
            delimiter: request.delimiter.into_bytes(),
            after: request.after.into_bytes(),
            max,
        };
        let page = self.ask(asked).await?;
        let mut objects = Vec::with_capacity(page.entries.len());
        for (key, row) in page.entries {
            let ListedVersion {
                version,
                size,
                sealed_listing,
            } = row;
            let listed = ListingContext {
                key: &key,
                version: version.0,
                plain_len: size,
            };
            let entry = self.open_listing(bucket, listed, &sealed_listing).await?;
            let ListingEntry {
                etag,
                checksum_algorithms,
                checksum_type,
                ..
            } = entry;
            objects.push(ListedObject {
                key: text(key)?,
                size,
                modified_ms: version.time_ms(),
                etag,
                checksum_algorithms,
                checksum_type,
            });
        }
        Ok(ListOutput {
            objects,
            common_prefixes: page
                .common_prefixes
                .into_iter()
                .map(text)
                .collect::<Result<_, _>>()?,
            next: page.next.map(text).transpose()?,
        })
    }

    /// Opens what a listing shows of a version.
    pub(super) async fn open_listing(
        &self,
        bucket: BucketId,
        listed: ListingContext<'_>,
        sealed: &[u8],
    ) -> Result<ListingEntry, OpError> {
        let sealer = self.keys().listing(bucket).await?;
        if let Ok(entry) = sealer.open(listed, sealed) {
            return Ok(entry);
        }
        let open = |ring: &KeyRing| ring.listing(bucket.0).open(listed, sealed);
        Ok(self.keys().opened("list row", sealed, open).await?)
    }
}

/// Reads a key, which was UTF-8 when it was written. A delimiter is UTF-8 too, so it can cut a
/// common prefix only between characters.
pub(super) fn text(key: Vec<u8>) -> Result<String, OpError> {
    String::from_utf8(key).map_err(|_| OpError::Damaged("key"))
}
