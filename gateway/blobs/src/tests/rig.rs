//! A pipeline on a fake cluster, and what a gateway does around it.

use super::fake::{Conduct, Fake, FakeIo, FakeMeta};
use crate::{
    GetError, Hashes, HeldBody, PartToRead, Payer, Paying, Pipeline, PipelineComponents,
    PipelineSettings, PutError, ReadPlan, Source, SourceError, WrittenBlob,
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use megalith_crypto::DataKey;
use megalith_model::command::NewBlob;
use megalith_model::ids::{BucketId, ClusterId, DiskId, Epoch, GatewayId, NodeId, VolumeId};
use megalith_model::profile::Profile;
use megalith_model::query::BlobView;
use megalith_model::rows::{BlobRow, Proposal, SegmentRow};
use megalith_model::topology::{ClusterMap, Domain, Slot, Volume, VolumeState};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub struct Rig {
    pub pipeline: Pipeline,
    pub fake: Arc<Fake>,
    pub meta: Arc<FakeMeta>,
    pub map: watch::Sender<Arc<ClusterMap>>,
    pub key: Arc<DataKey>,
}

/// The client of a rig.
pub const CLIENT: Payer = Payer::Known(1);

/// Settings with short waits.
pub fn settings() -> PipelineSettings {
    PipelineSettings {
        slot_stall: Duration::from_millis(300),
        receipts_timeout: Duration::from_secs(2),
        straggler_wait: Duration::from_millis(100),
        penalty: Duration::from_millis(200),
        read_timeout: Duration::from_secs(3),
        hedge_after_max: Duration::from_millis(50),
        volume_wait: Duration::from_millis(100),
        memory_wait: Duration::from_millis(300),
        compute_threads: 2,
        ..PipelineSettings::default()
    }
}

impl Rig {
    /// A cluster with `volumes` volumes of k+m, each on nodes of its own: volume v has nodes
    /// `100·v + slot`.
    pub fn new((k, m): (u8, u8), volumes: u64, settings: PipelineSettings) -> Self {
        let profile = Profile::new(k, m).expect("valid");
        let volume = |id: u64| Volume {
            id: VolumeId(id),
            profile,
            epoch: Epoch(3),
            state: VolumeState::Open,
            domain: Domain::Node,
            slots: (0..profile.shards() as u32)
                .map(|slot| slot_at(id, slot))
                .collect(),
            bytes: 0,
            shrunk: false,
        };
        let writable: Vec<Volume> = (1..=volumes).map(volume).collect();
        let alive = writable.iter().flat_map(|volume| &volume.slots);
        let map = ClusterMap {
            alive: alive.map(|slot| slot.node).collect(),
            writable,
            ..ClusterMap::default()
        };
        let (map, watched) = watch::channel(Arc::new(map));
        let (fake, meta) = (Arc::new(Fake::default()), Arc::new(FakeMeta::default()));
        let components = PipelineComponents {
            meta: meta.clone(),
            shards: Arc::new(FakeIo(Arc::clone(&fake))),
            map: watched,
            cluster: ClusterId([7; 16]),
            gateway: GatewayId(1),
            on_lease: Arc::new(|| Box::pin(async { Ok(()) })),
        };
        Self {
            pipeline: Pipeline::start(components, settings),
            fake,
            meta,
            map,
            key: Arc::new(DataKey::generate().expect("random")),
        }
    }

    pub async fn write(&self, plain: &[u8], piece: usize) -> Result<WrittenBlob, PutError> {
        let pieces: Vec<Result<Bytes, SourceError>> = plain
            .chunks(piece.max(1))
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        self.write_stream(futures::stream::iter(pieces), plain.len() as u64)
            .await
    }

    pub async fn write_stream(
        &self,
        pieces: impl Stream<Item = Result<Bytes, SourceError>> + Send + 'static,
        plain_len: u64,
    ) -> Result<WrittenBlob, PutError> {
        let paying = Paying::AsItComes(CLIENT);
        self.write_paying(pieces, plain_len, paying).await
    }

    pub async fn write_paying(
        &self,
        pieces: impl Stream<Item = Result<Bytes, SourceError>> + Send + 'static,
        plain_len: u64,
        paying: Paying,
    ) -> Result<WrittenBlob, PutError> {
        let source = Source::Stream {
            pieces: pieces.boxed(),
            plain_len,
            paying,
        };
        self.write_source(source).await
    }

    pub async fn write_source(&self, source: Source) -> Result<WrittenBlob, PutError> {
        let hashes = Hashes::default();
        let pipeline = &self.pipeline;
        pipeline
            .write_blob(source, &self.key, 0, hashes, &|_| true)
            .await
    }

    /// A small body as a gateway holds it.
    pub async fn hold(&self, plain: &[u8]) -> HeldBody {
        let piece = Ok(Bytes::copy_from_slice(plain));
        let pieces = futures::stream::iter([piece]).boxed();
        let memory = self.pipeline.memory();
        let held = HeldBody::collect(memory, CLIENT, pieces, plain.len() as u64);
        held.await.expect("room")
    }

    /// Returns what a gateway would learn from metadata and manifest.
    pub fn plan(&self, written: &[(&WrittenBlob, u64)]) -> ReadPlan {
        let map = Arc::clone(&self.map.borrow());
        let volumes: Vec<Volume> = map.writable.iter().chain(&map.degraded).cloned().collect();
        let part = |(written, plain_len): &(&WrittenBlob, u64)| PartToRead {
            view: view(&written.blob, &volumes),
            iv: written.iv,
            plain_len: *plain_len,
            part: 0,
        };
        let parts: Vec<PartToRead> = written.iter().map(part).collect();
        let views = parts.iter().map(|part| part.view.clone()).collect();
        *self.meta.rows.lock().expect("no panic") = (views, volumes.clone());
        ReadPlan {
            parts,
            volumes,
            key: Arc::clone(&self.key),
            payer: CLIENT,
            copied_in: None,
            reading: self.pipeline.reads().begin(1),
        }
    }

    pub async fn read(&self, written: &WrittenBlob, len: usize) -> Result<Vec<u8>, GetError> {
        self.read_range(written, len, 0..len).await
    }

    pub async fn read_range(
        &self,
        written: &WrittenBlob,
        len: usize,
        range: Range<usize>,
    ) -> Result<Vec<u8>, GetError> {
        let plan = self.plan(&[(written, len as u64)]);
        self.read_plan(plan, range.start as u64..range.end as u64)
            .await
    }

    pub async fn read_plan(&self, plan: ReadPlan, range: Range<u64>) -> Result<Vec<u8>, GetError> {
        let mut stream = self.pipeline.read(plan, range).await?;
        let mut plain = Vec::new();
        while let Some(piece) = stream.next().await {
            plain.extend_from_slice(&piece?);
        }
        Ok(plain)
    }

    /// Tells the node of a volume's slot how to behave.
    pub fn set(&self, volume: u64, slot: u32, conduct: Conduct) {
        self.fake.set(slot_at(volume, slot).node, conduct);
    }
}

pub fn slot_at(volume: u64, slot: u32) -> Slot {
    let node = 100 * volume as u32 + slot;
    let mut disk = [0; 16];
    disk[..4].copy_from_slice(&node.to_be_bytes());
    Slot {
        node: NodeId(node),
        disk: DiskId(disk),
    }
}

/// Bytes that differ everywhere.
pub fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64 ^ len as u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

fn view(blob: &NewBlob, volumes: &[Volume]) -> BlobView {
    let profile = |id| {
        let volume = volumes.iter().find(|volume| volume.id == id);
        volume.expect("written on a known volume").profile
    };
    let segments = blob.segments.iter().map(|segment| SegmentRow {
        volume: segment.volume,
        profile: profile(segment.volume),
        len: segment.len,
        digests: segment.digests.clone(),
        owed: segment.owed,
        filed: None,
    });
    BlobView {
        blob: blob.blob,
        row: BlobRow {
            bucket: BucketId(1),
            proposal: Proposal {
                attempt: 1,
                digest: [0; 8],
            },
            references: 1,
            len: blob.len,
            shape: blob.shape,
            segments: segments.collect(),
            inline: blob.inline.clone(),
        },
    }
}
