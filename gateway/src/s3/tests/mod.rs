//! The whole face over a cluster in memory: requests in, answers out.

mod again;
mod answers;
mod bodies;
mod buckets;
pub(crate) mod client;
mod cost;
mod culprits;
mod foreign;
mod objects;
mod places;
mod signatures;
mod times;
mod uploads;
pub(crate) mod world;

use client::call;
use world::World;

/// Returns a world with a bucket that belongs to Ann.
async fn with_bucket() -> World {
    let world = World::new().await;
    let made = call("PUT", "/box").send(&world).await;
    assert_eq!(made.status, 200, "{}", made.text());
    world
}
