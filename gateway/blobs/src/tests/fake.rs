//! A data plane and a metadata group in memory, with nodes that can be told to misbehave.
//!
//! Good nodes do what real ones do: they check every crc on arrival, compute the digest themselves
//! and compare it, and keep nothing of a shard whose write was given up.

use crate::ports::{ShardError, ShardIo, ShardWrite};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, pending};
use megalith_client::framing::unframed;
use megalith_client::{ClientError, Metadata};
use megalith_model::command::{Answer, Command, Envelope, Leftover, Outcome};
use megalith_model::ids::{BlobId, LeaseId, NodeId, VolumeId};
use megalith_model::query::{BlobView, Query, Reply};
use megalith_model::shape::CELL_LEN;
use megalith_model::shard::{Receipt, ShardDigest, ShardId, ShardTarget};
use megalith_model::topology::{Lease, Volume};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    Good,
    Dead,
    /// Accepts a connection and is never heard from.
    Frozen,
    /// Takes this many cells of a write, then breaks.
    BreaksAfter(usize),
    /// Gives a receipt for other bytes.
    WrongReceipt,
    /// Says that the volume is in another epoch.
    StaleEpoch,
    /// Says that the lease is closed.
    LeaseClosed,
    /// Does everything right, but late.
    Slow(Duration),
    /// Finds its own shards damaged.
    Damaged,
    /// Has lost its shards.
    Missing,
    /// Serves wrong bytes with right checksums.
    Lies,
    /// Lies, except to requests for more than this many cells.
    LiesUpTo(u64),
    /// Returns fewer bytes than requested.
    Shortens,
}

/// The nodes.
#[derive(Default)]
pub struct Fake {
    conduct: Mutex<HashMap<NodeId, Conduct>>,
    shards: Mutex<HashMap<ShardTarget, Vec<u8>>>,
    /// (node, cells) of every read.
    pub reads: Mutex<Vec<(NodeId, u64)>>,
    /// Cells that good nodes took.
    pub cells_taken: AtomicUsize,
    /// How many writes a frozen node holds for good.
    pub frozen: watch::Sender<usize>,
}

/// A handle that the pipeline may own.
pub struct FakeIo(pub Arc<Fake>);

impl Fake {
    /// Moves all shards of a volume to another one.
    pub fn move_shards(&self, from: VolumeId, to: &Volume) {
        let mut shards = self.shards.lock().expect("no panic");
        let all = std::mem::take(&mut *shards);
        shards.extend(all.into_iter().map(|(mut target, bytes)| {
            if target.shard.volume == from {
                target.shard.volume = to.id;
                target.at = to.slots[usize::from(target.shard.slot)];
            }
            (target, bytes)
        }));
    }

    pub fn set(&self, node: NodeId, conduct: Conduct) {
        self.conduct.lock().expect("no panic").insert(node, conduct);
    }

    pub fn has(&self, target: &ShardTarget) -> bool {
        self.shards.lock().expect("no panic").contains_key(target)
    }

    pub fn reads_of(&self, node: NodeId) -> usize {
        let reads = self.reads.lock().expect("no panic");
        reads.iter().filter(|(read, _)| *read == node).count()
    }

    /// Returns every byte that is on any node.
    pub fn all_bytes(&self) -> Vec<Vec<u8>> {
        self.shards
            .lock()
            .expect("no panic")
            .values()
            .cloned()
            .collect()
    }

    fn conduct(&self, node: NodeId) -> Conduct {
        let conduct = self.conduct.lock().expect("no panic");
        conduct.get(&node).copied().unwrap_or(Conduct::Good)
    }

