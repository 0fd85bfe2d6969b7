//! A cluster in memory: the real state machine, truly sealed blobs, no network.

use crate::auth::Credentials;
use crate::ops::ports::{Blobs, Plaintext};
use crate::ops::{Store, StoreComponents};
use crate::s3::{Face, FaceParts};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt, stream};
use megalith_blobs::{
    Approve, Busy, GetError, Hasher, Hashes, LeaseError, LeasedId, Memory, Payer, PutError,
    ReadPlan, Reads, Reservation, Source, WrittenBlob,
};
use megalith_client::{ClientError, Metadata, now_ms};
use megalith_crypto::key_id::ID_RANDOM_LEN;
use megalith_crypto::{
    AccessSecret, BlobLayout, CellOpener, CellSealer, Credential, DataKey, KeyRing, RootKey,
    StreamContext, cell::PLAIN_CELL_LEN,
};
use megalith_keyring::Keys;
use megalith_keyring::root::Roots;
use megalith_model::answer::answer;
use megalith_model::claim::{DiskProof, NodeClaim};
use megalith_model::command::{
    Answer, Command, CommandKey, Envelope, NewBlob, NewSegment, Outcome,
};
use megalith_model::entry::Entry;
use megalith_model::ids::{
    AccountId, BlobId, BucketId, ClusterId, DiskId, GatewayId, LeaseId, NodeId, VersionId,
};
use megalith_model::machine::apply;
use megalith_model::profile::Profile;
use megalith_model::query::{Query, Reply};
use megalith_model::question::{self, Question};
use megalith_model::rows::BucketRow;
use megalith_model::shape::{Shape, segments};
use megalith_model::table::{MemRows, Overlay};
use megalith_model::topology::{Disk, Domain, Node, Slot, Volume};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const CLUSTER: ClusterId = ClusterId([9; 16]);
/// The time at which buckets and objects are written; requests are signed with real time.
const TIME_MS: u64 = 1_700_000_000_000;

/// The metadata group in one process.
#[derive(Default)]
pub(crate) struct Meta {
    /// How often somebody asked for the time: it moves on by a second each time.
    ticks: AtomicU64,
    /// How many commands of another gateway there were.
    others: AtomicU64,
    /// By how much it is reckoned wrong, in milliseconds.
    pub(crate) ahead_ms: AtomicU64,
    pub(crate) rows: Mutex<MemRows>,
    /// Which command is lost before it is applied, or loses its answer.
    pub(crate) lose_next: Mutex<Option<Lost>>,
    /// The last command that was lost before it was applied.
    pub(crate) lost: Mutex<Option<Envelope>>,
    /// How often an access key was asked for.
    pub(crate) keys_asked: AtomicU32,
    /// How often a bucket was asked for.
    pub(crate) buckets_asked: AtomicU32,
    /// Whoever has this to write lets no answer about an access key or a bucket through.
    pub(crate) answers: tokio::sync::RwLock<()>,
    /// What another client does just before the next list of parts.
    pub(crate) before_parts: Mutex<Option<Envelope>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    Command,
    Answer,
}

impl Meta {
    pub(crate) fn apply(&self, envelope: &Envelope) -> Answer {
        let mut rows = self.rows.lock().unwrap();
        let mut overlay = Overlay::new(&*rows);
        let entry = Entry::new(TIME_MS, envelope.clone());
        let answer = apply(&mut overlay, &entry).expect("rows are sound");
        let batch = overlay.into_batch();
        rows.write(batch);
        answer
    }

    pub(crate) fn done(&self, command: Command) -> Outcome {
        self.apply(&self.envelope(command)).expect("applied")
    }

    /// Writes a row as somebody does who writes the metadata without asking it.
    pub(crate) fn write(&self, key: Vec<u8>, value: Vec<u8>) {
        let mut rows = self.rows.lock().unwrap();
        let mut overlay = Overlay::new(&*rows);
        overlay.put(key, value);
        let batch = overlay.into_batch();
        rows.write(batch);
    }

    /// A key of another gateway's.
    fn fresh(&self) -> BlobId {
        let (first, _) = LeaseId(1).blobs();
        BlobId(first.0 + self.others.fetch_add(1, Ordering::Relaxed))
    }

    /// Gives a client's command a key of another gateway's.
    pub(crate) fn envelope(&self, command: Command) -> Envelope {
        let fresh = self.fresh();
        let key = CommandKey {
            id: command.brings().unwrap_or(fresh),
            attempt: 1,
            gateway: GatewayId(2),
        };
        Envelope {
            key: command.has_key().then_some(key),
            command,
        }
    }

