//! Answers as AWS gives them, where clients look closely.

use super::client::{answer, call};
use super::objects::{get, put};
use super::with_bucket;

#[tokio::test]
async fn a_range_is_heeded_only_if_the_object_is_the_one_that_was_meant() {
    let world = with_bucket().await;
    let etag = put(&world, "k", "0123456789").await.etag();
    let head = call("HEAD", "/box/k").send(&world).await;
    let modified = head.header("last-modified").expect("a date").to_owned();
    let quoted = format!("\"{etag}\"");
    for (if_range, part) in [
        (quoted.as_str(), true),
        (etag.as_str(), true),
        (modified.as_str(), true),
        ("\"another\"", false),
        (&format!("W/{quoted}"), false),
        ("Wed, 21 Oct 2015 07:28:00 GMT", false),
        ("Wed, 21 Oct 2099 07:28:00 GMT", false),
        ("nonsense", false),
    ] {
        for method in ["GET", "HEAD"] {
            let read = call(method, "/box/k")
                .header("range", "bytes=2-3")
                .header("if-range", if_range);
            let read = read.send(&world).await;
            let expected = if part { (206, "2") } else { (200, "10") };
            let length = read.header("content-length").expect("a length");
            assert_eq!((read.status, length), expected, "{method} {if_range}");
        }
    }
    let whole = call("GET", "/box/k").header("if-range", &quoted);
    assert_eq!(whole.send(&world).await.status, 200);
}

#[tokio::test]
async fn content_headers_come_back_as_they_were_sent() {
    let world = with_bucket().await;
    for (expires, encoding, kept) in [
        ("0", "deflate, gzip", Some("deflate, gzip")),
        ("-1", "aws-chunked", None),
        (
            "next week",
            "deflate, gzip, aws-chunked",
            Some("deflate, gzip"),
        ),
        ("2030-01-01T00:00:00Z", "aws-chunked,gzip", Some("gzip")),
    ] {
        let written = call("PUT", "/box/k")
            .header("expires", expires)
            .header("content-encoding", encoding)
            .body("data");
        let written = written.send(&world).await;
        assert_eq!(written.status, 200, "{}", written.text());
        let read = get(&world, "k").await;
        assert_eq!(read.header("expires"), Some(expires));
        assert_eq!(read.header("content-encoding"), kept, "{encoding}");
    }
}

#[tokio::test]
async fn metadata_that_comes_twice_is_joined() {
    let world = with_bucket().await;
    let signed = call("PUT", "/box/k").header("x-amz-meta-colour", "blue,green");
    let signed = signed.body("data").sign(&world.ann);
    let mut twice = signed.request(|builder| builder);
    let headers = twice.headers_mut();
    headers.insert("x-amz-meta-colour", "blue".parse().expect("a value"));
    headers.append("x-amz-meta-colour", "green".parse().expect("a value"));
    let written = answer(&world, twice).await;
    assert_eq!(written.status, 200, "{}", written.text());
    let read = get(&world, "k").await;
    assert_eq!(read.header("x-amz-meta-colour"), Some("blue,green"));
}

#[tokio::test]
async fn an_etag_that_no_object_has_fails_its_condition() {
    let world = with_bucket().await;
    put(&world, "k", "data").await;
    for word in ["some_word", "\"half", "a b", "half\"", "(*)"] {
        let read = |name: &str| call("GET", "/box/k").header(name, word);
        let failed = read("if-match").send(&world).await;
        assert_eq!(failed.error(), (412, "PreconditionFailed".into()), "{word}");
        let found = read("if-none-match").send(&world).await;
        assert_eq!(found.status, 200, "{word}");
        let copy = call("PUT", "/box/copy")
            .header("x-amz-copy-source", "/box/k")
            .header("x-amz-copy-source-if-match", word);
        let copy = copy.send(&world).await;
        assert_eq!(copy.error(), (412, "PreconditionFailed".into()), "{word}");
        let write = call("PUT", "/box/k").header("if-match", word).body("new");
        let write = write.send(&world).await;
        assert_eq!(write.error(), (412, "PreconditionFailed".into()), "{word}");
    }
}

#[tokio::test]
async fn control_characters_in_keys_can_be_read_from_lists() {
    let world = with_bucket().await;
    put(&world, "a%01b%1Fc%7F", "data").await;
    for list in ["?list-type=2", "?"] {
        let listed = call("GET", &format!("/box{list}")).send(&world).await;
        let key = listed.element("Key");
        assert_eq!(key.as_deref(), Some("a&#x1;b&#x1f;c&#x7f;"), "{list}");
    }
    // The same form is understood in a document that comes in.
    let document = "<Delete><Object><Key>a&#x1;b&#x1f;c&#x7f;</Key></Object></Delete>";
    let md5 = {
        use base64::Engine as _;
        use md5::Digest as _;
        base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(document))
    };
    let delete = call("POST", "/box?delete").header("content-md5", &md5);
    let delete = delete.body(document).send(&world).await;
    assert_eq!(delete.status, 200, "{}", delete.text());
    let gone = call("GET", "/box/a%01b%1Fc%7F").send(&world).await;
    assert_eq!(gone.error(), (404, "NoSuchKey".into()));
}

