//! The whole face over a cluster in memory: requests in, answers out.

mod again;
mod answers;
mod bodies;
mod buckets;
pub(crate) mod client;
mod cost;
mod culprits;
mod edited_rows;
mod foreign;
mod memory;
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
    with_bucket_in(World::new().await).await
}

async fn with_bucket_in(world: World) -> World {
    let made = call("PUT", "/box").send(&world).await;
    assert_eq!(made.status, 200, "{}", made.text());
    world
}
