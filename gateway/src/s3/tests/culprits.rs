//! Error documents name what is to blame, as AWS's do.

use super::client::{Answer, answer, call};
use super::objects::put;
use super::with_bucket;
use super::world::{Key, World};

/// Checks an error and the elements that name its cause.
fn check(answer: &Answer, error: (u16, &str), elements: &[(&str, &str)]) {
    let text = answer.text();
    assert_eq!(answer.error(), (error.0, error.1.to_owned()), "{text}");
    for (name, value) in elements {
        let found = answer.element(name);
        assert_eq!(found.as_deref(), Some(*value), "{name} in {text}");
    }
}

async fn plain(world: &World, target: &str) -> Answer {
    let request = http::Request::get(target).header("host", "127.0.0.1:9000");
    let request = request.body(http_body_util::Full::default());
    answer(world, request.expect("a request")).await
}

#[tokio::test]
async fn of_a_name() {
    let world = with_bucket().await;
    put(&world, "k", "data").await;
    let send = async |method: &str, target: &str| call(method, target).send(&world).await;
    let none = send("GET", "/box/n%20o%26ne").await;
    check(&none, (404, "NoSuchKey"), &[("Key", "n o&amp;ne")]);
    let none = send("GET", "/other/k").await;
    check(&none, (404, "NoSuchBucket"), &[("BucketName", "other")]);
    let upload = "00000000000000000000000000000001";
    let none = send("DELETE", &format!("/box/k?uploadId={upload}")).await;
    check(&none, (404, "NoSuchUpload"), &[("UploadId", upload)]);
    let full = send("DELETE", "/box").await;
    check(&full, (409, "BucketNotEmpty"), &[("BucketName", "box")]);
    // A copy's error is about its source, which the URL doesn't name.
    let copy = call("PUT", "/box/k").header("x-amz-copy-source", "/box/none");
    let copy = copy.send(&world).await;
    check(&copy, (404, "NoSuchKey"), &[]);
    assert_eq!(copy.element("Key"), None);
}

#[tokio::test]
async fn of_an_argument() {
    let world = with_bucket().await;
    put(&world, "k", "data").await;
    for (target, name, value) in [
        ("/box?max-keys=many", "max-keys", "many"),
        ("/box?max-keys=-1", "max-keys", "-1"),
        ("/box?encoding-type=base64", "encoding-type", "base64"),
        ("/box/k?partNumber=0", "partNumber", "0"),
    ] {
        let refused = call("GET", target).send(&world).await;
        let blamed = [("ArgumentName", name), ("ArgumentValue", value)];
        check(&refused, (400, "InvalidArgument"), &blamed);
    }
    let failed = call("GET", "/box/k").header("if-match", "\"x\"");
    let blamed = [("Condition", "If-Match")];
    check(
        &failed.send(&world).await,
        (412, "PreconditionFailed"),
        &blamed,
    );
    let beyond = call("GET", "/box/k").header("range", "bytes=9-");
    let blamed = [("ActualObjectSize", "4")];
    check(&beyond.send(&world).await, (416, "InvalidRange"), &blamed);
    let tagged = call("PUT", "/box/k").header("x-amz-tagging", "a=b");
    let blamed = [("Header", "x-amz-tagging")];
    check(&tagged.send(&world).await, (501, "NotImplemented"), &blamed);
}

#[tokio::test]
async fn of_a_signature() {
    let world = with_bucket().await;
    let thief = Key {
        id: world.ann.id.clone(),
        secret: "guess".into(),
    };
    let stolen = call("GET", "/box").send_as(&world, &thief).await;
    let blamed = [("AWSAccessKeyId", world.ann.id.as_str())];
    check(&stolen, (403, "SignatureDoesNotMatch"), &blamed);
    let nobody = Key {
        id: "AKNOBODY".into(),
        secret: "guess".into(),
    };
    let unknown = call("GET", "/box").send_as(&world, &nobody).await;
    let blamed = [("AWSAccessKeyId", "AKNOBODY")];
    check(&unknown, (403, "InvalidAccessKeyId"), &blamed);
    let added = call("PUT", "/box/k").sign(&world.ann).request(|builder| {
        let builder = builder.header("x-amz-tagging", "a=b");
        builder.header("x-amz-acl", "private")
    });
    let blamed = [("HeadersNotSigned", "x-amz-acl, x-amz-tagging")];
    check(&answer(&world, added).await, (403, "AccessDenied"), &blamed);
    let mut elsewhere = call("GET", "/box");
    elsewhere.region = "mars-1".to_owned();
    let refused = elsewhere.send(&world).await;
    let blamed = [("Region", "us-east-1")];
    check(&refused, (400, "AuthorizationHeaderMalformed"), &blamed);
    let text = "the region 'mars-1' is wrong; expecting 'us-east-1'";
    assert!(refused.text().contains(text), "{}", refused.text());
    let mut late = call("GET", "/box");
    late.skew = -3600;
    let late = late.send(&world).await;
    let blamed = [("MaxAllowedSkewMilliseconds", "900000")];
    check(&late, (403, "RequestTimeTooSkewed"), &blamed);
    assert!(late.element("ServerTime").is_some());
    let mut old = call("GET", "/box");
    old.skew = -60;
    let old = plain(&world, &old.presign(&world.ann, 30)).await;
    check(&old, (403, "AccessDenied"), &[("X-Amz-Expires", "30")]);
}

#[tokio::test]
async fn a_url_that_lacks_a_part_of_its_signature_is_malformed() {
    let world = with_bucket().await;
    let whole = call("GET", "/box").presign(&world.ann, 60);
    assert_eq!(plain(&world, &whole).await.status, 200);
    let (path, query) = whole.split_once('?').expect("a query");
    let malformed = (400, "AuthorizationQueryParametersError");
    for name in [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
    ] {
        let rest: Vec<&str> = query
            .split('&')
            .filter(|pair| !pair.starts_with(name))
            .collect();
        let target = format!("{path}?{}", rest.join("&"));
        check(&plain(&world, &target).await, malformed, &[]);
        let empty = whole.replace(&format!("{name}="), &format!("{name}=&was="));
        check(&plain(&world, &empty).await, malformed, &[]);
    }
}
