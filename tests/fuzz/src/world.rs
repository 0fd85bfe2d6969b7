//! The rows of a small cluster, made by the state machine itself.

use megalith_model::claim::{DiskProof, NodeClaim};
use megalith_model::command::{
    Command, CommandKey, Condition, Envelope, Leftover, NewBlob, NewDoubt, NewSegment, ObjectBlobs,
    PutObject, ShardFill, ShardMark, Verdict,
};
use megalith_model::denied::{DeniedCertificate, DenyList, Serial};
use megalith_model::entry::Entry;
use megalith_model::ids::{
    AccountId, BlobId, BucketId, ClusterId, DiskId, Epoch, GatewayId, LeaseId, NodeId, UploadId,
    VersionId, VolumeId,
};
use megalith_model::level::Level;
use megalith_model::machine::{MachineError, apply};
use megalith_model::profile::Profile;
use megalith_model::role::Role;
use megalith_model::rotation::Resealed;
use megalith_model::sealed::mark;
use megalith_model::settings::Settings;
use megalith_model::shape::Shape;
use megalith_model::shard::ShardId;
use megalith_model::table::{MemRows, Overlay};
use megalith_model::topology::{Disk, Domain, Node, Slot};
use std::sync::LazyLock;

pub const UPLOAD: UploadId = UploadId([0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 5, 5, 5, 5, 5, 5, 5, 5]);
/// The stamp on every entry; ids of uploads and versions begin with it.
pub const STAMP_MS: u64 = 1_000_000;
/// The bucket of [`ROWS`].
pub const BOX: BucketId = BucketId(500);

/// Six nodes, an account, a bucket, a lease, a volume of 4+2, an object of each shape, an upload.
pub static ROWS: LazyLock<MemRows> = LazyLock::new(|| {
    let mut rows = MemRows::default();
    for (number, command) in (1..).zip(commands()) {
        let answer = play(&mut rows, &envelope(number, command));
        answer.expect("rows in memory").expect("accepted");
    }
    rows
});

/// Applies a command and writes its changes.
pub fn play(
    rows: &mut MemRows,
    envelope: &Envelope,
) -> Result<megalith_model::command::Answer, MachineError> {
    let mut overlay = Overlay::new(rows);
    let answer = apply(&mut overlay, &Entry::new(STAMP_MS, envelope.clone()))?;
    let batch = overlay.into_batch();
    rows.write(batch);
    Ok(answer)
}

/// Gives a client's command a key: the id that it gives, or the number behind the ids of all blobs.
#[must_use]
pub fn envelope(number: u8, command: Command) -> Envelope {
    let fresh = BlobId(1_000 + u64::from(number));
    let key = CommandKey {
        id: command.brings().unwrap_or(fresh),
        attempt: 1,
        gateway: GatewayId(1),
    };
    Envelope {
        key: command.has_key().then_some(key),
        command,
    }
}

/// Returns the commands that made [`ROWS`]; each is valid when its turn comes.
#[must_use]
#[expect(clippy::too_many_lines, reason = "one command after the other")]
pub fn commands() -> Vec<Command> {
    let mut commands = vec![Command::InitCluster {
        cluster: ClusterId([7; 16]),
        level: Level::FIRST,
    }];
    commands.extend((1..=6).map(|id| Command::RegisterNode(claim(node(id)))));
    commands.extend([
        Command::CreateAccount {
            name: "ann".into(),
            request: 1,
        },
        Command::OpenLease {
            gateway: GatewayId(1),
            request: 1,
        },
        Command::CreateBucket {
            id: BOX,
            name: "box".into(),
            account: AccountId(1),
            sealed_owner: vec![7],
        },
        Command::CreateVolume {
            profile: Profile::new(4, 2).expect("valid"),
            domain: Domain::Node,
            slots: (1..=6).map(slot).collect(),
            shrunk: false,
        },
        Command::PutKek {
            version: 1,
            sealed_kek: vec![1; 8],
        },
        Command::PutAccessKey {
            access_key: "ANNSKEY".into(),
            account: AccountId(1),
            enabled: true,
            revision: 1,
            sealed_credential: vec![2; 8],
        },
        put(b"inline", 1, blob(1, Shape::Inline)),
        put(b"copies", 2, blob(2, Shape::Copies)),
        put(b"coded", 3, blob(3, Shape::Coded)),
        Command::CreateUpload {
            bucket: BOX,
            key: b"large".to_vec(),
            upload: UPLOAD,
            wrapped_key: vec![1; 4],
            sealed_manifest: vec![2; 4],
        },
        Command::PutPart {
            bucket: BOX,
            key: b"large".to_vec(),
            upload: UPLOAD,
            part: 1,
            size: 100,
            written_ms: STAMP_MS,
            sealed_part: vec![3; 4],
            blob: blob(4, Shape::Coded),
        },
        Command::MarkOwed {
            node: NodeId(2),
            disk: disk(2),
            marks: vec![ShardMark {
                shard: shard(1),
                epoch: Epoch(1),
            }],
            damaged: true,
        },
        Command::RaiseDoubts(vec![NewDoubt {
            shard: shard(2),
            disk: disk(3),
            epoch: Epoch(1),
            damaged: false,
        }]),
    ]);
    commands
}

