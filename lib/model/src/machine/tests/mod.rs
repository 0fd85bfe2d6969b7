//! Shared by the tests of the state machine and of answers: rows in memory, and short ways to build
//! commands.

mod costs;
mod denied;
mod discard;
mod disks;
mod doomed;
pub(crate) mod golden;
mod once;
pub(crate) mod owed;
mod random;
mod rotation;
mod rules;
mod settings;
mod sizes;

use crate::audit::audit;
use crate::claim::{DiskProof, NodeClaim};
use crate::command::{
    Answer, Command, CommandKey, Condition, Envelope, NewBlob, NewSegment, ObjectBlobs, Outcome,
    PutObject,
};
use crate::entry::Entry;
use crate::ids::{
    AccountId, BlobId, BucketId, DiskId, GatewayId, LeaseId, NodeId, UploadId, VersionId, VolumeId,
};
use crate::keys::{RowKey, Table};
use crate::lookup;
use crate::machine::{apply, read};
use crate::profile::Profile;
use crate::shape::{CELL_LEN, Shape, segments};
use crate::table::{Batch, MemRows, Overlay, Rows as _};
use crate::topology::{Disk, Domain, Lease, Node, Slot, Volume};

pub(crate) struct World {
    pub(crate) rows: MemRows,
    pub(crate) time_ms: u64,
    pub(crate) log: Vec<Entry>,
    /// How many keys were made.
    pub(crate) keys: u32,
    /// Fresh keys are taken from its end.
    pub(crate) lease: LeaseId,
}

/// The gateway of all leases, unless a test says another.
pub(crate) const GATEWAY: GatewayId = GatewayId(1);

pub(crate) fn disk_id(node: u32) -> DiskId {
    DiskId([node as u8; 16])
}

/// Returns whether a batch holds nothing but what is remembered of a command, and the time.
pub(crate) fn only_remembers(batch: &Batch) -> bool {
    let clock = RowKey::Meta(crate::keys::Meta::Clock).encode();
    batch
        .iter()
        .all(|(key, _)| key[0] == Table::Spent as u8 || *key == clock)
}

/// Adds an account.
pub(crate) fn account(name: &str, request: u64) -> Command {
    Command::CreateAccount {
        name: name.into(),
        request,
    }
}

/// The bucket of a world that is ready.
pub(crate) const BOX: BucketId = BucketId(50_001);

/// Adds a bucket of an account. Its id is a key of the first lease that no blob of a test has.
pub(crate) fn bucket(id: u64, name: &str, account: u64) -> Command {
    Command::CreateBucket {
        id: BucketId(id),
        name: name.into(),
        account: AccountId(account),
        sealed_owner: vec![7],
    }
}

pub(crate) fn node(id: u32) -> Node {
    Node {
        id: NodeId(id),
        rpc_address: format!("10.0.0.{id}:7000"),
        data_address: format!("10.0.0.{id}:7001"),
        zone: String::new(),
        disks: vec![Disk {
            id: disk_id(id),
            capacity: 1 << 40,
        }],
    }
}

/// The proof of the rightful owner of a disk.
pub(crate) fn proof(disk: DiskId) -> DiskProof {
    DiskProof([disk.0[0]; 32])
}

pub(crate) fn claim(node: Node) -> NodeClaim {
    NodeClaim::new(node, proof)
}

/// When worlds begin.
pub(crate) const BEGIN_MS: u64 = 1_000_000;

pub(crate) fn version(number: u64) -> VersionId {
    VersionId::new(BEGIN_MS + number, [7; 8])
}

