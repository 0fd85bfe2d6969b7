//! Backups under writes, with broken streams and broken files.

use super::take::take_within;
use super::*;
use crate::MetaStore;
use crate::engine::{
    DiskEngines, END_KEY, EngineKind, EngineSettings, EngineView, Engines, FIRST_KEY, MemEngines,
    choose,
};
use crate::log::{Conf, LogIdentity, LogSettings, Mark, MetaLog};
use crate::snapshot::{SnapshotSource, SourceSettings, fetch};
use crate::tables::Tables;
use crate::testing::{Rng, log_identity, seeds};
use crate::transport::{SnapshotPieces, Transport};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use megalith_disk::RealFs;
use megalith_model::ids::NodeId;
use megalith_model::keys::RowKey;
use megalith_model::table::{Batch, MemRows, Overlay};
use megalith_proto::v1;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;

const PAUSE: Duration = Duration::from_micros(10);

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// What happens to a piece on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The stream ends before it.
    Cut,
    /// A byte of it is flipped.
    Flipped,
    /// The member forgets the stream.
    Forgotten,
}

/// A member whose rows change while they are streamed, behind a way that breaks.
struct Shaky {
    tables: Arc<Tables>,
    source: Mutex<SnapshotSource>,
    rng: Mutex<Rng>,
    index: AtomicU64,
    /// The rows after each write.
    models: Mutex<BTreeMap<u64, Model>>,
    faults: u64,
}

fn rows_of_values(rng: &mut Rng) -> Batch {
    let nothing = MemRows::default();
    let mut overlay = Overlay::new(&nothing);
    for _ in 0..1 + rng.below(6) {
        // Name rows: opaque to what a restore changes.
        let key = RowKey::Name {
            bucket: megalith_model::ids::BucketId(1),
            key: vec![rng.below(16) as u8, rng.below(16) as u8].into(),
        };
        if rng.below(4) == 0 {
            overlay.delete(key.encode());
        } else {
            overlay.put(key.encode(), vec![rng.next() as u8; rng.below(60) as usize]);
        }
    }
    overlay.into_batch()
}

impl Shaky {
    fn new(seed: u64, faults: u64) -> Self {
        let engines = match seed % 2 {
            0 => MemEngines::default(),
            _odd => MemEngines::without_snapshots(),
        };
        let engine = engines.open("engine-0").expect("open");
        let conf = Conf::of_voters([NodeId(1)]);
        let tables = Arc::new(Tables::new("engine-0".into(), engine, true, conf));
        let source = Mutex::new(fresh_source(&tables, 1));
        let shaky = Self {
            tables,
            source,
            rng: Mutex::new(Rng::new(seed)),
            index: AtomicU64::default(),
            models: Mutex::default(),
            faults,
        };
        (0..300).for_each(|_| shaky.write());
        shaky
    }

    fn write(&self) {
        let mut rng = self.rng.lock().expect("lock");
        let index = self.index.fetch_add(1, Ordering::SeqCst) + 1;
        self.tables
            .write(&rows_of_values(&mut rng), Mark { index, term: 3 })
            .expect("write");
        let rows = self.tables.read(model).expect("whole");
        self.models.lock().expect("lock").insert(index, rows);
    }

    fn fault(&self) -> Fault {
        let mut rng = self.rng.lock().expect("lock");
        if self.faults == 0 || rng.below(self.faults) > 0 {
            return Fault::None;
        }
        [Fault::Cut, Fault::Flipped, Fault::Forgotten][rng.below(3) as usize]
    }
}

fn fresh_source(tables: &Arc<Tables>, life: u64) -> SnapshotSource {
    let settings = SourceSettings {
        piece_bytes: 400,
        bytes_per_second: u64::MAX,
        ..SourceSettings::default()
    };
    SnapshotSource::new(tables.clone(), settings, life << 32)
}