    async fn before_write(&self, node: NodeId) -> Result<(), ShardError> {
        match self.conduct(node) {
            Conduct::Dead => Err(ShardError::Node("connection refused".into())),
            Conduct::Frozen => {
                self.frozen.send_modify(|held| *held += 1);
                pending().await
            }
            Conduct::StaleEpoch => Err(ShardError::StaleEpoch),
            Conduct::LeaseClosed => Err(ShardError::LeaseClosed),
            // The delay is what is tested: it is how such a node behaves.
            Conduct::Slow(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Conduct::BreaksAfter(_)
            | Conduct::Good
            | Conduct::WrongReceipt
            | Conduct::Damaged
            | Conduct::Missing
            | Conduct::Lies
            | Conduct::LiesUpTo(_)
            | Conduct::Shortens => Ok(()),
        }
    }

    fn take_cell(
        &self,
        write: &ShardWrite,
        shard: &mut Vec<u8>,
        framed: &Bytes,
    ) -> Result<(), ShardError> {
        if let Conduct::BreaksAfter(cells) = self.conduct(write.target.at.node)
            && shard.len() >= cells * CELL_LEN as usize
        {
            return Err(ShardError::Node("connection reset".into()));
        }
        let cell = unframed(framed);
        let crc = crc_fast::crc32_iscsi(cell).to_le_bytes();
        assert_eq!(crc, framed[cell.len()..], "crc of {write:?}");
        assert!(
            shard.len().is_multiple_of(CELL_LEN as usize),
            "cells before {write:?} are full"
        );
        shard.extend_from_slice(cell);
        self.cells_taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn store(
        &self,
        write: &ShardWrite,
        shard: Vec<u8>,
        digest: ShardDigest,
    ) -> Result<Receipt, ShardError> {
        assert_eq!(shard.len() as u64, write.len, "length of {write:?}");
        let own: ShardDigest = blake3::hash(&shard).into();
        assert_eq!(own, digest, "digest of {write:?}");
        self.shards
            .lock()
            .expect("no panic")
            .insert(write.target, shard);
        let mut digest = own;
        if self.conduct(write.target.at.node) == Conduct::WrongReceipt {
            digest[0] ^= 1;
        }
        Ok(Receipt {
            len: write.len,
            digest,
            epoch: write.epoch,
        })
    }

    fn cells(
        &self,
        target: &ShardTarget,
        first: u64,
        count: u64,
    ) -> Result<Vec<Bytes>, ShardError> {
        let shards = self.shards.lock().expect("no panic");
        let shard = shards.get(target).ok_or(ShardError::NotFound)?;
        let cells = shard.chunks(CELL_LEN as usize);
        let cells = cells.skip(first as usize).take(count as usize);
        Ok(cells.map(Bytes::copy_from_slice).collect())
    }
}

fn spoilt(cells: Vec<Bytes>) -> Vec<Bytes> {
    let spoil = |cell: Bytes| {
        let mut cell = cell.to_vec();
        let middle = cell.len() / 2;
        cell[middle] ^= 0x40;
        Bytes::from(cell)
    };
    cells.into_iter().map(spoil).collect()
}

impl ShardIo for FakeIo {
    fn put_stream(
        &self,
        write: ShardWrite,
        mut body: mpsc::Receiver<Bytes>,
        digest: oneshot::Receiver<ShardDigest>,
    ) -> BoxFuture<'static, Result<Receipt, ShardError>> {
        let fake = Arc::clone(&self.0);
        async move {
            fake.before_write(write.target.at.node).await?;
            let mut shard = Vec::new();
            while let Some(framed) = body.recv().await {
                fake.take_cell(&write, &mut shard, &framed)?;
            }
            let given_up = |_| ShardError::Node("body given up".into());
            let digest = digest.await.map_err(given_up)?;
            fake.store(&write, shard, digest)
        }
        .boxed()
    }

    fn put_whole(
        &self,
        write: ShardWrite,
        cells: Vec<Bytes>,
        digest: ShardDigest,
    ) -> BoxFuture<'static, Result<Receipt, ShardError>> {
        let fake = Arc::clone(&self.0);
        async move {
            fake.before_write(write.target.at.node).await?;
            let mut shard = Vec::new();
            for framed in &cells {
                fake.take_cell(&write, &mut shard, framed)?;
            }
            fake.store(&write, shard, digest)
        }
        .boxed()
    }