/// Returns commands that are valid on [`ROWS`].
#[must_use]
#[expect(clippy::too_many_lines, reason = "one command after the other")]
pub fn more_commands() -> Vec<(&'static str, Command)> {
    let share = ObjectBlobs::Shared {
        bucket: BOX,
        key: b"coded".to_vec(),
        version: VersionId::new(STAMP_MS + 3, [7; 8]),
    };
    let complete = Command::CompleteUpload {
        upload: UPLOAD,
        parts: vec![(1, BlobId(4))],
        object: Box::new(object(b"large", 9, ObjectBlobs::Parts)),
    };
    let mut commands = vec![
        ("replace", put(b"coded", 5, blob(5, Shape::Copies))),
        (
            "share",
            Command::PutObject(Box::new(object(b"copy", 6, share))),
        ),
        ("complete", complete),
        (
            "abort",
            Command::AbortUpload {
                bucket: BOX,
                key: b"large".to_vec(),
                upload: UPLOAD,
            },
        ),
        (
            "delete",
            Command::DeleteObject {
                bucket: BOX,
                key: b"coded".to_vec(),
                condition: Condition::Version(VersionId::new(STAMP_MS + 3, [7; 8])),
            },
        ),
        ("delete-bucket", Command::DeleteBucket(BOX)),
        (
            "close",
            Command::CloseVolume {
                volume: VolumeId(1),
                epoch: Epoch(1),
            },
        ),
        (
            "close-lease",
            Command::CloseLease {
                gateway: GatewayId(1),
                lease: LeaseId(0),
            },
        ),
        (
            "acknowledge",
            Command::AckDeletes {
                node: NodeId(1),
                disk: DiskId([1; 16]),
                through: 1,
            },
        ),
        (
            "disable",
            Command::SetAccountEnabled {
                account: AccountId(1),
                enabled: false,
                revision: 1,
            },
        ),
        (
            "move-a-disk",
            Command::RegisterNode(claim(Node {
                disks: Vec::new(),
                ..node(2)
            })),
        ),
        (
            "discard",
            Command::DiscardBlob {
                leftovers: vec![Leftover {
                    volume: VolumeId(1),
                    segment: 0,
                }],
            },
        ),
    ];
    commands.extend(commands_of_the_group());
    commands.extend(commands_about_shards());
    commands
}

fn commands_of_the_group() -> Vec<(&'static str, Command)> {
    vec![
        ("nothing", Command::Nothing),
        ("work-off", Command::WorkOff),
        ("reset-clock", Command::ResetClock),
        ("raise-level", Command::RaiseLevel { level: Level(1) }),
        ("release-restore", Command::ReleaseRestore),
        (
            "set-settings",
            Command::SetSettings(Settings {
                revision: 1,
                ..Settings::default()
            }),
        ),
        (
            "reseal-kek",
            Command::ResealKek {
                version: 1,
                was: mark(&[1; 8]),
                sealed_kek: vec![2; 8],
            },
        ),
        (
            "set-deny-list",
            Command::SetDenyList(DenyList {
                revision: 1,
                denied: vec![DeniedCertificate {
                    role: Role::Gateway,
                    id: 300,
                    serial: Serial::from_bytes(&[0xab; 20]),
                }],
            }),
        ),
        (
            "rotate-kek",
            Command::RotateKek {
                version: 2,
                sealed_kek: vec![5; 118],
                grace_ms: 60_000,
            },
        ),
        (
            "reseal",
            Command::Reseal {
                to: 2,
                rows: vec![Resealed {
                    row_key: b"key".to_vec(),
                    was: [9; 16],
                    records: vec![vec![1; 118], vec![2; 100]],
                }],
            },
        ),
        ("drop-keks", Command::DropKeks { before: 2 }),
        (
            "expire-uploads",
            Command::ExpireUploads {
                uploads: vec![UPLOAD],
            },
        ),
    ]
}

