//! Writes again if the cluster changed during the write: only bodies held whole, and not forever.

use super::client::{Answer, call};
use super::objects::get;
use super::with_bucket;
use super::world::World;
use megalith_model::command::Command;
use megalith_model::ids::{GatewayId, LeaseId};
use std::sync::atomic::Ordering;

async fn put(world: &World, key: &str, body: &[u8]) -> Answer {
    call("PUT", &format!("/box/{key}"))
        .body(body.to_vec())
        .send(world)
        .await
}

#[tokio::test]
async fn closed_leases_cost_a_small_body_nothing() {
    let world = with_bucket().await;
    for len in [5, 128 * 1024] {
        let body = vec![b'x'; len];
        world.shelf.closed_leases.store(2, Ordering::Relaxed);
        let written = put(&world, "small", &body).await;
        assert_eq!(written.status, 200, "{}", written.text());
        assert_eq!(world.shelf.closed_leases.load(Ordering::Relaxed), 0);
        assert_eq!(get(&world, "small").await.body, body);
    }
}

#[tokio::test]
async fn a_stream_is_not_written_twice() {
    let world = with_bucket().await;
    world.shelf.closed_leases.store(1, Ordering::Relaxed);
    let refused = put(&world, "large", &vec![b'x'; 200_000]).await;
    assert_eq!(refused.error(), (503, "SlowDown".into()));
    assert_eq!(get(&world, "large").await.status, 404);
}

#[tokio::test]
async fn a_small_body_is_not_written_for_ever() {
    let world = with_bucket().await;
    let (gateway, lease) = (GatewayId(1), LeaseId(0));
    world.meta.done(Command::CloseLease { gateway, lease });
    let refused = put(&world, "small", &[b'x'; 10_000]).await;
    assert_eq!(refused.error(), (503, "SlowDown".into()));
    assert_eq!(world.shelf.blobs.lock().unwrap().len(), 5);
    assert_eq!(get(&world, "small").await.status, 404);
}