pub(crate) fn upload(number: u64) -> UploadId {
    UploadId::new(BEGIN_MS + number, [0; 8])
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            rows: MemRows::default(),
            time_ms: BEGIN_MS,
            log: Vec::new(),
            keys: 0,
            lease: LeaseId(0),
        }
    }

    /// A world with six nodes, one account, one lease (0), one bucket ([`BOX`]) and one volume
    /// of 4+2 (1).
    pub(crate) fn ready() -> Self {
        let mut world = Self::new();
        for id in 1..=6 {
            world.register(node(id));
        }
        world.done(account("ann", 1));
        world.lease();
        world.done(bucket(BOX.0, "box", 1));
        world.volume(4, 2);
        world
    }

    pub(crate) fn apply(&mut self, envelope: Envelope) -> (Answer, Batch) {
        let entry = Entry::new(self.time_ms, envelope);
        let mut overlay = Overlay::new(&self.rows);
        let answer = apply(&mut overlay, &entry).expect("rows in memory agree");
        let batch = overlay.into_batch();
        self.rows.write(batch.clone());
        self.log.push(entry);
        (answer, batch)
    }

    /// Makes the next attempt at a command: under its blob's id, or a fresh one from the end of
    /// the newest lease, if it has a key.
    pub(crate) fn envelope(&mut self, command: Command) -> Envelope {
        self.keys += 1;
        let fresh = BlobId(self.lease.blobs().1.0 - u64::from(self.keys));
        let key = CommandKey {
            id: command.brings().unwrap_or(fresh),
            attempt: self.keys,
            gateway: GATEWAY,
        };
        Envelope {
            key: command.has_key().then_some(key),
            command,
        }
    }

    /// The id of the last command that was a client's and brought no blob.
    pub(crate) fn last_key(&self) -> BlobId {
        let keys = self
            .log
            .iter()
            .filter(|entry| entry.envelope.command.new_blob().is_none());
        let last = keys.filter_map(|entry| entry.envelope.key).next_back();
        last.expect("there was one").id
    }

    /// Applies it as an attempt of its own.
    pub(crate) fn attempt(&mut self, command: Command) -> (Answer, Batch) {
        let envelope = self.envelope(command);
        self.apply(envelope)
    }

    /// As [`World::attempt`]; checks that a refused command changes nothing but what
    /// is remembered of it.
    pub(crate) fn try_apply(&mut self, command: Command) -> Answer {
        let (answer, batch) = self.attempt(command);
        assert!(
            answer.is_ok() || only_remembers(&batch),
            "{answer:?} left {batch:?}"
        );
        answer
    }

    pub(crate) fn done(&mut self, command: Command) -> Outcome {
        self.try_apply(command).expect("accepted")
    }

    pub(crate) fn register(&mut self, node: Node) {
        self.done(Command::RegisterNode(claim(node)));
    }

    pub(crate) fn lease(&mut self) -> Lease {
        self.keys += 1;
        let command = Command::OpenLease {
            gateway: GATEWAY,
            request: self.keys.into(),
        };
        match self.done(command) {
            Outcome::Lease(lease) => {
                self.lease = lease.id;
                lease
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn volume(&mut self, data: u8, parity: u8) -> Volume {
        let profile = Profile::new(data, parity).expect("valid");
        let slots = (1..=profile.shards() as u32)
            .map(|id| Slot {
                node: NodeId(id),
                disk: disk_id(id),
            })
            .collect();
        let command = Command::CreateVolume {
            profile,
            domain: Domain::Node,
            slots,
            shrunk: false,
        };
        match self.done(command) {
            Outcome::Volume(volume) => volume,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn row<T: crate::kinds::Stored>(&self, key: &RowKey<'_>) -> Option<T> {
        read(&self.rows, key).expect("rows in memory")
    }

    pub(crate) fn exists(&self, key: &RowKey<'_>) -> bool {
        self.rows
            .get(&key.encode())
            .expect("rows in memory")
            .is_some()
    }

    pub(crate) fn volume_row(&self, id: u64) -> Volume {
        let volume = lookup::volume(&self.rows, VolumeId(id)).expect("rows in memory");
        volume.expect("there")
    }

    /// A blob of `len` bytes, shaped by its length, on `volume`.
    pub(crate) fn blob(&self, id: u64, len: u64, volume: u64) -> NewBlob {
        let shape = Shape::for_len(len);
        let mut new = NewBlob {
            blob: BlobId(id),
            len,
            shape,
            segments: Vec::new(),
            inline: Vec::new(),
            leftovers: Vec::new(),
        };
        if shape == Shape::Inline {
            new.inline = vec![id as u8; len as usize];
            return new;
        }
        let volume = self.volume_row(volume);
        let digests = match shape {
            Shape::Copies => 1,
            Shape::Coded | Shape::Inline => volume.profile.shards(),
        };
        new.segments = segments(len)
            .map(|len| NewSegment {
                volume: volume.id,
                epoch: volume.epoch,
                len,
                digests: vec![[id as u8; 16]; digests],
                owed: 0,
            })
            .collect();
        new
    }

    /// Checks that no row contradicts another.
    pub(crate) fn audited(&self) {
        let problems = audit(&self.rows).expect("every row can be read");
        assert!(problems.is_empty(), "{problems:#?}");
        let problems = crate::check::tests::check(&self.rows);
        assert!(problems.is_empty(), "{problems:#?}");
    }
}

/// An object in [`BOX`].
pub(crate) fn put(key: &str, number: u64, blobs: ObjectBlobs) -> PutObject {
    PutObject {
        bucket: BOX,
        key: key.as_bytes().to_vec(),
        version: version(number),
        size: 100,
        condition: Condition::None,
        wrapped_key: vec![1; 4],
        sealed_manifest: vec![2; 4],
        sealed_listing: vec![3; 4],
        blobs,
    }
}

pub(crate) fn put_command(put: PutObject) -> Command {
    Command::PutObject(Box::new(put))
}

pub(crate) fn coded_len(cells: u64) -> u64 {
    cells * CELL_LEN
}
