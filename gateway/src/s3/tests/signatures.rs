//! Who may call: signatures by header and URL, and what is refused.

use super::client::{answer, call};
use super::with_bucket;
use super::world::{Key, World};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use megalith_model::ids::AccountId;

fn plain(target: &str) -> Request<Full<Bytes>> {
    let request = Request::get(target).header("host", "127.0.0.1:9000");
    request.body(Full::new(Bytes::new())).expect("a request")
}

async fn with_object() -> World {
    let world = with_bucket().await;
    let put = call("PUT", "/box/k").body("bytes").send(&world).await;
    assert_eq!(put.status, 200, "{}", put.text());
    world
}

#[tokio::test]
async fn strangers_are_denied() {
    let world = with_object().await;
    let anonymous = answer(&world, plain("/box/k")).await;
    assert_eq!(anonymous.error(), (403, "AccessDenied".into()));
    // A key that is gone, one of before ids had a check, and one that nobody could have made.
    for id in [&*world.key_id("NOBODY"), "MGLABCDEFGHIJKLMNOPQ", "NOBODY"] {
        let unknown = Key {
            id: id.into(),
            secret: world.ann.secret.clone(),
        };
        let refused = call("GET", "/box/k").send_as(&world, &unknown).await;
        assert_eq!(refused.error(), (403, "InvalidAccessKeyId".into()), "{id}");
    }
    let wrong = Key {
        id: world.ann.id.clone(),
        secret: "guess".into(),
    };
    let refused = call("GET", "/box/k").send_as(&world, &wrong).await;
    assert_eq!(refused.error(), (403, "SignatureDoesNotMatch".into()));
}

#[tokio::test]
async fn disabled_keys_and_accounts_stop_working() {
    let world = with_object().await;
    let off = Key {
        id: world.key_id("OFF"),
        secret: "s".into(),
    };
    world.give(&off, AccountId(1), false);
    let refused = call("GET", "/box/k").send_as(&world, &off).await;
    assert_eq!(refused.error(), (403, "InvalidAccessKeyId".into()));
    let late = Key {
        id: world.key_id("LATE"),
        secret: "s".into(),
    };
    world.give(&late, AccountId(2), true);
    world
        .meta
        .done(megalith_model::command::Command::SetAccountEnabled {
            account: AccountId(2),
            enabled: false,
            revision: 1,
        });
    let refused = call("GET", "/").send_as(&world, &late).await;
    assert_eq!(refused.error(), (403, "InvalidAccessKeyId".into()));
}

#[tokio::test]
async fn an_unsealed_copy_of_an_account_is_not_trusted() {
    use megalith_model::command::Command;
    use megalith_model::question;
    let world = with_object().await;
    let asked = question::AccessKey {
        access_key: world.bob.id.clone(),
    };
    let (row, _) = world.meta.see(asked).expect("a key");
    // Bob's record, moved to Ann's account by someone who writes the metadata.
    world.meta.done(Command::PutAccessKey {
        access_key: world.key_id("FORGED"),
        account: AccountId(1),
        enabled: true,
        revision: 1,
        sealed_credential: row.sealed_credential,
    });
    let forged = Key {
        id: world.key_id("FORGED"),
        secret: world.bob.secret.clone(),
    };
    let refused = call("GET", "/box/k").send_as(&world, &forged).await;
    assert_eq!(refused.error(), (403, "InvalidAccessKeyId".into()));
}

/// Who can write the metadata enables the account, and its keys' records say that it isn't.
#[tokio::test]
async fn attack_32_an_account_enabled_in_the_metadata_stays_disabled() {
    use megalith_crypto::{AccessSecret, Credential};
    use megalith_model::command::Command;
    use megalith_model::question;
    let world = with_object().await;
    let id = world.key_id("DISABLED");
    let credential = Credential {
        secret: AccessSecret::new("secret".to_owned()),
        account: 1,
        enabled: true,
        account_enabled: false,
        name: String::new(),
    };
    let sealer = world.ring().credentials();
    world.meta.done(Command::PutAccessKey {
        access_key: id.clone(),
        account: AccountId(1),
        enabled: true,
        revision: 1,
        sealed_credential: sealer.seal(&id, &credential).expect("sealed"),
    });
    let asked = question::AccessKey {
        access_key: id.clone(),
    };
    let (_, account) = world.meta.see(asked).expect("a key");
    assert!(account.enabled, "as its row says");
    let key = Key {
        id: id.clone(),
        secret: "secret".to_owned(),
    };
    let refused = call("GET", "/box/k").send_as(&world, &key).await;
    assert_eq!(refused.error(), (403, "InvalidAccessKeyId".into()));
}