impl BackupSource for Shaky {
    fn rows(
        &self,
        request: v1::SnapshotRequest,
        _broken: u32,
    ) -> BoxFuture<'_, Result<SnapshotPieces, Status>> {
        async move {
            let stream = {
                let source = self.source.lock().expect("lock");
                source.stream(9, &request)?
            };
            let mut taken = Vec::new();
            let mut pieces = ReceiverStream::new(stream);
            // As many pieces as come through before the way breaks.
            loop {
                let Some(piece) = pieces.next().await else {
                    break;
                };
                let mut piece = piece?;
                match self.fault() {
                    Fault::None => {}
                    Fault::Cut => break,
                    Fault::Flipped => {
                        let row = piece.rows.iter_mut().find(|row| !row.value.is_empty());
                        let Some(row) = row else { break };
                        let mut value = row.value.to_vec();
                        value[0] ^= 4;
                        row.value = value.into();
                        taken.push(Ok(piece));
                        break;
                    }
                    Fault::Forgotten => {
                        let life = self.index.load(Ordering::SeqCst);
                        *self.source.lock().expect("lock") = fresh_source(&self.tables, life);
                        break;
                    }
                }
                let last = piece.last;
                taken.push(Ok(piece));
                if last {
                    // Written behind the backup's place: not in it.
                    break;
                }
                self.write();
            }
            Ok(futures::stream::iter(taken).boxed())
        }
        .boxed()
    }
}

impl Transport for Arc<Shaky> {
    fn send(&self, _message: v1::RaftMessage) -> bool {
        false
    }

    fn snapshot(
        &self,
        _peer: NodeId,
        request: v1::SnapshotRequest,
    ) -> BoxFuture<'static, Result<SnapshotPieces, Status>> {
        let shaky = self.clone();
        async move { shaky.rows(request, 0).await }.boxed()
    }

    fn knock(
        &self,
        _peer: NodeId,
        _request: v1::KnockRequest,
    ) -> BoxFuture<'static, Result<v1::KnockReply, Status>> {
        async { Err(Status::unavailable("there is nobody")) }.boxed()
    }
}

/// A member that is far behind fetches over the same way.
#[tokio::test]
async fn a_snapshot_under_writes_and_faults_is_the_rows_of_its_place() {
    for seed in seeds(4) {
        let shaky = Arc::new(Shaky::new(seed, 12));
        let engines = Arc::new(MemEngines::default());
        let transport = Arc::new(shaky.clone());
        let group = identity().group;
        let fetched = fetch(
            engines.clone(),
            transport,
            group,
            NodeId(9),
            1,
            megalith_model::level::KNOWN,
        )
        .await;
        let fetched = fetched.expect("fetched");
        let engine = engines.open(&fetched.name).expect("open");
        assert_eq!(engine.applied(), fetched.mark);
        let models = shaky.models.lock().expect("lock");
        let wrong = models[&fetched.mark.index] != model(engine.as_ref());
        assert!(!wrong, "seed {seed}, place {:?}", fetched.mark);
    }
}

fn model(engine: &dyn EngineView) -> Model {
    let mut rows = Model::new();
    engine
        .scan(FIRST_KEY, END_KEY, &mut |key, value| {
            rows.insert(key.to_vec(), value.to_vec());
            true
        })
        .expect("scan");
    rows
}

fn identity() -> LogIdentity {
    log_identity(1)
}

fn settings(kind: EngineKind) -> EngineSettings {
    EngineSettings {
        kind,
        cache_bytes: 8 << 20,
        ..EngineSettings::default()
    }
}

/// Restores as a node does it.
fn restore_into(from: &Path, dir: &Path, kind: EngineKind) -> Result<Restored, BackupError> {
    let state = dir.join("state");
    let make = || -> Result<Arc<dyn Engines>, BackupError> {
        fs::create_dir(&state).map_err(io_error("create", &state))?;
        MetaStore::init(Arc::new(RealFs), dir, identity(), &[NodeId(1), NodeId(2)])
            .expect("a new member");
        Ok(Arc::new(DiskEngines::new(&state, settings(kind))))
    };
    let voters = [NodeId(1), NodeId(2)];
    restore(from, dir, identity(), &voters, Arc::new(RealFs), make)
}

async fn backed_up(seed: u64, faults: u64, dir: &Path) -> (BackupCard, Model) {
    let source = Shaky::new(seed, faults);
    let identity = identity();
    let card = take_within(&source, identity.cluster, identity.group, dir, PAUSE)
        .await
        .expect("a backup");
    let rows = source.models.lock().expect("lock").remove(&card.mark.index);
    (card, rows.expect("a place that was written"))
}

