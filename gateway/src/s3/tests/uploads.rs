//! Uploads in parts.

use super::client::{Answer, call};
use super::with_bucket;
use super::world::{Lost, World};
use crate::ops::checksum::{Algorithm, digest, multipart_etag};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest as _;
use megalith_model::command::Envelope;

const MIN: usize = 5 * 1024 * 1024;

async fn create(world: &World, headers: &[(&str, &str)]) -> String {
    let mut create = call("POST", "/box/big?uploads");
    for (name, value) in headers {
        create = create.header(name, value);
    }
    let created = create.send(world).await;
    assert_eq!(created.status, 200, "{}", created.text());
    created.element("UploadId").expect("an id")
}

async fn part(world: &World, upload: &str, number: u32, body: Vec<u8>) -> Answer {
    let target = format!("/box/big?partNumber={number}&uploadId={upload}");
    call("PUT", &target).body(body).send(world).await
}

fn completion(parts: &[(u32, String)]) -> String {
    let part = |(number, etag): &(u32, String)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>\"{etag}\"</ETag></Part>")
    };
    let parts: String = parts.iter().map(part).collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

async fn complete(world: &World, upload: &str, parts: &[(u32, String)]) -> Answer {
    let target = format!("/box/big?uploadId={upload}");
    call("POST", &target)
        .body(completion(parts))
        .send(world)
        .await
}

fn md5(bytes: &[u8]) -> [u8; 16] {
    md5::Md5::digest(bytes).into()
}

#[tokio::test]
async fn parts_become_an_object() {
    let world = with_bucket().await;
    let described = [
        ("content-type", "a/b"),
        ("x-amz-meta-m", "1"),
        ("x-amz-checksum-algorithm", "CRC32"),
    ];
    let upload = create(&world, &described).await;
    let (first, second) = (vec![1_u8; MIN], vec![2_u8; 1000]);
    let one = part(&world, &upload, 1, first.clone()).await;
    assert_eq!(one.status, 200, "{}", one.text());
    let replaced = part(&world, &upload, 7, vec![9; 10]).await;
    assert_eq!(replaced.status, 200);
    let two = part(&world, &upload, 7, second.clone()).await;
    let sum = |bytes: &[u8]| digest(Algorithm::Crc32, bytes);
    let header = Algorithm::Crc32.header();
    assert_eq!(
        two.header(header),
        Some(STANDARD.encode(sum(&second)).as_str())
    );

    let listed = call("GET", &format!("/box/big?uploadId={upload}"))
        .send(&world)
        .await;
    assert_eq!(
        listed.elements("PartNumber"),
        ["1", "7"],
        "{}",
        listed.text()
    );
    assert_eq!(
        listed.elements("Size"),
        [MIN.to_string(), "1000".to_owned()]
    );
    let uploads = call("GET", "/box?uploads").send(&world).await;
    assert_eq!(
        uploads.element("UploadId"),
        Some(upload.clone()),
        "{}",
        uploads.text()
    );

    let parts = [(1, one.etag()), (7, two.etag())];
    let done = complete(&world, &upload, &parts).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let etag = multipart_etag(&[md5(&first), md5(&second)]);
    let shown = done
        .element("ETag")
        .map(|text| text.replace("&quot;", "").replace('"', ""));
    assert_eq!(shown, Some(etag.clone()));
    let composite = [sum(&first), sum(&second)].concat();
    let composite = format!(
        "{}-2",
        STANDARD.encode(digest(Algorithm::Crc32, &composite))
    );
    assert_eq!(done.element("ChecksumCRC32"), Some(composite.clone()));

    let again = complete(&world, &upload, &parts).await;
    assert_eq!(again.status, 200, "a repeated completion: {}", again.text());

    let read = call("GET", "/box/big").header("x-amz-checksum-mode", "ENABLED");
    let read = read.send(&world).await;
    assert_eq!(read.body, [first.clone(), second.clone()].concat());
    assert_eq!(
        (read.etag(), read.header("content-type")),
        (etag, Some("a/b"))
    );
    assert_eq!(read.header("x-amz-meta-m"), Some("1"));
    assert_eq!(read.header(header), Some(composite.as_str()));
    parts_are_read_one_by_one(&world).await;

    // The bytes stay where they are when the object is copied, whichever parts they came from.
    let copy = call("PUT", "/box/copy").header("x-amz-copy-source", "/box/big");
    assert_eq!(copy.send(&world).await.status, 200);
    call("DELETE", "/box/big").send(&world).await;
    let read = call("GET", "/box/copy").send(&world).await;
    assert_eq!(read.body.len(), MIN + 1000);
}