/// The access key may be a good one: its owner must not hear that it is gone.
#[tokio::test]
async fn a_record_under_a_lost_key_encryption_key_is_no_unknown_access_key() {
    use megalith_model::codec;
    use megalith_model::keys::RowKey;
    use megalith_model::question;
    let world = with_object().await;
    let lost = Key {
        id: world.key_id("LOST"),
        secret: world.bob.secret.clone(),
    };
    world.give(&lost, AccountId(2), true);
    let asked = question::AccessKey {
        access_key: lost.id.clone(),
    };
    let (mut row, _) = world.meta.see(asked).expect("a key");
    row.sealed_credential[1..5].copy_from_slice(&7_u32.to_be_bytes());
    let key = RowKey::AccessKey(lost.id.as_bytes().into()).encode();
    world.meta.write(key, codec::encode(&row));
    let answer = call("GET", "/box/k").send_as(&world, &lost).await;
    assert_eq!(answer.error(), (503, "ServiceUnavailable".into()));
}

#[tokio::test]
async fn clocks_may_differ_by_a_quarter_of_an_hour() {
    let world = with_object().await;
    for (skew, status) in [(0, 200), (-800, 200), (800, 200), (-1000, 403), (1000, 403)] {
        let mut request = call("GET", "/box/k");
        request.skew = skew;
        let answer = request.send(&world).await;
        assert_eq!(answer.status, status, "{skew}: {}", answer.text());
        if status == 403 {
            assert_eq!(answer.error().1, "RequestTimeTooSkewed");
        }
    }
}

#[tokio::test]
async fn another_region_is_refused() {
    let world = with_object().await;
    let mut request = call("GET", "/box/k");
    request.region = "eu-west-1".into();
    let refused = request.send(&world).await;
    assert_eq!(
        refused.error(),
        (400, "AuthorizationHeaderMalformed".into())
    );
    assert_eq!(refused.element("Region").as_deref(), Some("us-east-1"));
}

#[tokio::test]
async fn a_header_added_on_the_way_is_refused() {
    let world = with_object().await;
    let signed = call("PUT", "/box/k").body("x").sign(&world.ann);
    let request = signed.request(|builder| builder.header("x-amz-meta-added", "1"));
    assert_eq!(
        answer(&world, request).await.error(),
        (403, "AccessDenied".into())
    );
    let signed = call("GET", "/box/k")
        .header("x-amz-meta-a", "1")
        .sign(&world.ann);
    let request = signed.request(|builder| builder.header("x-amz-meta-a", "2"));
    assert_eq!(answer(&world, request).await.status, 403, "a second value");
}

#[tokio::test]
async fn presigned_urls() {
    let world = with_object().await;
    let get = call("GET", "/box/k");
    let read = answer(&world, plain(&get.presign(&world.ann, 60))).await;
    assert_eq!((read.status, read.text().as_str()), (200, "bytes"));
    let week = answer(&world, plain(&get.presign(&world.ann, 604_800))).await;
    assert_eq!(week.status, 200);
    let longer = answer(&world, plain(&get.presign(&world.ann, 604_801))).await;
    assert_eq!(
        longer.error(),
        (400, "AuthorizationQueryParametersError".into())
    );
    let mut old = call("GET", "/box/k");
    old.skew = -3600;
    let expired = answer(&world, plain(&old.presign(&world.ann, 60))).await;
    assert_eq!(expired.error(), (403, "AccessDenied".into()));
    assert_eq!(
        answer(&world, plain(&old.presign(&world.ann, 7200)))
            .await
            .status,
        200
    );
    let other = get.presign(&world.ann, 60).replace("/box/k", "/box/j");
    let moved = answer(&world, plain(&other)).await;
    assert_eq!(moved.error(), (403, "SignatureDoesNotMatch".into()));
    let put = call("PUT", "/box/up").presign(&world.ann, 60);
    let request = Request::put(put)
        .header("host", "127.0.0.1:9000")
        .header("content-length", 2);
    let request = request
        .body(Full::new(Bytes::from("up")))
        .expect("a request");
    assert_eq!(answer(&world, request).await.status, 200);
    assert_eq!(call("GET", "/box/up").send(&world).await.text(), "up");
}

#[tokio::test]
async fn buckets_by_host_name() {
    let world = with_object().await;
    let mut request = call("GET", "/k");
    request.host = "box.s3.test".into();
    let read = request.send(&world).await;
    assert_eq!(
        (read.status, read.text().as_str()),
        (200, "bytes"),
        "{}",
        read.text()
    );
    let mut list = call("GET", "/?list-type=2");
    list.host = "box.s3.test:9000".into();
    assert_eq!(list.send(&world).await.elements("Key"), ["k"]);
    let mut path = call("GET", "/box/k");
    path.host = "s3.test".into();
    assert_eq!(path.send(&world).await.status, 200);
}

