//! Operations that list: objects, uploads, parts.

mod objects;
mod objects_v2;
mod parts;
mod uploads;

pub(super) use objects::ListObjects;
pub(super) use objects_v2::ListObjectsV2;
pub(super) use parts::ListParts;
pub(super) use uploads::ListMultipartUploads;

use super::edge::dates::iso;
use super::edge::xml::Xml;
use super::show::{Encoding, STANDARD, account, covers, quoted};
use crate::ops::{Caller, ListedObject};

/// Most entries of a page.
const PAGE_MAX: u32 = 1_000;

/// Writes a listed object.
fn object(xml: &mut Xml, object: &ListedObject, encoding: Encoding, owner: Option<Caller>) {
    xml.element("Contents", |xml| {
        for algorithm in &object.checksum_algorithms {
            xml.text("ChecksumAlgorithm", algorithm);
        }
        xml.text_if("ChecksumType", object.checksum_type.map(covers));
        xml.text("ETag", &quoted(&object.etag));
        xml.text("Key", &encoding.text(&object.key));
        xml.text("LastModified", &iso(object.modified_ms));
        if let Some(owner) = owner {
            account(xml, "Owner", owner);
        }
        xml.value("Size", object.size);
        xml.text("StorageClass", STANDARD);
    });
}

/// Writes common prefixes.
fn prefixes(xml: &mut Xml, prefixes: &[String], encoding: Encoding) {
    for prefix in prefixes {
        xml.element("CommonPrefixes", |xml| {
            xml.text("Prefix", &encoding.text(prefix));
        });
    }
}