    pub(crate) fn see<Q: Question>(&self, question: Q) -> Q::Reply {
        let reply = self.answer(&question.into());
        Q::from_reply(reply).expect("a reply to this question")
    }

    fn answer(&self, query: &Query) -> Reply {
        answer(&*self.rows.lock().unwrap(), query, None).expect("rows are sound")
    }
}

impl Metadata for Meta {
    fn propose(&self, envelope: Envelope) -> BoxFuture<'_, Result<Answer, ClientError>> {
        Box::pin(async move {
            let lost = self.lose_next.lock().unwrap().take();
            if lost == Some(Lost::Command) {
                *self.lost.lock().unwrap() = Some(envelope);
                return Err(ClientError::Unavailable("no leader".into()));
            }
            let answer = self.apply(&envelope);
            if lost == Some(Lost::Answer) {
                return Err(ClientError::Unknown("silence".into()));
            }
            Ok(answer)
        })
    }

    fn query_at(&self, query: Query) -> BoxFuture<'_, Result<(Reply, u64), ClientError>> {
        Box::pin(async move {
            if matches!(query, Query::Parts(_))
                && let Some(envelope) = self.before_parts.lock().unwrap().take()
            {
                self.apply(&envelope).expect("applied");
            }
            if matches!(query, Query::Bucket(_)) {
                self.buckets_asked.fetch_add(1, Ordering::Relaxed);
                let _let_through = self.answers.read().await;
            }
            if matches!(query, Query::AccessKey(_)) {
                self.keys_asked.fetch_add(1, Ordering::Relaxed);
                let _let_through = self.answers.read().await;
            }
            Ok((self.answer(&query), 1))
        })
    }

    fn now_ms(&self) -> u64 {
        let ticks_ms = 1000 * self.ticks.fetch_add(1, Ordering::Relaxed);
        TIME_MS + ticks_ms + self.ahead_ms.load(Ordering::Relaxed)
    }
}

/// Blobs in memory, sealed as in production.
pub(crate) struct Shelf {
    pub(crate) blobs: Mutex<HashMap<BlobId, Vec<u8>>>,
    volume: Volume,
    next: AtomicU64,
    pub(crate) memory: Memory,
    reads: Reads,
    /// How many of the next writes a node refuses because of their lease.
    pub(crate) closed_leases: AtomicU32,
}

impl Shelf {
    fn next_id(&self) -> BlobId {
        BlobId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn locate(&self, blob: BlobId, sealed: Vec<u8>) -> NewBlob {
        let len = sealed.len() as u64;
        let mut new = NewBlob {
            blob,
            len,
            shape: Shape::for_len(len),
            segments: Vec::new(),
            inline: Vec::new(),
            leftovers: Vec::new(),
        };
        let digests = match new.shape {
            Shape::Inline => {
                new.inline = sealed;
                return new;
            }
            Shape::Copies => 1,
            Shape::Coded => self.volume.profile.shards(),
        };
        self.blobs.lock().unwrap().insert(blob, sealed);
        let segment = |len| NewSegment {
            volume: self.volume.id,
            epoch: self.volume.epoch,
            len,
            digests: vec![[blob.0 as u8; 16]; digests],
            owed: 0,
        };
        new.segments = segments(len).map(segment).collect();
        new
    }

    async fn seal(
        &self,
        source: Source,
        key: &DataKey,
        part: u32,
        hashes: Hashes,
        approve: Approve<'_>,
    ) -> Result<WrittenBlob, PutError> {
        let closed = |left: u32| left.checked_sub(1);
        let lease = self
            .closed_leases
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, closed);
        if lease.is_ok() {
            return Err(PutError::LeaseClosed { blob: BlobId(0) });
        }
        let held = matches!(source, Source::Held(_));
        let mut hasher = Hasher::new(hashes);
        let mut plain = Vec::new();
        let plain_len = source.plain_len();
        let mut pieces = source.into_pieces();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            hasher.update(&piece);
            plain.extend_from_slice(&piece);
        }
        let found = plain.len() as u64;
        if found != plain_len {
            return Err(PutError::Length {
                expected: plain_len,
                found,
            });
        }
        let hashes = hasher.finish();
        if held && !approve(&hashes) {
            return Err(PutError::Refused);
        }
        let blob = self.next_id();
        let context = StreamContext {
            cluster: CLUSTER.0,
            blob: blob.0,
            part,
        };
        let (mut sealer, iv) = CellSealer::new(key, context)?;
        let mut sealed = Vec::new();
        let mut rest = plain.as_slice();
        loop {
            let (cell, after) = rest.split_at(rest.len().min(PLAIN_CELL_LEN));
            sealer.seal(cell, after.is_empty(), &mut sealed)?;
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        Ok(WrittenBlob {
            id: LeasedId::new(blob, GatewayId(1)),
            blob: self.locate(blob, sealed),
            iv,
            hashes,
        })
    }

