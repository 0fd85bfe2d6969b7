//! What a gateway says of itself, every second. Soft state: none of it is stored.

use crate::ids::{GatewayId, LeaseId};
use std::time::Duration;

/// How often a gateway says it.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// The most leases of one beat. A gateway holds two, and one more for each that is used up while a
/// command of it is under way.
pub const BEAT_LEASES_MAX: usize = 1_024;

/// A gateway lives, holds these leases, and still reads what was there at a place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    pub gateway: GatewayId,
    /// Drawn by the process when it starts: two processes of one number are told apart.
    pub life: u64,
    /// Its open leases, also used-up ones with commands still under way.
    pub leases: Vec<LeaseId>,
    /// The lowest log index at which something was looked up that is still being read.
    pub reading: Option<u64>,
}