#[tokio::test]
async fn a_backup_under_writes_and_faults_restores_to_its_place() {
    for seed in seeds(12) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (from, to) = (dir.path().join("backup"), dir.path().join("member"));
        let (card, expected) = backed_up(seed, 20, &from).await;
        let restored = restore_into(&from, &to, EngineKind::Fjall).expect("restored");
        assert!(!unfinished(&to));
        assert_eq!(restored.mark.index, card.mark.index, "seed {seed}");
        assert!(restored.mark.term > card.mark.term + 1_000_000);
        let fs = Arc::new(RealFs);
        let log = MetaLog::open(fs, &to.join("log"), identity(), LogSettings::default());
        let log = log.expect("a log");
        assert_eq!(log.prev(), restored.mark);
        assert_eq!(log.conf().voters, [1, 2]);
        let engines = DiskEngines::new(to.join("state"), settings(EngineKind::Fjall));
        let choice = choose(&engines, &log, false).expect("an engine");
        assert!(!choice.needs_snapshot);
        assert_eq!(choice.engine.applied(), restored.mark);
        let names = |rows: Model| -> Model {
            let is_name = |key: &Vec<u8>| matches!(RowKey::decode(key), Ok(RowKey::Name { .. }));
            rows.into_iter().filter(|(key, _)| is_name(key)).collect()
        };
        let found = names(model(choice.engine.as_ref()));
        let expected = names(expected);
        let differs = |key: &&Vec<u8>| found.get(*key) != expected.get(*key);
        let wrong: Vec<_> = found
            .keys()
            .chain(expected.keys())
            .filter(differs)
            .collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
    }
}

#[tokio::test]
async fn one_wrong_byte_anywhere_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let from = dir.path().join("backup");
    backed_up(1, 0, &from).await;
    let mut rng = Rng::new(7);
    for file in ["backup", "rows"] {
        let path = from.join(file);
        let whole = fs::read(&path).expect("read");
        for turn in 0..60_u64 {
            let mut bytes = whole.clone();
            let at = rng.below(bytes.len() as u64) as usize;
            match turn % 3 {
                0 => bytes[at] ^= 1 << rng.below(8),
                1 => bytes.truncate(at),
                _ => bytes.push(b'\n'),
            }
            fs::write(&path, &bytes).expect("write");
            let to = dir.path().join("member");
            let refused = restore_into(&from, &to, EngineKind::Fjall);
            assert!(refused.is_err(), "{file}, turn {turn}, byte {at}");
            assert!(!to.exists(), "{file}, turn {turn}");
        }
        fs::write(&path, &whole).expect("write");
    }
    restore_into(&from, &dir.path().join("member"), EngineKind::Fjall).expect("whole again");
}

#[tokio::test]
async fn nothing_that_is_there_is_overwritten() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (from, to) = (dir.path().join("backup"), dir.path().join("member"));
    backed_up(2, 0, &from).await;
    let source = Shaky::new(3, 0);
    let again = take_within(&source, identity().cluster, identity().group, &from, PAUSE).await;
    assert!(
        matches!(again, Err(BackupError::NotEmpty { .. })),
        "{again:?}"
    );
    restore_into(&from, &to, EngineKind::Sled).expect("restored");
    let again = restore_into(&from, &to, EngineKind::Sled);
    assert!(
        matches!(again, Err(BackupError::NotEmpty { .. })),
        "{again:?}"
    );

    // One that was cut off is begun again.
    fs::write(to.join("restoring"), "").expect("write");
    assert!(unfinished(&to));
    restore_into(&from, &to, EngineKind::Sled).expect("restored again");

    let other = LogIdentity {
        cluster: megalith_model::ids::ClusterId([9; 16]),
        ..identity()
    };
    let foreign = BackupCard::read(&from, other.cluster);
    assert!(matches!(foreign, Err(BackupError::Foreign { .. })));
}

#[tokio::test]
async fn a_source_that_never_comes_back_leaves_no_card() {
    struct Dead;
    impl BackupSource for Dead {
        fn rows(
            &self,
            _request: v1::SnapshotRequest,
            _broken: u32,
        ) -> BoxFuture<'_, Result<SnapshotPieces, Status>> {
            async { Err(Status::unavailable("nobody")) }.boxed()
        }
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let from = dir.path().join("backup");
    let refused = take_within(&Dead, identity().cluster, identity().group, &from, PAUSE).await;
    assert!(
        matches!(refused, Err(BackupError::Stream(_))),
        "{refused:?}"
    );
    assert!(BackupCard::read(&from, identity().cluster).is_err());
}