#[tokio::test]
async fn forms_and_old_signatures_are_refused() {
    let world = with_object().await;
    let old = Request::get("/box/k").header("authorization", "AWS ANN:c2ln");
    let old = old.body(Full::new(Bytes::new())).expect("a request");
    assert_eq!(
        answer(&world, old).await.error(),
        (400, "InvalidRequest".into())
    );
    let form = Request::post("/box").header("content-type", "multipart/form-data; boundary=x");
    let form = form
        .body(Full::new(Bytes::from("--x--")))
        .expect("a request");
    assert_eq!(
        answer(&world, form).await.error(),
        (501, "NotImplemented".into())
    );
}

/// Signs one request and sends another.
async fn sent_otherwise(
    world: &World,
    target: &str,
    change: impl FnOnce(&mut Request<Full<Bytes>>),
) -> (u16, String) {
    let signed = call("GET", target)
        .header("x-amz-meta-a", "1")
        .header("range", "bytes=0-1")
        .sign(&world.ann);
    let mut request = signed.request(|builder| builder);
    change(&mut request);
    answer(world, request).await.error()
}

#[tokio::test]
async fn all_that_is_signed_is_verified() {
    let world = with_object().await;
    let mismatch = (403, "SignatureDoesNotMatch".to_owned());
    let target = "/box/k?response-content-type=text%2Fx&x-id=a";
    assert_eq!(sent_otherwise(&world, target, |_| {}).await.0, 206);
    for other in [
        "/box/j?response-content-type=text%2Fx&x-id=a",
        "/box//k?response-content-type=text%2Fx&x-id=a",
        "/box/./k?response-content-type=text%2Fx&x-id=a",
        "/box/%6B%20?response-content-type=text%2Fx&x-id=a",
        "/box/%256B?response-content-type=text%2Fx&x-id=a",
        "/box/k?response-content-type=text%2Fy&x-id=a",
        "/box/k?response-content-type=text%252Fx&x-id=a",
        "/box/k?response-content-type=text%2Fx",
        "/box/k?response-content-type=text%2Fx&x-id=",
        "/box/k?response-content-type=text%2Fx&x-id=a&x-id=a",
        "/box/k?response-content-type=text%2Fx&x-id=a&acl",
        "/box/k?response-content-type=text%2Fx&x-id=a&%61cl=",
        "/box/k",
    ] {
        let uri = other.parse().expect("a URI");
        let error = sent_otherwise(&world, target, |request| *request.uri_mut() = uri).await;
        assert_eq!(error, mismatch, "{other}");
    }
    for (name, value) in [
        ("host", "elsewhere"),
        ("x-amz-meta-a", "2"),
        ("range", "bytes=0-2"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
    ] {
        let change = |request: &mut Request<Full<Bytes>>| {
            request
                .headers_mut()
                .insert(name, value.parse().expect("a value"));
        };
        assert_eq!(
            sent_otherwise(&world, target, change).await,
            mismatch,
            "{name}: {value}"
        );
    }
    for name in ["host", "x-amz-meta-a", "range"] {
        let change = |request: &mut Request<Full<Bytes>>| {
            request.headers_mut().remove(name);
        };
        assert_eq!(
            sent_otherwise(&world, target, change).await,
            mismatch,
            "without {name}"
        );
        let change = |request: &mut Request<Full<Bytes>>| {
            request
                .headers_mut()
                .append(name, "x".parse().expect("a value"));
        };
        assert_eq!(
            sent_otherwise(&world, target, change).await,
            mismatch,
            "twice {name}"
        );
    }
    let method = sent_otherwise(&world, target, |request| {
        *request.method_mut() = http::Method::DELETE;
    });
    assert_eq!(method.await, mismatch);
    assert_eq!(call("GET", "/box/k").send(&world).await.text(), "bytes");
}

#[tokio::test]
async fn two_ways_of_signing_are_one_too_many() {
    let world = with_object().await;
    let signed = call("GET", "/box/k").sign(&world.ann);
    let twice = signed.request(|builder| builder.header("authorization", "AWS4-HMAC-SHA256 x"));
    assert_eq!(
        answer(&world, twice).await.error(),
        (400, "InvalidArgument".into())
    );
    let url = call("GET", "/box/k").presign(&world.ann, 60);
    let mut both = call("GET", "/box/k")
        .sign(&world.ann)
        .request(|builder| builder);
    *both.uri_mut() = url.parse().expect("a URI");
    assert_eq!(
        answer(&world, both).await.error(),
        (400, "InvalidArgument".into())
    );
}

#[tokio::test]
async fn a_scope_of_another_day_is_refused() {
    let world = with_object().await;
    let mut request = call("GET", "/box/k")
        .sign(&world.ann)
        .request(|builder| builder);
    let text = request.headers()["authorization"]
        .to_str()
        .expect("text")
        .to_owned();
    let date = text.split('/').nth(1).expect("a date").to_owned();
    let other = text.replace(&date, "20200101");
    request
        .headers_mut()
        .insert("authorization", other.parse().expect("a value"));
    let refused = answer(&world, request).await;
    let expected = (400, "AuthorizationHeaderMalformed".into());
    assert_eq!(refused.error(), expected);
    // Clients would sign again, for a region that was right.
    assert_eq!(refused.element("Region"), None);
    let url = call("GET", "/box/k").presign(&world.ann, 60);
    let other = url.replace(&format!("%2F{date}%2F"), "%2F20200101%2F");
    let request = http::Request::get(other).header("host", "127.0.0.1:9000");
    let request = request
        .body(http_body_util::Full::default())
        .expect("a request");
    let expected = (400, "AuthorizationQueryParametersError".into());
    assert_eq!(answer(&world, request).await.error(), expected);
}

#[tokio::test]
async fn a_signature_without_a_time_or_a_hash_is_refused() {
    let world = with_object().await;
    for name in ["x-amz-date", "x-amz-content-sha256"] {
        let mut request = call("GET", "/box/k")
            .sign(&world.ann)
            .request(|builder| builder);
        request.headers_mut().remove(name);
        let refused = answer(&world, request).await;
        assert_eq!(refused.error(), (400, "InvalidRequest".into()), "{name}");
    }
}

#[tokio::test]
async fn odd_keys_are_signed_as_they_are_read() {
    let world = with_object().await;
    for (target, key) in [
        ("/box/a%20b", "a b"),
        ("/box/a%2Bb", "a+b"),
        ("/box/a+b!*'()", "a+b!*'()"),
        ("/box/a%2520b", "a%20b"),
        ("/box//a//b/", "/a//b/"),
        ("/box/../a/./b", "../a/./b"),
        ("/box/%D0%BA%D0%BB%D1%8E%D1%87", "ключ"),
        ("/box/~.-_", "~.-_"),
    ] {
        let put = call("PUT", target).body("odd").send(&world).await;
        assert_eq!(put.status, 200, "{target}: {}", put.text());
        assert!(world.version("box", key).is_some(), "{key}");
        let read = answer(&world, plain(&call("GET", target).presign(&world.ann, 60))).await;
        assert_eq!(
            (read.status, read.text().as_str()),
            (200, "odd"),
            "{target}"
        );
    }
}

#[tokio::test]
async fn a_parameter_that_a_write_does_not_know_is_refused() {
    let world = with_object().await;
    for (method, target) in [
        ("PUT", "/box/k?acl="),
        ("PUT", "/box/k?something="),
        ("PUT", "/box/k?partNumber=1"),
        ("DELETE", "/box/k?tagging="),
        ("DELETE", "/box/k?something=1"),
        ("POST", "/box?delete=&something="),
        ("DELETE", "/box?policy="),
        ("GET", "/box?versions="),
        ("GET", "/box/k?torrent="),
        ("PATCH", "/box/k"),
    ] {
        let refused = call(method, target).send(&world).await;
        assert_eq!(
            refused.error(),
            (501, "NotImplemented".into()),
            "{method} {target}"
        );
    }
    assert_eq!(call("GET", "/box/k").send(&world).await.text(), "bytes");
    let known = call("PUT", "/box/k?x-id=PutObject&X-Any=1")
        .body("new")
        .send(&world)
        .await;
    assert_eq!(known.status, 200, "{}", known.text());
    let read = call("GET", "/box/k?something=1").send(&world).await;
    assert_eq!(read.text(), "new", "reads pass over what they don't know");
}

/// No route can be reached without a signature.
#[tokio::test]
async fn no_operation_is_reached_unsigned() {
    let world = with_object().await;
    for entry in &crate::s3::operations::OPERATIONS {
        let route = entry.route;
        let (target, headers) = route.example();
        let mut builder = Request::builder()
            .method(route.method.clone())
            .uri(&target)
            .header("host", "127.0.0.1:9000");
        for name in &headers {
            builder = builder.header(*name, "x");
        }
        let request = builder.body(Full::new(Bytes::new())).expect("a request");
        let refused = answer(&world, request).await;
        assert_eq!(refused.status, 403, "{}: {}", route.name, refused.text());
    }
    assert_eq!(call("GET", "/box/k").send(&world).await.text(), "bytes");
}
