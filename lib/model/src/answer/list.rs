//! Listings of keys and of uploads. A page costs its rows and one jump for each common prefix,
//! however many keys a prefix folds.

use super::fold::{Next, folded, scan};
use super::{misplaced, page_rows, parsed};
use crate::ids::UploadId;
use crate::keys::{self, KeyRange, RowKey};
use crate::machine::{MachineError, decode_row};
use crate::query::{ListedVersion, Listing, UploadListing};
use crate::question;
use crate::rows::{UploadPlace, UploadRow, VersionRow};
use crate::table::Rows;
use std::borrow::Cow;

/// A page of keys. Delete markers are not shown and fold into nothing.
pub(super) fn list(rows: &dyn Rows, query: &question::List) -> Result<Listing, MachineError> {
    let mut listing = Listing::default();
    let max = page_rows(query.max);
    if max == 0 {
        return Ok(listing);
    }
    let bucket = query.bucket;
    let behind = |prefix: &[u8]| keys::names(bucket, prefix).to;
    let mut last: Option<Vec<u8>> = None;
    scan(rows, names_after(query), &mut |key, value| {
        let row: VersionRow = decode_row(key, value)?;
        if row.delete_marker {
            return Ok(Next::On);
        }
        if listing.entries.len() + listing.common_prefixes.len() == max {
            listing.next = last.take();
            return Ok(Next::Stop);
        }
        let RowKey::Name { key, .. } = parsed(key)? else {
            return Err(misplaced());
        };
        match folded(&query.prefix, &query.delimiter, &key) {
            Some(common) => {
                last = Some(common.to_vec());
                listing.common_prefixes.push(common.to_vec());
                Ok(Next::Jump(behind(common)))
            }
            None => {
                last = Some(key.to_vec());
                let version = ListedVersion {
                    version: row.version,
                    size: row.size,
                    sealed_listing: row.sealed_listing,
                };
                listing.entries.push((key.into_owned(), version));
                Ok(Next::On)
            }
        }
    })?;
    Ok(listing)
}

/// The range that a page of keys is taken from.
fn names_after(query: &question::List) -> KeyRange {
    let range = keys::names(query.bucket, &query.prefix);
    if query.after.is_empty() {
        return range;
    }
    match folded(&query.prefix, &query.delimiter, &query.after) {
        Some(common) => KeyRange {
            from: keys::names(query.bucket, common).to,
            to: range.to,
        },
        None => {
            let after = RowKey::Name {
                bucket: query.bucket,
                key: Cow::Borrowed(&query.after),
            };
            range.after(after.encode())
        }
    }
}

/// A page of uploads, by key, then upload id.
pub(super) fn uploads(
    rows: &dyn Rows,
    query: &question::Uploads,
) -> Result<UploadListing, MachineError> {
    let mut listing = UploadListing::default();
    let max = page_rows(query.max);
    if max == 0 {
        return Ok(listing);
    }
    let mut last: Option<UploadPlace> = None;
    scan(rows, uploads_after(query), &mut |key, value| {
        if listing.uploads.len() + listing.common_prefixes.len() == max {
            listing.next = last.take();
            return Ok(Next::Stop);
        }
        decode_row::<UploadRow>(key, value)?;
        let RowKey::Upload { key, upload, .. } = parsed(key)? else {
            return Err(misplaced());
        };
        match folded(&query.prefix, &query.delimiter, &key) {
            Some(common) => {
                last = Some(UploadPlace {
                    key: common.to_vec(),
                    upload: UploadId([0xff; 16]),
                });
                listing.common_prefixes.push(common.to_vec());
                Ok(Next::Jump(keys::uploads(query.bucket, common).to))
            }
            None => {
                let key = key.into_owned();
                let place = UploadPlace { key, upload };
                last = Some(place.clone());
                listing.uploads.push(place);
                Ok(Next::On)
            }
        }
    })?;
    Ok(listing)
}

fn uploads_after(query: &question::Uploads) -> KeyRange {
    let range = keys::uploads(query.bucket, &query.prefix);
    let Some(after) = &query.after else {
        return range;
    };
    match folded(&query.prefix, &query.delimiter, &after.key) {
        Some(common) => KeyRange {
            from: keys::uploads(query.bucket, common).to,
            to: range.to,
        },
        None => {
            let place = RowKey::Upload {
                bucket: query.bucket,
                key: Cow::Borrowed(&after.key),
                upload: after.upload,
            };
            range.after(place.encode())
        }
    }
}