/// Reads ranges, parts and attributes of an object of 5 MiB of ones and 1,000 twos.
async fn parts_are_read_one_by_one(world: &World) {
    let border = format!("bytes={}-{}", MIN - 1, MIN);
    let read = call("GET", "/box/big")
        .header("range", &border)
        .send(world)
        .await;
    assert_eq!((read.status, &read.body[..]), (206, &[1, 2][..]));
    let read = call("GET", "/box/big?partNumber=2").send(world).await;
    assert_eq!((read.status, read.body.len()), (206, 1000));
    assert_eq!(read.header("x-amz-mp-parts-count"), Some("2"));
    let told = call("GET", "/box/big?attributes")
        .header(
            "x-amz-object-attributes",
            "ETag,ObjectParts,ObjectSize,Checksum",
        )
        .send(world)
        .await;
    assert_eq!(
        told.element("ObjectSize"),
        Some((MIN + 1000).to_string()),
        "{}",
        told.text()
    );
}

#[tokio::test]
async fn full_object_checksums_are_composed_and_compared() {
    let world = with_bucket().await;
    let wish = [("x-amz-checksum-algorithm", "CRC64NVME")];
    let upload = create(&world, &wish).await;
    let (first, second) = (vec![3_u8; MIN], vec![4_u8; 5]);
    let one = part(&world, &upload, 1, first.clone()).await;
    let two = part(&world, &upload, 2, second.clone()).await;
    let whole = digest(Algorithm::Crc64Nvme, &[first, second].concat());
    let body = completion(&[(1, one.etag()), (2, two.etag())]);
    let send = |sum: &str| {
        call("POST", &format!("/box/big?uploadId={upload}"))
            .header("x-amz-checksum-crc64nvme", sum)
            .header("x-amz-checksum-type", "FULL_OBJECT")
            .body(body.clone())
    };
    let wrong = send("AAAAAAAAAAA=").send(&world).await;
    assert_eq!(wrong.error(), (400, "BadDigest".into()));
    let done = send(&STANDARD.encode(&whole)).send(&world).await;
    assert_eq!(
        done.element("ChecksumCRC64NVME"),
        Some(STANDARD.encode(whole)),
        "{}",
        done.text()
    );
    let bad = call("POST", "/box/big?uploads")
        .header("x-amz-checksum-algorithm", "SHA256")
        .header("x-amz-checksum-type", "FULL_OBJECT");
    assert_eq!(
        bad.send(&world).await.error(),
        (400, "InvalidRequest".into())
    );
}

/// Returns the command that a request sends, not applied yet.
async fn about_to_end(world: &World, target: &str, method: &str, body: &str) -> Envelope {
    *world.meta.lose_next.lock().unwrap() = Some(Lost::Command);
    let lost = call(method, target).body(body.as_bytes().to_vec());
    assert_eq!(lost.send(world).await.status, 503);
    let envelope = world.meta.lost.lock().unwrap().take();
    envelope.expect("a command was sent")
}

#[tokio::test]
async fn an_upload_that_ends_while_its_parts_are_looked_up_is_no_upload_without_parts() {
    let world = with_bucket().await;
    let upload = create(&world, &[]).await;
    let target = format!("/box/big?uploadId={upload}");
    let parts = [(1, part(&world, &upload, 1, vec![1; 100]).await.etag())];
    let end = |envelope: &Envelope| {
        *world.meta.before_parts.lock().unwrap() = Some(envelope.clone());
    };

    let completed = about_to_end(&world, &target, "POST", &completion(&parts)).await;
    let rows = world.meta.rows.lock().unwrap().clone();
    end(&completed);
    let done = complete(&world, &upload, &parts).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let etag = multipart_etag(&[md5(&[1; 100])]);
    assert!(done.text().contains(&etag), "{}", done.text());

    *world.meta.rows.lock().unwrap() = rows;
    let aborted = about_to_end(&world, &target, "DELETE", "").await;
    let rows = world.meta.rows.lock().unwrap().clone();
    end(&aborted);
    let gone = complete(&world, &upload, &parts).await;
    assert_eq!(gone.error(), (404, "NoSuchUpload".into()));
    *world.meta.rows.lock().unwrap() = rows;
    end(&aborted);
    let gone = call("GET", &target).send(&world).await;
    assert_eq!(gone.error(), (404, "NoSuchUpload".into()));
}

