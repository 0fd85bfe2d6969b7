//! What the tests of this role share: seeds, a small generator, identities.

use crate::log::LogIdentity;
use megalith_model::ids::{ClusterId, GroupId, NodeId};

/// A small generator (splitmix64): the same seed gives the same numbers.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// `count` seeds, or the one in `MEGALITH_SEED`. A failing test names its seed.
pub(crate) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let one = std::env::var("MEGALITH_SEED")
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    one.map_or(0..count, |seed| seed..seed + 1)
}

pub(crate) fn log_identity(member: u32) -> LogIdentity {
    LogIdentity {
        cluster: ClusterId([7; 16]),
        member: NodeId(member),
        group: GroupId(0),
        incarnation: 0,
    }
}