    fn get(
        &self,
        target: ShardTarget,
        _len: u64,
        first: u64,
        count: u64,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, ShardError>> {
        let fake = Arc::clone(&self.0);
        async move {
            let node = target.at.node;
            fake.reads.lock().expect("no panic").push((node, count));
            let cells = fake.cells(&target, first, count);
            match fake.conduct(node) {
                Conduct::Dead => Err(ShardError::Node("connection refused".into())),
                Conduct::Frozen => pending().await,
                Conduct::Damaged => Err(ShardError::Damaged),
                Conduct::Missing => Err(ShardError::NotFound),
                // As for writes: the node's own delay.
                Conduct::Slow(time) => {
                    tokio::time::sleep(time).await;
                    cells
                }
                Conduct::Lies => Ok(spoilt(cells?)),
                Conduct::LiesUpTo(max) if count <= max => Ok(spoilt(cells?)),
                Conduct::Shortens => Ok(cells?.into_iter().map(|cell| cell.slice(1..)).collect()),
                Conduct::LiesUpTo(_)
                | Conduct::Good
                | Conduct::BreaksAfter(_)
                | Conduct::WrongReceipt
                | Conduct::StaleEpoch
                | Conduct::LeaseClosed => cells,
            }
        }
        .boxed()
    }
}

/// The fake metadata group: leases, and doubts.
#[derive(Default)]
pub struct FakeMeta {
    pub opened: AtomicUsize,
    /// What writes have left behind.
    pub discarded: watch::Sender<Vec<(BlobId, Vec<Leftover>)>>,
    /// Shards in doubt, and whether they are said to be damaged.
    pub doubted: Mutex<Vec<(ShardId, bool)>>,
    /// What a reader that looks again is told: the blobs that there are, and the volumes.
    pub rows: Mutex<(Vec<BlobView>, Vec<Volume>)>,
}

impl Metadata for FakeMeta {
    fn propose(&self, envelope: Envelope) -> BoxFuture<'_, Result<Answer, ClientError>> {
        let outcome = match envelope.command {
            Command::OpenLease { gateway, request } => {
                let number = self.opened.fetch_add(1, Ordering::Relaxed) as u64;
                Outcome::Lease(Lease {
                    id: LeaseId(number),
                    gateway,
                    request,
                })
            }
            Command::DiscardBlob { leftovers } => {
                let blob = envelope.key.expect("a client's").id;
                self.discarded
                    .send_modify(|all| all.push((blob, leftovers)));
                Outcome::Done
            }
            Command::CloseLease { .. } => Outcome::Done,
            Command::RaiseDoubts(doubts) => {
                let mut doubted = self.doubted.lock().expect("no panic");
                doubted.extend(doubts.iter().map(|doubt| (doubt.shard, doubt.damaged)));
                Outcome::Done
            }
            other => panic!("{other:?}"),
        };
        async move { Ok(Ok(outcome)) }.boxed()
    }

    fn now_ms(&self) -> u64 {
        1
    }

    fn query_at(&self, query: Query) -> BoxFuture<'_, Result<(Reply, u64), ClientError>> {
        let (blobs, volumes) = self.rows.lock().expect("no panic").clone();
        let reply = match query {
            Query::Blobs(asked) => {
                let asked = |view: &BlobView| asked.blobs.contains(&view.blob);
                Reply::Blobs(blobs.into_iter().filter(asked).collect())
            }
            Query::Volumes(asked) => {
                let asked = |volume: &Volume| asked.volumes.contains(&volume.id);
                Reply::Volumes(volumes.into_iter().filter(asked).collect())
            }
            other => panic!("the pipeline does not ask {other:?}"),
        };
        async move { Ok((reply, 1)) }.boxed()
    }
}