    fn open(&self, plan: &ReadPlan) -> Result<Vec<u8>, GetError> {
        let mut plain = Vec::new();
        for part in &plan.parts {
            let blob = part.view.blob;
            let sealed = match part.view.row.shape {
                Shape::Inline => part.view.row.inline.clone(),
                Shape::Copies | Shape::Coded => {
                    let known = plan
                        .volumes
                        .iter()
                        .any(|volume| volume.id == self.volume.id);
                    assert!(known, "the volume comes along");
                    self.blobs.lock().unwrap()[&blob].clone()
                }
            };
            let context = StreamContext {
                cluster: CLUSTER.0,
                blob: blob.0,
                part: part.part,
            };
            let wrong = |_| GetError::Unauthentic { blob };
            let opener = CellOpener::new(&plan.key, context, &part.iv).map_err(wrong)?;
            let layout = BlobLayout::new(part.plain_len).map_err(wrong)?;
            for index in 0..layout.cells() {
                let range = layout.sealed_range(index).map_err(wrong)?;
                let cell = &sealed[range.start as usize..range.end as usize];
                opener
                    .open(index, layout.is_last(index), cell, &mut plain)
                    .map_err(wrong)?;
            }
        }
        Ok(plain)
    }
}

impl Blobs for Shelf {
    fn write<'a>(
        &'a self,
        source: Source,
        key: &'a DataKey,
        part: u32,
        hashes: Hashes,
        approve: Approve<'a>,
    ) -> BoxFuture<'a, Result<WrittenBlob, PutError>> {
        Box::pin(self.seal(source, key, part, hashes, approve))
    }

    fn read(
        &self,
        plan: ReadPlan,
        range: Range<u64>,
    ) -> BoxFuture<'_, Result<Plaintext, GetError>> {
        Box::pin(async move {
            let plain = self.open(&plan)?;
            let bytes = Bytes::from(plain).slice(range.start as usize..range.end as usize);
            Ok(stream::iter([Ok(bytes)]).boxed())
        })
    }

    fn reads(&self) -> &Reads {
        &self.reads
    }

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn reserve_copy(&self, payer: Payer) -> BoxFuture<'_, Result<Reservation, Busy>> {
        Box::pin(self.memory.reserve(payer, 1))
    }

    fn take_id(&self) -> BoxFuture<'_, Result<LeasedId, LeaseError>> {
        Box::pin(async { Ok(LeasedId::new(self.next_id(), GatewayId(1))) })
    }

    fn lease_refused(&self, _lease: LeaseId) {}
}

