//! Says every second to the metadata leader what this gateway holds and reads, and hears the time.

use megalith_blobs::Pipeline;
use megalith_client::MetaClient;
use megalith_model::beat::{BEAT_INTERVAL, BEAT_LEASES_MAX, Beat};
use megalith_model::ids::GatewayId;
use std::error::Error;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How long a beat waits for its answer. When one has had none, clients aren't kept waiting either.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Beats until it is dropped. `life` is drawn for this process.
pub(super) async fn beat(meta: MetaClient, gateway: GatewayId, life: u64, pipeline: Pipeline) {
    let mut ticks = interval(BEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut well = true;
    loop {
        ticks.tick().await;
        let mut leases = pipeline.leases().held();
        leases.truncate(BEAT_LEASES_MAX);
        let beat = Beat {
            gateway,
            life,
            leases,
            reading: pipeline.reads().lowest(),
        };
        match meta.beat(&beat, PATIENCE).await {
            Ok(()) if well => {}
            Ok(()) => {
                tracing::info!("the metadata leader hears this gateway again");
                well = true;
            }
            Err(error) if well => {
                let error: &dyn Error = &error;
                tracing::warn!(error, "the metadata leader doesn't hear this gateway");
                well = false;
            }
            Err(error) => tracing::debug!(%error, "still not heard"),
        }
    }
}
