//! One of each command and answer.

use crate::claim::{DiskRefusal, RefusedDisk};
use crate::command::{
    Answer, Command, Condition, Leftover, NewBlob, NewDoubt, NewSegment, ObjectBlobs, Outcome,
    PutObject, Refusal, ShardFill, ShardMark, Verdict,
};
use crate::ids::{
    AccountId, BlobId, BucketId, ClusterId, DiskId, Epoch, GatewayId, LeaseId, NodeId, UploadId,
    VersionId, VolumeId,
};
use crate::level::Level;
use crate::machine::tests::{claim, golden, node};
use crate::profile::Profile;
use crate::rotation::{Resealed, Rotation};
use crate::rows::{AccountRow, BucketRow};
use crate::settings::Settings;
use crate::shape::Shape;
use crate::shard::ShardId;
use crate::topology::{ClusterMap, Domain, Lease, Slot, Volume, VolumeState};

const BUCKET: BucketId = BucketId(300);
const DISK: DiskId = DiskId([4; 16]);
const UPLOAD: UploadId = UploadId([3; 16]);
const BLOB: BlobId = BlobId(7);
const VOLUME: VolumeId = VolumeId(5);
const EPOCH: Epoch = Epoch(2);
const NODE: NodeId = NodeId(6);

fn key() -> Vec<u8> {
    b"key".to_vec()
}

fn shard() -> ShardId {
    ShardId {
        volume: VOLUME,
        blob: BLOB,
        segment: 1,
        slot: 2,
    }
}

fn profile() -> Profile {
    Profile::new(2, 1).expect("a profile")
}

fn slots() -> Vec<Slot> {
    let slot = |number: u8| Slot {
        node: NodeId(number.into()),
        disk: DiskId([number; 16]),
    };
    (1..=3).map(slot).collect()
}

fn lease() -> Lease {
    Lease {
        id: LeaseId(8),
        gateway: GatewayId(9),
        request: 300,
    }
}

fn volume() -> Volume {
    Volume {
        id: VOLUME,
        profile: profile(),
        epoch: EPOCH,
        state: VolumeState::Open,
        domain: Domain::Disk,
        slots: slots(),
        bytes: 70_000,
        shrunk: true,
    }
}

fn settings() -> Settings {
    Settings {
        revision: 300,
        ..Settings::default()
    }
}

fn leftover() -> Leftover {
    Leftover {
        volume: VOLUME,
        segment: 300,
    }
}

fn new_blob() -> NewBlob {
    NewBlob {
        blob: BLOB,
        len: 70_000,
        shape: Shape::Coded,
        segments: vec![NewSegment {
            volume: VOLUME,
            epoch: EPOCH,
            len: 70_000,
            digests: vec![Default::default(); 3],
            owed: 0b100,
        }],
        inline: Vec::new(),
        leftovers: vec![leftover()],
    }
}

fn object(blobs: ObjectBlobs) -> Box<PutObject> {
    Box::new(PutObject {
        bucket: BUCKET,
        key: key(),
        version: VersionId([2; 16]),
        size: 70_000,
        condition: Condition::Version(VersionId([1; 16])),
        wrapped_key: vec![1],
        sealed_manifest: vec![2, 2],
        sealed_listing: vec![3],
        blobs,
    })
}

/// One of each command.
pub(super) fn commands() -> Vec<Command> {
    let mut commands = of_the_cluster();
    commands.extend(of_owners());
    commands.extend(of_objects());
    commands.extend(of_disks());
    commands
}

fn of_the_cluster() -> Vec<Command> {
    vec![
        Command::InitCluster {
            cluster: ClusterId([7; 16]),
            level: Level(1),
        },
        Command::RegisterNode(claim(node(1))),
        Command::CreateVolume {
            profile: profile(),
            domain: Domain::Node,
            slots: slots(),
            shrunk: false,
        },
        Command::CloseVolume {
            volume: VOLUME,
            epoch: EPOCH,
        },
        Command::PutKek {
            version: 1,
            sealed_kek: vec![5; 3],
        },
        Command::OpenLease {
            gateway: GatewayId(9),
            request: 300,
        },
        Command::CloseLease {
            gateway: GatewayId(9),
            lease: LeaseId(8),
        },
        Command::Nothing,
        Command::ResetClock,
        Command::WorkOff,
        Command::RaiseLevel { level: Level(300) },
        Command::SetSettings(settings()),
        Command::ExpireUploads {
            uploads: vec![UploadId([3; 16])],
        },
        Command::ReleaseRestore,
        Command::SetDenyList(golden::deny_list()),
        Command::RotateKek {
            version: 2,
            sealed_kek: vec![5],
            grace_ms: 60_000,
        },
        Command::Reseal {
            to: 2,
            rows: vec![Resealed {
                row_key: key(),
                was: [9; 16],
                records: vec![vec![1], vec![2]],
            }],
        },
        Command::DropKeks { before: 2 },
        Command::ResealKek {
            version: 300,
            was: [6; 16],
            sealed_kek: vec![2; 3],
        },
    ]
}