#[tokio::test]
async fn an_empty_delimiter_is_none() {
    let world = with_bucket().await;
    for list in ["?list-type=2&", "?", "?uploads&"] {
        let with = |delimiter: &str| call("GET", &format!("/box{list}delimiter={delimiter}"));
        let none = with("").send(&world).await;
        assert!(!none.text().contains("Delimiter"), "{}", none.text());
        let some = with("%2F").send(&world).await;
        assert_eq!(some.element("Delimiter").as_deref(), Some("/"), "{list}");
    }
}

#[tokio::test]
async fn a_list_of_uploads_names_no_upload_that_there_is_not() {
    let world = with_bucket().await;
    for key in ["a/1", "a/2", "b/1", "c"] {
        let begun = call("POST", &format!("/box/{key}?uploads")).send(&world);
        assert_eq!(begun.await.status, 200);
    }
    let (mut seen, mut markers) = (Vec::new(), String::new());
    for _ in 0..4 {
        let target = format!("/box?uploads&delimiter=%2F&max-uploads=1{markers}");
        let page = call("GET", &target).send(&world).await;
        seen.extend(page.elements("CommonPrefixes"));
        seen.extend(page.elements("Key"));
        assert!(!page.text().contains("ffffffff"), "{}", page.text());
        if page.element("IsTruncated").as_deref() == Some("false") {
            break;
        }
        let key = page.element("NextKeyMarker").expect("a marker");
        markers = format!("&key-marker={}", key.replace('/', "%2F"));
        if let Some(upload) = page.element("NextUploadIdMarker") {
            markers = format!("{markers}&upload-id-marker={upload}");
        }
    }
    let expected = ["<Prefix>a/</Prefix>", "<Prefix>b/</Prefix>", "c"];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn attributes() {
    let world = with_bucket().await;
    let etag = put(&world, "k", "data").await.etag();
    let ask = |wish: &str| call("GET", "/box/k?attributes").header("x-amz-object-attributes", wish);
    let shown = ask("ETag,ObjectSize").send(&world).await;
    assert_eq!(shown.element("ETag"), Some(etag));
    assert_eq!(shown.element("ObjectSize").as_deref(), Some("4"));
    let unknown = ask("ETag,ETags").send(&world).await;
    assert_eq!(unknown.error(), (400, "InvalidArgument".into()));
    assert_eq!(
        (
            unknown.element("ArgumentName").as_deref(),
            unknown.element("ArgumentValue").as_deref()
        ),
        (Some("x-amz-object-attributes"), Some("ETags"))
    );
    let none = call("GET", "/box/none?attributes").send(&world).await;
    assert_eq!(none.error(), (400, "InvalidRequest".into()));
}

#[tokio::test]
async fn a_part_of_a_composite_object_says_composite() {
    let world = with_bucket().await;
    let begun = call("POST", "/box/k?uploads")
        .header("x-amz-checksum-algorithm", "SHA256")
        .send(&world)
        .await;
    let upload = begun.element("UploadId").expect("an upload");
    let part = call("PUT", &format!("/box/k?partNumber=1&uploadId={upload}"));
    let part = part.body("data").send(&world).await;
    let sum = part.header("x-amz-checksum-sha256").expect("a checksum");
    let complete = |size: &str| {
        let document = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag>\
             <ChecksumSHA256>{sum}</ChecksumSHA256></Part></CompleteMultipartUpload>",
            part.etag()
        );
        call("POST", &format!("/box/k?uploadId={upload}"))
            .header("x-amz-mp-object-size", size)
            .body(document)
    };
    for wrong in ["5", "3"] {
        let refused = complete(wrong).send(&world).await;
        assert_eq!(refused.error(), (400, "InvalidRequest".into()), "{wrong}");
    }
    for nonsense in ["-4", "four"] {
        let refused = complete(nonsense).send(&world).await;
        let expected = (400, "InvalidArgument".into());
        assert_eq!(refused.error(), expected, "{nonsense}");
    }
    let completed = complete("4").send(&world).await;
    assert_eq!(completed.status, 200, "{}", completed.text());
    for method in ["GET", "HEAD"] {
        let read = call(method, "/box/k?partNumber=1").header("x-amz-checksum-mode", "ENABLED");
        let read = read.send(&world).await;
        assert_eq!(read.header("x-amz-checksum-type"), Some("COMPOSITE"));
        assert_eq!(read.header("x-amz-checksum-sha256"), Some(sum));
    }
}

#[tokio::test]
async fn headers_of_the_answer_are_overridden_for_head_as_well() {
    let world = with_bucket().await;
    put(&world, "k", "data").await;
    for method in ["GET", "HEAD"] {
        let target = "/box/k?response-content-type=text%2Fx&response-cache-control=no-store";
        let read = call(method, target).send(&world).await;
        assert_eq!(read.header("content-type"), Some("text/x"), "{method}");
        assert_eq!(read.header("cache-control"), Some("no-store"), "{method}");
    }
}