fn claim(node: Node) -> NodeClaim {
    NodeClaim::new(node, |disk| DiskProof([disk.0[0]; 32]))
}

fn commands_about_shards() -> Vec<(&'static str, Command)> {
    vec![
        (
            "fill",
            Command::FillOwed {
                node: NodeId(2),
                disk: disk(2),
                fills: vec![ShardFill {
                    shard: shard(1),
                    epoch: Epoch(1),
                    digest: [3; 16],
                }],
            },
        ),
        (
            "deny",
            Command::DenyDoubts {
                node: NodeId(3),
                disk: disk(3),
                shards: vec![shard(2)],
            },
        ),
        (
            "judge",
            Command::JudgeDoubts {
                judge: NodeId(5),
                disk: disk(3),
                verdicts: vec![Verdict {
                    shard: shard(2),
                    whole: false,
                }],
            },
        ),
    ]
}

fn node(id: u32) -> Node {
    Node {
        id: NodeId(id),
        rpc_address: format!("10.0.0.{id}:7000"),
        data_address: format!("10.0.0.{id}:7001"),
        zone: String::new(),
        disks: vec![Disk {
            id: DiskId([id as u8; 16]),
            capacity: 1 << 40,
        }],
    }
}

fn disk(id: u32) -> DiskId {
    DiskId([id as u8; 16])
}

/// A shard of blob 3, whose segment is on the disks of nodes 1 to 6.
fn shard(slot: u8) -> ShardId {
    ShardId {
        volume: VolumeId(1),
        blob: BlobId(3),
        segment: 0,
        slot,
    }
}

fn slot(id: u32) -> Slot {
    Slot {
        node: NodeId(id),
        disk: DiskId([id as u8; 16]),
    }
}

fn put(key: &[u8], number: u64, blob: NewBlob) -> Command {
    Command::PutObject(Box::new(object(key, number, ObjectBlobs::New(blob))))
}

fn object(key: &[u8], number: u64, blobs: ObjectBlobs) -> PutObject {
    PutObject {
        bucket: BOX,
        key: key.to_vec(),
        version: VersionId::new(STAMP_MS + number, [7; 8]),
        size: 100,
        condition: Condition::None,
        wrapped_key: vec![1; 4],
        sealed_manifest: vec![2; 4],
        sealed_listing: vec![3; 4],
        blobs,
    }
}

/// Returns a blob of that shape in volume 1, from lease 0.
fn blob(id: u64, shape: Shape) -> NewBlob {
    let (len, digests) = match shape {
        Shape::Inline => (10, 0),
        Shape::Copies => (10_000, 1),
        Shape::Coded => (300_000, 6),
    };
    let segment = NewSegment {
        volume: VolumeId(1),
        epoch: Epoch(1),
        len,
        digests: vec![[id as u8; 16]; digests],
        owed: 0,
    };
    let is_inline = shape == Shape::Inline;
    NewBlob {
        blob: BlobId(id),
        len,
        shape,
        segments: if is_inline { Vec::new() } else { vec![segment] },
        inline: if is_inline {
            vec![id as u8; 10]
        } else {
            Vec::new()
        },
        leftovers: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize as _;
    use serde::de::value::{Error, StrDeserializer};
    use std::collections::BTreeSet;

    #[test]
    fn no_command_is_forgotten() {
        // A name that no variant has is refused with the list of those that there are.
        let unknown = Command::deserialize(StrDeserializer::<Error>::new("?"));
        let told = unknown.expect_err("no such command").to_string();
        let mut missing: BTreeSet<&str> = told.split('`').skip(3).step_by(2).collect();
        assert!(!missing.is_empty(), "{told}");
        let more = more_commands().into_iter().map(|(_, command)| command);
        for command in commands().into_iter().chain(more) {
            let text = format!("{command:?}");
            missing.remove(text.split([' ', '(']).next().unwrap_or_default());
        }
        assert!(missing.is_empty(), "no example of {missing:?}");
    }
}
