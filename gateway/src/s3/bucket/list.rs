//! Lists the caller's buckets.

use crate::s3::edge::Core;
use crate::s3::edge::answer::Answer;
use crate::s3::edge::authorise::Granted;
use crate::s3::edge::dates::iso;
use crate::s3::edge::error::S3Error;
use crate::s3::edge::request::Request;
use crate::s3::edge::route::{On, Operation, Route, Takes};
use crate::s3::edge::xml::Xml;
use crate::s3::show::account;
use http::Method;

const BUCKETS_MAX: i32 = 10_000;

/// Lists the caller's buckets.
pub(in crate::s3) struct ListBuckets {
    prefix: Option<String>,
    after: String,
    max: usize,
}

impl Operation for ListBuckets {
    const ROUTE: &'static Route = &Route {
        name: "ListBuckets",
        method: Method::GET,
        on: On::Service,
        chosen_by: &[],
        query: &[
            "bucket-region",
            "continuation-token",
            "max-buckets",
            "prefix",
        ],
        headers: &[],
        takes: Takes::Nothing,
    };

    fn read(request: &mut Request) -> Result<Self, S3Error> {
        let max: i32 = request.parsed_query("max-buckets")?.unwrap_or(BUCKETS_MAX);
        let max = usize::try_from(max).ok();
        let max = max.filter(|max| (1..=BUCKETS_MAX as usize).contains(max));
        Ok(Self {
            prefix: request.query_text("prefix")?,
            after: request
                .query_text("continuation-token")?
                .unwrap_or_default(),
            max: max.ok_or_else(|| {
                let text = "Argument max-buckets must be an integer between 1 and 10000";
                S3Error::invalid_argument(text)
            })?,
        })
    }

    async fn serve(self, granted: Granted, core: &Core) -> Result<Answer, S3Error> {
        let Self { prefix, after, max } = self;
        let caller = granted.caller();
        let starting = prefix.as_deref().unwrap_or_default();
        let page = core
            .store
            .list_buckets(caller, starting, &after, max)
            .await?;
        Ok(Answer::xml(Xml::document(
            "ListAllMyBucketsResult",
            |xml| {
                xml.element("Buckets", |xml| {
                    for row in &page.buckets {
                        xml.element("Bucket", |xml| {
                            xml.text("BucketRegion", &core.region);
                            xml.text("CreationDate", &iso(row.created_ms));
                            xml.text("Name", &row.name);
                        });
                    }
                });
                xml.text_if("ContinuationToken", page.next.as_deref());
                account(xml, "Owner", caller);
                xml.text_if("Prefix", prefix.as_deref());
            },
        )))
    }
}
