//! Turns an upload's parts into an object.

use crate::ops::checksum::{Algorithm, Value};
use crate::ops::{CompleteRequest, NamedPart, OpError};
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::error::{Code, S3Error};
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, Field, On, Operation, Route, Takes};
use crate::s3::edge::xml::{Malformed, Reader, Xml};
use crate::s3::fields::{
    CHECKSUMS, CUSTOMER_KEYS, WRITE_CONDITIONS, checksum_texts, covers, document_etag, upload_name,
    write_conditions,
};
use crate::s3::show::{ENCRYPTION, X_AMZ_ENCRYPTION, checksum_type, checksums, quoted};
use http::Method;

const OWN: &[Field] = &[
    Field::Reads("x-amz-checksum-type"),
    Field::Reads("x-amz-mp-object-size"),
];

/// Turns an upload's parts into an object.
pub(in crate::s3) struct CompleteMultipartUpload {
    complete: CompleteRequest,
    /// The object's URL.
    location: String,
}

impl Operation for CompleteMultipartUpload {
    const ROUTE: &'static Route = &Route {
        name: "CompleteMultipartUpload",
        method: Method::POST,
        on: On::Object,
        chosen_by: &[Chosen::Query("uploadId")],
        query: &[],
        headers: &[CUSTOMER_KEYS, CHECKSUMS, WRITE_CONDITIONS, OWN],
        takes: Takes::XmlOfObject,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        Ok(Self {
            location: request.url(),
            complete: CompleteRequest {
                name: upload_name(request)?,
                parts: parts(request.document())?,
                conditions: write_conditions(request)?,
                checksums: checksum_texts(request)?,
                checksum_type: covers(request)?,
                size: request.parsed_header("x-amz-mp-object-size")?,
            },
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let name = &self.complete.name;
        let completed = core.store.complete_upload(granted.caller(), &self.complete);
        let written = completed.await?;
        let document = Xml::document("CompleteMultipartUploadResult", |xml| {
            xml.text("Bucket", &name.bucket);
            checksums(xml, &written.checksums);
            checksum_type(xml, &written.checksums);
            xml.text("ETag", &quoted(&written.etag));
            xml.text("Key", &name.key);
            xml.text("Location", &self.location);
        });
        Ok(Answer::xml(document).header(X_AMZ_ENCRYPTION, ENCRYPTION))
    }
}

/// A part as the document names it.
#[derive(Default)]
struct Named {
    number: Option<String>,
    etag: Option<String>,
    checksums: Vec<(Algorithm, String)>,
    /// The name of a checksum that we don't know.
    foreign: Option<String>,
}

/// Reads `<CompleteMultipartUpload>`.
pub(in crate::s3) fn parts(document: &[u8]) -> Result<Vec<NamedPart>, S3Error> {
    let mut found = Vec::new();
    Reader::document(
        document,
        "CompleteMultipartUpload",
        |reader, name| match name {
            "Part" => {
                found.push(part(reader)?);
                Ok(())
            }
            _ => reader.skip(),
        },
    )?;
    if found.is_empty() {
        return Err(Code::MalformedXml.into());
    }
    found.into_iter().map(named_part).collect()
}

fn part(reader: &mut Reader<'_>) -> Result<Named, Malformed> {
    let mut named = Named::default();
    reader.children(|reader, name| {
        let checksum = name.strip_prefix("Checksum");
        let algorithm = checksum.and_then(Algorithm::parse);
        if algorithm.is_none() && named.foreign.is_none() {
            named.foreign = checksum.map(str::to_owned);
        }
        match (name, algorithm) {
            ("PartNumber", _) => reader.text_into(&mut named.number),
            ("ETag", _) => reader.text_into(&mut named.etag),
            (_, Some(algorithm)) => {
                named.checksums.push((algorithm, reader.text()?));
                Ok(())
            }
            (_, None) => reader.skip(),
        }
    })?;
    Ok(named)
}

fn named_part(named: Named) -> Result<NamedPart, S3Error> {
    let Named {
        number,
        etag,
        checksums,
        foreign,
    } = named;
    if let Some(name) = foreign {
        return Err(S3Error::unsupported_checksum(&name));
    }
    let malformed = || S3Error::from(Code::MalformedXml);
    let number = number.and_then(|text| text.trim().parse::<i32>().ok());
    let etag = etag.as_deref().map(str::trim).and_then(document_etag);
    let values = checksums
        .into_iter()
        .map(|(algorithm, text)| Value::parse(algorithm, &text));
    Ok(NamedPart {
        number: number.map(i64::from).ok_or_else(malformed)?,
        etag: etag.ok_or_else(malformed)?,
        checksums: values.collect::<Result<_, OpError>>()?,
    })
}