/// An access key of a test.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// A cluster with a face.
pub(crate) struct World {
    pub(crate) meta: Arc<Meta>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) face: Arc<Face>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) ann: Key,
    pub(crate) bob: Key,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_memory(1 << 30).await
    }

    pub(crate) async fn with_memory(memory: u64) -> Self {
        let meta = Arc::new(Meta::default());
        let volume = furnish(&meta);
        let shelf = Arc::new(Shelf {
            reads: Reads::default(),
            blobs: Mutex::default(),
            volume,
            next: AtomicU64::new(0),
            memory: Memory::new(memory, Duration::from_millis(100)),
            closed_leases: AtomicU32::new(0),
        });
        let shared: Arc<dyn Metadata> = meta.clone();
        let root = RootKey::generate().unwrap();
        let roots = Roots::local(root, "the test's");
        let keys = Keys::open(Arc::clone(&shared), CLUSTER, roots);
        let keys = keys.await.unwrap();
        let store = Store::new(StoreComponents {
            meta: Arc::clone(&shared),
            blobs: shelf.clone(),
            keys: Arc::clone(&keys),
        });
        let credentials = Arc::new(Credentials::new(shared));
        let face = Arc::new(Face::new(FaceParts {
            store,
            credentials,
            base_domains: vec!["s3.test".to_owned()],
            region: "us-east-1".to_owned(),
            body_idle: Duration::from_millis(200),
            requests_max: 100,
            clock: Arc::new(now_ms),
            request_id_seed: 7,
        }));
        let key = |name: &str| Key {
            id: id_of(&keys, name),
            secret: format!("secret of {name}"),
        };
        let (ann, bob) = (key("ANN"), key("BOB"));
        let world = Self {
            meta,
            shelf,
            face,
            keys,
            ann,
            bob,
        };
        world.give(&world.ann, AccountId(1), true);
        world.give(&world.bob, AccountId(2), true);
        world
    }

    /// Returns the ring, which is held.
    pub(crate) fn ring(&self) -> KeyRing {
        at_once(self.keys.begin().ring()).unwrap()
    }

    /// Returns the id of an access key, by a name of a few letters.
    pub(crate) fn key_id(&self, name: &str) -> String {
        id_of(&self.keys, name)
    }

    /// Stores an access key.
    pub(crate) fn give(&self, key: &Key, account: AccountId, enabled: bool) {
        let credential = Credential {
            secret: AccessSecret::new(key.secret.clone()),
            account: account.0,
            enabled,
            account_enabled: true,
            name: String::new(),
        };
        let sealer = self.ring().credentials();
        self.meta.done(Command::PutAccessKey {
            access_key: key.id.clone(),
            account,
            enabled,
            revision: 1,
            sealed_credential: sealer.seal(&key.id, &credential).unwrap(),
        });
    }

    /// Creates a bucket without this gateway's knowledge, as another gateway would.
    pub(crate) fn create_behind(&self, name: &str, account: AccountId) {
        let id = BucketId(self.meta.fresh().0);
        let keys = self.keys.begin();
        let sealed = crate::ops::owner::seal(&keys, id, name, account);
        self.meta.done(Command::CreateBucket {
            id,
            name: name.to_owned(),
            account,
            sealed_owner: at_once(sealed).unwrap(),
        });
    }

    /// Returns a bucket's row.
    pub(crate) fn bucket(&self, name: &str) -> Option<BucketRow> {
        self.meta.see(question::Bucket { name: name.into() })
    }

    /// Returns the current version of an object, by the names of bucket and key.
    pub(crate) fn version(&self, bucket: &str, key: &str) -> Option<VersionId> {
        let bucket = self.bucket(bucket)?;
        let key = key.as_bytes().to_vec();
        let asked = question::Object {
            bucket: bucket.id,
            key,
            version: None,
            with_blobs: false,
        };
        self.meta.see(asked).map(|view| view.row.version)
    }
}

fn at_once<T>(held: impl Future<Output = T>) -> T {
    held.now_or_never().expect("keys are held")
}

fn id_of(keys: &Keys, name: &str) -> String {
    let mut random = [0; ID_RANDOM_LEN];
    random[..name.len()].copy_from_slice(name.as_bytes());
    keys.ids().make(&random)
}

/// Makes nodes, accounts, a volume, and leases for this gateway (0) and another (1).
fn furnish(meta: &Meta) -> Volume {
    meta.done(Command::InitCluster {
        cluster: CLUSTER,
        level: megalith_model::level::KNOWN.highest,
    });
    let disk = |id: u32| DiskId([id as u8; 16]);
    for id in 1..=6 {
        let node = Node {
            id: NodeId(id),
            rpc_address: format!("10.0.0.{id}:7000"),
            data_address: format!("10.0.0.{id}:7001"),
            zone: String::new(),
            disks: vec![Disk {
                id: disk(id),
                capacity: 1 << 40,
            }],
        };
        let claim = NodeClaim::new(node, |_| DiskProof([1; 32]));
        meta.done(Command::RegisterNode(claim));
    }
    for name in ["ann", "bob"] {
        meta.done(Command::CreateAccount {
            name: name.into(),
            request: 0,
        });
    }
    let Outcome::Volume(volume) = meta.done(Command::CreateVolume {
        profile: Profile::new(4, 2).unwrap(),
        domain: Domain::Node,
        slots: (1..=6)
            .map(|id| Slot {
                node: NodeId(id),
                disk: disk(id),
            })
            .collect(),
        shrunk: false,
    }) else {
        panic!("no volume")
    };
    for gateway in [1, 2].map(GatewayId) {
        let request = 0;
        meta.done(Command::OpenLease { gateway, request });
    }
    volume
}
