//! A gateway that reckons the group's time wrong: the group refuses it, and the right one is
//! sealed.

use super::client::call;
use super::with_bucket;
use std::sync::atomic::Ordering;

const TEN_MINUTES_MS: u64 = 600_000;
/// The group's time in these tests, as HTTP and as XML show it.
const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
const ISO: &str = "2023-11-14T22:13:20.000Z";

#[tokio::test]
async fn everything_that_is_written_has_the_groups_time() {
    let world = with_bucket().await;
    world.meta.ahead_ms.store(TEN_MINUTES_MS, Ordering::Relaxed);
    let put = call("PUT", "/box/a").body("bytes").send(&world).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let copy = call("PUT", "/box/b").header("x-amz-copy-source", "/box/a");
    let copied = copy.send(&world).await;
    assert_eq!(copied.element("LastModified").as_deref(), Some(ISO));
    let begun = call("POST", "/box/c?uploads").send(&world).await;
    let upload = begun.element("UploadId").expect("an id");
    let target = format!("/box/c?partNumber=1&uploadId={upload}");
    let part = call("PUT", &target).body("part").send(&world).await;
    assert_eq!(part.status, 200, "{}", part.text());
    let target = format!("/box/c?uploadId={upload}");
    let parts = call("GET", &target).send(&world).await;
    assert_eq!(parts.element("LastModified").as_deref(), Some(ISO));
    let uploads = call("GET", "/box?uploads").send(&world).await;
    assert_eq!(uploads.element("Initiated").as_deref(), Some(ISO));
    let body = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
         </CompleteMultipartUpload>",
        part.etag()
    );
    let completed = call("POST", &target).body(body).send(&world).await;
    assert_eq!(completed.status, 200, "{}", completed.text());
    for key in ["a", "b", "c"] {
        let head = call("HEAD", &format!("/box/{key}")).send(&world).await;
        assert_eq!(head.header("last-modified"), Some(DATE), "{key}");
    }
    let listed = call("GET", "/box?list-type=2").send(&world).await;
    assert_eq!(listed.elements("LastModified"), [ISO, ISO, ISO]);
}
