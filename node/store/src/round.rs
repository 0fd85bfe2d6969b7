//! One round of the writer: requests that share a write and a sync, and what becomes visible when
//! that went well.

use super::core::Core;
use super::error::StoreError;
use super::op::{Done, Op};
use super::shard::{Entry, Extent};
use megalith_model::ids::{Epoch, VolumeId};
use megalith_model::shard::{ShardId, ShardKey};
use std::collections::{BTreeSet, HashSet};

/// Requests that are written and synced together.
#[derive(Default)]
pub(super) struct Round {
    pub(super) staged: Vec<Staged>,
    shards: HashSet<ShardId>,
    fenced: HashSet<VolumeId>,
}

/// A request whose records wait to be written.
pub(super) struct Staged {
    /// Files it needs to be durable (or, without effects, only written).
    pub(super) touched: Vec<(VolumeId, u32)>,
    pub(super) effects: Vec<Effect>,
    pub(super) answer: Result<Done, StoreError>,
}

/// What readers see once it is durable.
pub(super) enum Effect {
    /// A file's new last word on a shard.
    Entry {
        volume: VolumeId,
        seq: u32,
        key: ShardKey,
        entry: Entry,
    },
    /// A shard's bytes mean nothing any more.
    Dead {
        volume: VolumeId,
        seq: u32,
        extent: Extent,
    },
    /// A stream came to its end.
    StreamEnd { stream: u64 },
    /// The volume is at this epoch, if not beyond.
    Fence { volume: VolumeId, epoch: Epoch },
}

impl Effect {
    /// The volume it changes; None for a stream's end.
    pub(super) fn volume(&self) -> Option<VolumeId> {
        match self {
            Self::Entry { volume, .. } | Self::Dead { volume, .. } | Self::Fence { volume, .. } => {
                Some(*volume)
            }
            Self::StreamEnd { .. } => None,
        }
    }
}

impl Staged {
    /// Nothing to write.
    pub(super) fn answered(answer: Result<Done, StoreError>) -> Self {
        Self {
            touched: Vec::new(),
            effects: Vec::new(),
            answer,
        }
    }
}

impl Round {
    /// True if the request must see the effects of this round.
    pub(super) fn must_precede(&self, op: &Op) -> bool {
        match op {
            Op::Append(append) => {
                self.fenced.contains(&append.shard.volume)
                    || (append.last.is_some() && self.shards.contains(&append.shard))
            }
            Op::Delete { shards } => shards.iter().any(|shard| self.shards.contains(shard)),
            Op::Fence { volume, .. } => self.fenced.contains(volume),
            Op::Abandon { .. } => false,
        }
    }

    pub(super) fn note(&mut self, op: &Op) {
        match op {
            Op::Append(append) => {
                if append.last.is_some() {
                    self.shards.insert(append.shard);
                }
            }
            Op::Delete { shards } => self.shards.extend(shards),
            Op::Fence { volume, .. } => {
                self.fenced.insert(*volume);
            }
            Op::Abandon { .. } => {}
        }
    }

    /// The files that must be synced.
    pub(super) fn durable_files(&self) -> BTreeSet<(VolumeId, u32)> {
        let durable = self
            .staged
            .iter()
            .filter(|staged| !staged.effects.is_empty());
        durable
            .flat_map(|staged| staged.touched.iter().copied())
            .collect()
    }
}

impl Core {
    /// Makes a durable change visible.
    pub(super) fn show(&mut self, effect: Effect) {
        match effect {
            Effect::Entry {
                volume,
                seq,
                key,
                entry,
            } => {
                self.catalog.health.forget_damaged(key.of(volume));
                if let Some(volume) = self.catalog.volume(volume)
                    && let Some(view) = volume.write().open.get_mut(&seq)
                {
                    view.remember(key, entry);
                }
            }
            Effect::Dead {
                volume,
                seq,
                extent,
            } => self.forget_records(volume, seq, extent.blocks().collect()),
            Effect::StreamEnd { stream } => {
                self.end_stream(stream);
            }
            Effect::Fence { volume, epoch } => {
                if let Some(volume) = self.catalog.volume(volume) {
                    let mut state = volume.write();
                    state.fence = state.fence.max(epoch);
                }
            }
        }
    }
}
