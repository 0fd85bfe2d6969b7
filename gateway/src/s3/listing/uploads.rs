//! Lists a bucket's uploads.

use super::{PAGE_MAX, prefixes};
use crate::ops::ListUploadsRequest;
use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::dates::iso;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{Chosen, On, Operation, Route, Takes};
use crate::s3::edge::xml::Xml;
use crate::s3::fields::count;
use crate::s3::show::{Encoding, STANDARD, account};
use http::Method;

/// Lists a bucket's uploads.
pub(in crate::s3) struct ListMultipartUploads {
    wish: ListUploadsRequest,
    encoding: Encoding,
}

impl Operation for ListMultipartUploads {
    const ROUTE: &'static Route = &Route {
        name: "ListMultipartUploads",
        method: Method::GET,
        on: On::Bucket,
        chosen_by: &[Chosen::Query("uploads")],
        query: &[
            "delimiter",
            "encoding-type",
            "key-marker",
            "max-uploads",
            "prefix",
            "upload-id-marker",
        ],
        headers: &[],
        takes: Takes::Nothing,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        let max = count(
            "max-uploads",
            request.parsed_query("max-uploads")?,
            PAGE_MAX,
        )?;
        let text = |name| Ok::<_, S3Error>(request.query_text(name)?.unwrap_or_default());
        Ok(Self {
            wish: ListUploadsRequest {
                bucket: request.bucket(),
                prefix: text("prefix")?,
                delimiter: text("delimiter")?,
                key_marker: text("key-marker")?,
                upload_marker: text("upload-id-marker")?,
                max: max.min(PAGE_MAX),
            },
            encoding: Encoding::parse(request.query("encoding-type")?)?,
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let Self { wish, encoding } = self;
        let caller = granted.caller();
        let page = core.store.list_uploads(caller, wish.clone()).await?;
        let folded = !wish.delimiter.is_empty();
        let delimiter = folded.then(|| encoding.text(&wish.delimiter));
        Ok(Answer::xml(Xml::document(
            "ListMultipartUploadsResult",
            |xml| {
                xml.text("Bucket", &wish.bucket);
                prefixes(xml, &page.common_prefixes, encoding);
                xml.text_if("Delimiter", delimiter);
                encoding.show(xml);
                xml.value("IsTruncated", page.next.is_some());
                xml.text("KeyMarker", &encoding.text(&wish.key_marker));
                xml.value("MaxUploads", wish.max);
                if let Some((key, upload)) = &page.next {
                    xml.text("NextKeyMarker", &encoding.text(key));
                    xml.text_if("NextUploadIdMarker", upload.as_deref());
                }
                xml.text("Prefix", &encoding.text(&wish.prefix));
                xml.text("UploadIdMarker", &wish.upload_marker);
                for upload in &page.uploads {
                    xml.element("Upload", |xml| {
                        xml.text("Initiated", &iso(upload.created_ms));
                        account(xml, "Initiator", caller);
                        xml.text("Key", &encoding.text(&upload.key));
                        account(xml, "Owner", caller);
                        xml.text("StorageClass", STANDARD);
                        xml.text("UploadId", &upload.upload);
                    });
                }
            },
        )))
    }
}