#[tokio::test]
async fn wrong_completions_are_refused_and_lose_nothing() {
    let world = with_bucket().await;
    let upload = create(&world, &[]).await;
    let one = part(&world, &upload, 1, vec![1; 100]).await.etag();
    let two = part(&world, &upload, 2, vec![2; 100]).await.etag();
    let check = |parts: Vec<(u32, String)>| {
        let (world, upload) = (&world, &upload);
        async move { complete(world, upload, &parts).await.error() }
    };
    let refused = |code: &str| (400, code.to_owned());
    let order = check(vec![(2, two.clone()), (1, one.clone())]).await;
    assert_eq!(order, refused("InvalidPartOrder"));
    assert_eq!(check(vec![(1, two.clone())]).await, refused("InvalidPart"));
    assert_eq!(check(vec![(3, one.clone())]).await, refused("InvalidPart"));
    let small = check(vec![(1, one.clone()), (2, two.clone())]).await;
    assert_eq!(small, refused("EntityTooSmall"));
    assert_eq!(check(vec![]).await, refused("MalformedXML"));
    let xml = call("POST", &format!("/box/big?uploadId={upload}")).body("<Complete");
    assert_eq!(xml.send(&world).await.error(), refused("MalformedXML"));
    let nobody = complete(&world, &"0".repeat(32), &[(1, one.clone())]).await;
    assert_eq!(nobody.error(), (404, "NoSuchUpload".into()));
    let number = part(&world, &upload, 10_001, vec![1]).await;
    assert_eq!(number.error(), refused("InvalidArgument"));
    assert_eq!(complete(&world, &upload, &[(2, two)]).await.status, 200);
    let read = call("GET", "/box/big").send(&world).await;
    assert_eq!(read.body, vec![2; 100]);
}

#[tokio::test]
async fn aborted_uploads_are_gone() {
    let world = with_bucket().await;
    let upload = create(&world, &[]).await;
    part(&world, &upload, 1, vec![1; 100]).await;
    let target = format!("/box/big?uploadId={upload}");
    assert_eq!(call("DELETE", &target).send(&world).await.status, 204);
    let again = call("DELETE", &target).send(&world).await;
    assert_eq!(again.error(), (404, "NoSuchUpload".into()));
    let late = part(&world, &upload, 2, vec![1; 100]).await;
    assert_eq!(late.error(), (404, "NoSuchUpload".into()));
    assert_eq!(call("DELETE", "/box").send(&world).await.status, 204);
}

#[tokio::test]
async fn parts_are_copied_from_other_objects() {
    let world = with_bucket().await;
    let source: Vec<u8> = (0..200_000_u32).map(|i| (i % 241) as u8).collect();
    call("PUT", "/box/source")
        .body(source.clone())
        .send(&world)
        .await;
    let upload = create(&world, &[]).await;
    let copy = |range: Option<&str>| {
        let target = format!("/box/big?partNumber=1&uploadId={upload}");
        let copy = call("PUT", &target).header("x-amz-copy-source", "/box/source");
        match range {
            Some(range) => copy.header("x-amz-copy-source-range", range),
            None => copy,
        }
    };
    let beyond = copy(Some("bytes=0-200000")).send(&world).await;
    assert_eq!(beyond.error(), (400, "InvalidArgument".into()));
    let message = beyond.element("Message").expect("a message");
    assert!(
        message.ends_with("source object of size: 200000"),
        "{message}"
    );
    assert_eq!(
        copy(Some("bytes=5-")).send(&world).await.error(),
        (400, "InvalidArgument".into())
    );
    assert_eq!(copy(None).send(&world).await.status, 200);
    let copied = copy(Some("bytes=1000-149999")).send(&world).await;
    let etag = copied
        .element("ETag")
        .expect("an etag")
        .replace("&quot;", "")
        .replace('"', "");
    assert_eq!(etag, hex::encode(md5(&source[1000..150_000])));
    assert_eq!(complete(&world, &upload, &[(1, etag)]).await.status, 200);
    let read = call("GET", "/box/big").send(&world).await;
    assert_eq!(read.body, &source[1000..150_000]);
}

#[tokio::test]
async fn completions_heed_conditions() {
    let world = with_bucket().await;
    call("PUT", "/box/big").body("there").send(&world).await;
    let upload = create(&world, &[]).await;
    let etag = part(&world, &upload, 1, vec![1; 10]).await.etag();
    let absent = call("POST", &format!("/box/big?uploadId={upload}"))
        .header("if-none-match", "*")
        .body(completion(&[(1, etag.clone())]));
    assert_eq!(
        absent.send(&world).await.error(),
        (412, "PreconditionFailed".into())
    );
    assert_eq!(call("GET", "/box/big").send(&world).await.text(), "there");
    assert_eq!(complete(&world, &upload, &[(1, etag)]).await.status, 200);
}

#[tokio::test]
async fn a_repeated_completion_must_name_the_same_parts() {
    let world = with_bucket().await;
    let upload = create(&world, &[]).await;
    let etag = part(&world, &upload, 1, b"data".to_vec()).await.etag();
    let parts = |etag: &str| [(1, etag.to_owned())];
    for _ in 0..2 {
        let done = complete(&world, &upload, &parts(&etag)).await;
        assert_eq!(done.status, 200, "{}", done.text());
    }
    let upper = complete(&world, &upload, &parts(&etag.to_uppercase())).await;
    assert_eq!(upper.status, 200, "{}", upper.text());
    for other in [hex::encode(md5(b"other")), "word".to_owned()] {
        let refused = complete(&world, &upload, &parts(&other)).await;
        assert_eq!(refused.error(), (404, "NoSuchUpload".into()), "{other}");
    }
}