fn of_owners() -> Vec<Command> {
    let account = AccountId(4);
    vec![
        Command::CreateAccount {
            name: "ann".into(),
            request: 300,
        },
        Command::SetAccountEnabled {
            account,
            enabled: true,
            revision: 2,
        },
        Command::PutAccessKey {
            access_key: "AKIA".into(),
            account,
            enabled: false,
            revision: 2,
            sealed_credential: vec![6],
        },
        Command::CreateBucket {
            id: BUCKET,
            name: "box".into(),
            account,
            sealed_owner: vec![7],
        },
        Command::DeleteBucket(BUCKET),
    ]
}

fn of_objects() -> Vec<Command> {
    vec![
        Command::PutObject(object(ObjectBlobs::New(new_blob()))),
        Command::DeleteObject {
            bucket: BUCKET,
            key: key(),
            condition: Condition::Absent,
        },
        Command::CreateUpload {
            bucket: BUCKET,
            key: key(),
            upload: UPLOAD,
            wrapped_key: vec![1],
            sealed_manifest: vec![2],
        },
        Command::PutPart {
            bucket: BUCKET,
            key: key(),
            upload: UPLOAD,
            part: 300,
            size: 70_000,
            written_ms: 1_000_000,
            sealed_part: vec![8],
            blob: new_blob(),
        },
        Command::CompleteUpload {
            upload: UPLOAD,
            parts: vec![(300, BLOB)],
            object: object(ObjectBlobs::Parts),
        },
        Command::AbortUpload {
            bucket: BUCKET,
            key: key(),
            upload: UPLOAD,
        },
        Command::DiscardBlob {
            leftovers: vec![leftover()],
        },
    ]
}

fn of_disks() -> Vec<Command> {
    let (shard, epoch) = (shard(), EPOCH);
    let (node, disk) = (NODE, DISK);
    vec![
        Command::MarkOwed {
            node,
            disk,
            marks: vec![ShardMark { shard, epoch }],
            damaged: true,
        },
        Command::AckDeletes {
            node,
            disk,
            through: 300,
        },
        Command::FillOwed {
            node,
            disk,
            fills: vec![ShardFill {
                shard,
                epoch,
                digest: Default::default(),
            }],
        },
        Command::RaiseDoubts(vec![NewDoubt {
            shard,
            disk,
            epoch,
            damaged: true,
        }]),
        Command::DenyDoubts {
            node,
            disk,
            shards: vec![shard],
        },
        Command::JudgeDoubts {
            judge: node,
            disk,
            verdicts: vec![Verdict { shard, whole: true }],
        },
    ]
}

pub(super) fn rotation() -> Rotation {
    Rotation {
        to: 2,
        begun_ms: 1_000_000,
        grace_ms: 60_000,
        cursor: key(),
        passed_all: false,
        resealed: 300,
        left: 70_000,
        closed: 1,
        clear_since_ms: Some(1_000_001),
        dropped_ms: None,
    }
}

/// One of each outcome and refusal.
pub(super) fn answers() -> Vec<Answer> {
    let account = AccountId(4);
    let outcomes = [
        Outcome::Done,
        Outcome::Volume(volume()),
        Outcome::Lease(lease()),
        Outcome::Account(AccountRow {
            id: account,
            name: "ann".into(),
            enabled: true,
            created_ms: 1_000_000,
            request: 300,
            revision: 2,
        }),
        Outcome::Bucket(BucketRow {
            id: BUCKET,
            name: "box".into(),
            account,
            created_ms: 1_000_000,
            sealed_owner: vec![7],
        }),
        Outcome::Registered {
            node: NODE,
            refused: vec![RefusedDisk {
                disk: DISK,
                why: DiskRefusal::Served(NODE),
            }],
        },
        Outcome::WorkedOff { left: true },
    ];
    outcomes
        .into_iter()
        .map(Ok)
        .chain(refusals().into_iter().map(Err))
        .collect()
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::OtherCluster,
        Refusal::NoSuchBucket,
        Refusal::NoSuchKey,
        Refusal::NoSuchUpload,
        Refusal::NoSuchPart(300),
        Refusal::Condition {
            current: Some(VersionId([2; 16])),
        },
        Refusal::BucketExists {
            owner: AccountId(4),
        },
        Refusal::BucketNotEmpty,
        Refusal::NameTaken,
        Refusal::NoSuchAccount,
        Refusal::LeaseClosed { blob: BLOB },
        Refusal::KeyUsed { blob: BLOB },
        Refusal::Superseded { blob: BLOB },
        Refusal::Changed,
        Refusal::StaleVolume {
            volume: VOLUME,
            epoch: EPOCH,
        },
        Refusal::Malformed("why".into()),
        Refusal::SourceGone,
        Refusal::SealedTime { now_ms: 1_000_000 },
        Refusal::Internal("what".into()),
        Refusal::Level {
            needs: Level(300),
            level: Level(2),
        },
        Refusal::KeksLost,
        Refusal::KekReplaced { newest: 2 },
        Refusal::Rotating {
            to: 2,
            why: "why".into(),
        },
    ]
}

/// A map with something in each field.
pub(super) fn map() -> ClusterMap {
    ClusterMap {
        term: 3,
        version: 300,
        nodes: vec![node(1)],
        alive: vec![NodeId(1)],
        closed_disks: vec![DISK],
        writable: vec![volume()],
        degraded: vec![volume()],
        leases: vec![lease()],
        refusal: Some("why".into()),
    }
}
