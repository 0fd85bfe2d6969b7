//! Members whose log is damaged, lost or another's: nothing answered is lost, they come back as
//! voters, and never do they vote as if they were new.

use super::harness::{Cluster, DIR, settings, wait_for};
use super::{Load, all_there, check_rows};
use crate::StartError;
use crate::member::examine;
use crate::testing::log_identity;
use megalith_disk::sim::SimFs;
use megalith_disk::{FileSystem, read_exact_at};
use megalith_model::ids::NodeId;
use megalith_model::member::{Losses, MemberStatus};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    FlippedInTheMiddle,
    ZeroedBlock,
    Truncated,
    Emptied,
    Deleted,
    Foreign,
}

const ALL: [Damage; 6] = [
    Damage::FlippedInTheMiddle,
    Damage::ZeroedBlock,
    Damage::Truncated,
    Damage::Emptied,
    Damage::Deleted,
    Damage::Foreign,
];

/// The log files of a log that is not open, oldest first.
fn files(fs: &SimFs) -> Vec<PathBuf> {
    let dir = Path::new(DIR).join("log");
    let found = fs.list(&dir).expect("list");
    let files = found.into_iter().map(|entry| dir.join(entry.name));
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect()
}

fn read(fs: &SimFs, path: &Path) -> Vec<u8> {
    let file = fs.open(path).expect("open");
    let mut bytes = vec![0; usize::try_from(file.len().expect("len")).expect("small")];
    read_exact_at(file.as_ref(), &mut bytes, 0).expect("read");
    bytes
}

fn write(fs: &SimFs, path: &Path, bytes: &[u8]) {
    let file = fs.open(path).expect("open");
    file.set_len(bytes.len() as u64).expect("cut");
    file.write_at(&[IoSlice::new(bytes)], 0).expect("write");
    file.sync_data().expect("sync");
}

/// How many bytes of a log file are written. What is reserved ahead of the writer holds nothing
/// that could be damaged.
fn used(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|&byte| byte != 0);
    last.map_or(0, |at| at + 1)
}

/// Whether the newest log file is the one after the last that the log has noted as durable. Nobody
/// has heard of what is in it: a power cut came while it was made.
fn newest_is_in_the_making(fs: &SimFs, newest: &Path) -> bool {
    let notes = read(fs, &Path::new(DIR).join("log/reached"));
    let sequence = |place: usize| {
        let field = notes.get(place * 512 + 40..place * 512 + 48);
        field.map_or(0, |field| {
            u64::from_le_bytes(field.try_into().expect("eight bytes"))
        })
    };
    let next = sequence(0).max(sequence(1)) + 1;
    newest == Path::new(DIR).join(format!("log/{next:020}.log"))
}

/// Damages a file; `foreign` is what another member has in its log.
fn damage(fs: &SimFs, path: &Path, how: Damage, foreign: &[u8]) {
    let mut bytes = read(fs, path);
    let used = used(&bytes);
    match how {
        Damage::FlippedInTheMiddle => {
            // No checksum covers the zeros that fill a record up.
            let covered = (used / 2..used).find(|&at| bytes[at] != 0);
            // A power cut may leave an empty file.
            if let Some(byte) = bytes.get_mut(covered.unwrap_or(used / 2)) {
                *byte ^= 0x10;
            }
        }
        Damage::ZeroedBlock => {
            let from = (used / 2).min(used.saturating_sub(512));
            bytes[from..used.min(from + 512)].fill(0);
        }
        Damage::Truncated => bytes.truncate(used / 2),
        Damage::Emptied => bytes.clear(),
        Damage::Foreign => bytes = foreign.to_vec(),
        Damage::Deleted => {
            fs.remove(path).expect("remove");
            return fs
                .sync_dir(path.parent().expect("a directory"))
                .expect("sync");
        }
    }
    write(fs, path, &bytes);
}

/// Damages every kind of file of every member in turn, the leader's among them, under load.
async fn damage_all_under_load(seed: u64, kinds: &[Damage]) {
    let mut cluster = Cluster::start(3, seed, 2, settings());
    let client = cluster.client();
    let load = Load::start(&client, 6);
    load.until(60).await;
    let mut turn = u32::try_from(seed).expect("small");
    let mut renewed = 0;
    for &kind in kinds {
        for place in 0..4 {
            let member = turn % 3 + 1;
            turn += 1;
            let before = cluster.voter(member).await;
            load.more(20).await;
            cluster.crash(member).await;
            let foreign = {
                let other = &cluster.disks[&(member % 3 + 1)].fs;
                read(other, &files(other)[0])
            };
            let fs = &cluster.disks[&member].fs;
            let files = files(fs);
            let path = match place {
                0 => files[0].clone(),
                1 => files[files.len() / 2].clone(),
                2 => files[files.len() - 1].clone(),
                _the_card => Path::new(DIR).join("member"),
            };
            let newest = &files[files.len() - 1];
            let in_the_making = path == *newest && newest_is_in_the_making(fs, newest);
            damage(fs, &path, kind, &foreign);
            let restarted = cluster.try_restart(member);
            restarted.unwrap_or_else(|error| panic!("seed {seed}, {kind:?} of {path:?}: {error}"));
            load.more(20).await;
            let after = cluster.voter(member).await;
            if after != before {
                renewed += 1;
                cluster.net.silence(before);
                continue;
            }
            // What may be a torn end is not damage, nor is it when the oldest log file is gone: it
            // would have been removed soon, for the rows no longer need it.
            let in_place = matches!(kind, Damage::FlippedInTheMiddle | Damage::ZeroedBlock);
            let torn = in_place && path == files[files.len() - 1];
            let purged = kind == Damage::Deleted && path == files[0];
            assert!(
                torn || purged || in_the_making,
                "seed {seed}: {kind:?} of {path:?} went unseen"
            );
        }
    }
    assert!(renewed >= kinds.len() * 2 - 1, "only {renewed} were seen");
    let names = load.end().await;
    cluster.power_cut().await;
    all_there(&client, &names).await;
    cluster.agree().await;
    check_rows(&cluster.rows(1));
    assert!(cluster.net.spoke().is_empty(), "a lost life has spoken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bytes_damaged_in_any_file_under_load_cost_nothing() {
    damage_all_under_load(1, &ALL[..3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_lost_or_foreign_under_load_cost_nothing() {
    damage_all_under_load(2, &ALL[3..]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_log_directory_and_lost_rows_are_rebuilt() {
    let mut cluster = Cluster::start(3, 3, 0, settings());
    let client = cluster.client();
    let load = Load::start(&client, 6);
    for member in 1..=3 {
        load.more(60).await;
        let before = cluster.voter(member).await;
        cluster.crash(member).await;
        let fs = &cluster.disks[&member].fs;
        for path in files(fs) {
            fs.remove(&path).expect("remove");
        }
        fs.remove(&Path::new(DIR).join("log/reached"))
            .expect("remove");
        fs.remove_dir(&Path::new(DIR).join("log")).expect("remove");
        fs.sync_dir(Path::new(DIR)).expect("sync");
        if member != 2 {
            cluster.disks[&member].engines.lose();
        }
        cluster.restart(member);
        assert_ne!(cluster.voter(member).await, before);
    }
    let names = load.end().await;
    all_there(&client, &names).await;
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_lives_only_the_files_of_the_newest_stay() {
    let mut cluster = Cluster::start(3, 7, 0, settings());
    let client = cluster.client();
    let load = Load::start(&client, 3);
    for _ in 0..4 {
        load.more(20).await;
        let before = cluster.voter(2).await;
        cluster.crash(2).await;
        let fs = &cluster.disks[&2].fs;
        for path in files(fs) {
            write(fs, &path, b"spoiled");
        }
        cluster.restart(2);
        assert_ne!(cluster.voter(2).await, before);
    }
    let entries = cluster.disks[&2].fs.list(Path::new(DIR)).expect("list");
    let names = entries.into_iter().map(|entry| entry.name);
    let kept: Vec<String> = names.filter(|name| name.starts_with("kept-")).collect();
    assert_eq!(kept, ["kept-3", "kept-4"]);
    let names = load.end().await;
    all_there(&client, &names).await;
    cluster.agree().await;
}

/// The end of a log that is cut off cleanly looks like a log that never went further. The leader
/// knows better.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_log_that_lost_its_end_without_a_trace_is_found_out_by_the_leader() {
    let mut settings = settings();
    // No row is durable, so that only the log could know.
    settings.apply.checkpoint_entries = u64::MAX;
    settings.apply.checkpoint_bytes = u64::MAX;
    let mut cluster = Cluster::start(3, 4, 0, settings);
    let client = cluster.client();
    let load = Load::start(&client, 4);
    load.until(400).await;
    // A heartbeat proves the loss. Under load the leader may send again what is lacking before its
    // next one, and then nothing is lost.
    let names = load.end().await;
    cluster.agree().await;
    let leader = cluster.leader().await;
    let member = leader % 3 + 1;
    let before = cluster.voter(member).await;
    cluster.crash(member).await;
    let fs = &cluster.disks[&member].fs;
    let mut files = files(fs);
    // Of the newest one nobody may have heard yet, and then its loss is none: two of them.
    for _ in 0..2 {
        let newest = files.pop().expect("log files");
        damage(fs, &newest, Damage::Deleted, &[]);
    }
    // With the note of how far the log went: otherwise the member knows it by itself.
    damage(
        fs,
        &Path::new(DIR).join("log/reached"),
        Damage::Deleted,
        &[],
    );
    cluster.restart(member);
    wait_for("the new life to be told", async || {
        let leader = cluster.leader().await;
        let status = wait_for("a status", async || cluster.running[&leader].status().await).await;
        let rows = status.members.iter().filter(|m| m.node == NodeId(member));
        let (old, new): (Vec<_>, Vec<_>) = rows.partition(|m| m.id == before);
        for old in old {
            assert_eq!(old.losses, Losses::default(), "told of the life before");
            assert!(!old.alive || new.is_empty(), "two lives at once");
        }
        let told = |m: &&MemberStatus| !m.losses.lost.is_empty();
        new.into_iter().find(told).map(|_| ())
    })
    .await;
    let after = cluster.another_life(member, before).await;
    let status = cluster.running[&leader].status().await.expect("status");
    let seen = status.members.iter().find(|seen| seen.id == after);
    let lost = &seen.expect("it is a voter").losses.lost;
    assert!(lost.contains("had acknowledged"), "{lost}");
    all_there(&client, &names).await;
    cluster.agree().await;
}

/// A directory made again for a member that has voted before, while only one other is there: the
/// two would be a majority, if the new one counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_made_again_does_not_vote_as_if_it_were_new() {
    let mut cluster = Cluster::start(3, 5, 0, settings());
    let client = cluster.client();
    let load = Load::start(&client, 4);
    load.until(100).await;
    let names = load.end().await;
    let leader = cluster.leader().await;
    let (wiped, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.crash(leader).await;
    cluster.crash(wiped).await;
    cluster.make_disk(wiped, 3);
    cluster.net.silence(u64::from(wiped));
    cluster.restart(wiped);
    wait_for("the member to learn that it is not new", async || {
        let status = cluster.running[&wiped].status().await?;
        (status.rebuilding && status.members.is_empty()).then_some(())
    })
    .await;
    // Long enough for several elections of the two that are there.
    let mut leaderless = 0;
    wait_for("elections that nobody wins", async || {
        let status = cluster.running[&other].status().await?;
        assert!(
            !status.role.leads,
            "it leads by the vote of one that had voted before"
        );
        leaderless += u32::from(status.role.leader.is_none());
        (leaderless > 200).then_some(())
    })
    .await;
    assert!(cluster.net.spoke().is_empty());
    cluster.restart(leader);
    assert_ne!(cluster.voter(wiped).await, u64::from(wiped));
    all_there(&client, &names).await;
    cluster.agree().await;
    assert!(cluster.net.spoke().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_first_members_wait_for_each_other() {
    let mut cluster = Cluster::make(3, 6, 0, settings());
    cluster.restart(1);
    cluster.restart(2);
    // Long enough for several elections, if they held any.
    let mut looks = 0;
    wait_for("two members to have waited", async || {
        looks += 1;
        let leads = |member| cluster.running[member].leader_changes().borrow().leads;
        assert!(![1, 2].iter().any(leads), "two of three first members lead");
        (looks > 200).then_some(())
    })
    .await;
    cluster.restart(3);
    cluster.client().create_account("first").await;
    for member in 1..=3 {
        assert_eq!(cluster.voter(member).await, u64::from(member));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_only_member_refuses_to_start_and_changes_nothing() {
    for kind in ALL {
        let mut cluster = Cluster::start(1, 7, 0, settings());
        let client = cluster.client();
        for number in 0..120 {
            client.create_account(&super::name(number)).await;
        }
        cluster.stop(1).await;
        let fs = cluster.disks[&1].fs.clone();
        let oldest = files(&fs)[0].clone();
        let mut foreign = read(&fs, &oldest);
        foreign[..8].fill(1);
        damage(&fs, &oldest, kind, &foreign);
        if kind == Damage::Deleted {
            // The rest would be taken for a log that was purged up to there.
            for path in files(&fs) {
                damage(&fs, &path, kind, &[]);
            }
        }
        let names = |fs: &SimFs| fs.list(Path::new(DIR)).expect("list");
        let before = (names(&fs), files(&fs));
        let Err(error @ StartError::OnlyCopy { .. }) = cluster.try_restart(1) else {
            panic!("{kind:?}: it starts, or says something else");
        };
        let text = error.to_string();
        assert!(text.contains("meta repair"), "{text}");
        assert!(text.contains("only member"), "{text}");
        assert_eq!((names(&fs), files(&fs)), before, "{kind:?}");
    }
}

/// What a repair keeps is all that was answered, as long as the rows and the log behind them read.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_only_member_is_repaired_at_an_operators_word() {
    for (kind, place) in [
        (Damage::FlippedInTheMiddle, 0),
        (Damage::ZeroedBlock, 0),
        (Damage::FlippedInTheMiddle, 9),
        (Damage::Emptied, 9),
    ] {
        let mut cluster = Cluster::start(1, 8, 0, settings());
        let client = cluster.client();
        for number in 0..130 {
            client.create_account(&super::name(number)).await;
        }
        // Its rows are those of the last checkpoint, which is made beside the applying.
        wait_for("a checkpoint", async || {
            (cluster.disks[&1].engines.checkpointed() > 0).then_some(())
        })
        .await;
        cluster.crash(1).await;
        let disk = &cluster.disks[&1];
        let paths = files(&disk.fs);
        let path = paths[place.min(paths.len() - 1)].clone();
        damage(&disk.fs, &path, kind, &[]);
        if place == 9 {
            // A torn end is not damage; a lost card is, and it does not hold the repair up.
            disk.fs
                .remove(&Path::new(DIR).join("member"))
                .expect("remove");
        }
        let fs: Arc<dyn FileSystem> = Arc::new(disk.fs.clone());
        let found = examine(fs, Path::new(DIR), log_identity(1), &disk.engines).expect("examine");
        assert!(found.problem.is_some(), "{kind:?}");
        assert!(found.rows > 0 && found.kept >= found.rows, "{kind:?}");
        let kept = found.kept;
        assert!(found.known >= kept, "{kind:?}");
        let aside = found.repair().expect("repair");
        assert!(
            !disk
                .fs
                .list(Path::new(&aside))
                .expect("kept files")
                .is_empty()
        );
        cluster.restart(1);
        // The first entry is the leader's own, as is each after it once more.
        let answered = wait_for("rows", async || {
            let mut there = 0;
            for number in 0..130 {
                there += u64::from(client.has_account(&super::name(number), 0).await?);
            }
            Some(there)
        })
        .await;
        assert!(answered + 2 >= kept, "{kind:?}: {answered} of {kept}");
        client.create_account("afterwards").await;
        cluster.stop(1).await;
        cluster.restart(1);
        assert_ne!(cluster.voter(1).await, 1, "it has another id");
    }
}

/// Cuts the beginning of another life off at every step: the life before never speaks again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_life_that_is_cut_off_half_way_is_begun_again() {
    for step in 1..30 {
        let mut cluster = Cluster::start(3, step, 0, settings());
        let client = cluster.client();
        let mut made = 0;
        let (member, before, fs) = loop {
            for number in made..made + 40 {
                client.create_account(&super::name(number)).await;
            }
            made += 40;
            let member = cluster.leader().await;
            let before = cluster.voter(member).await;
            cluster.crash(member).await;
            let fs = cluster.disks[&member].fs.clone();
            // The middle of a log that has just been purged may be its last append, and damage
            // there looks like one that was torn.
            let files = files(&fs);
            if files.len() > 1 || used(&read(&fs, &files[0])) > 2_048 {
                break (member, before, fs);
            }
            cluster.restart(member);
        };
        damage(&fs, &files(&fs)[0], Damage::FlippedInTheMiddle, &[]);
        fs.stop_at(step);
        let first = cluster.try_restart(member);
        if first.is_ok() {
            // Stopped later, in the middle of running.
            cluster.crash(member).await;
        } else {
            fs.crash(step);
        }
        cluster.net.silence(before);
        cluster
            .try_restart(member)
            .unwrap_or_else(|error| panic!("step {step}: {error}"));
        assert_ne!(cluster.voter(member).await, before, "step {step}");
        let names: Vec<_> = (0..made).map(super::name).collect();
        all_there(&client, &names).await;
        assert!(cluster.net.spoke().is_empty(), "step {step}");
        for member in 1..=3 {
            cluster.stop(member).await;
        }
    }
}

/// The only other member with an entry is away when a member comes back whose log has lost its end:
/// with the third, that has never had it, it would be a majority that knows nothing of the entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_log_lost_its_end_does_not_elect_one_that_lacks_it() {
    for (seed, kind) in (30..).zip([Damage::Truncated, Damage::Emptied, Damage::Deleted]) {
        let mut settings = settings();
        // No row is durable, so that only the log could know.
        settings.apply.checkpoint_entries = u64::MAX;
        settings.apply.checkpoint_bytes = u64::MAX;
        let mut cluster = Cluster::start(3, seed, 0, settings);
        let client = cluster.client();
        let load = Load::start(&client, 4);
        load.until(40).await;
        let leader = cluster.leader().await;
        let (other, behind) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        cluster.crash(behind).await;
        load.more(100).await;
        let names = load.end().await;
        cluster.crash(leader).await;
        cluster.crash(other).await;
        let fs = &cluster.disks[&leader].fs;
        let newest = files(fs).pop().expect("log files");
        damage(fs, &newest, kind, &[]);
        cluster.restart(leader);
        cluster.restart(behind);
        let looked = Instant::now();
        while looked.elapsed() < Duration::from_secs(2) {
            for member in [leader, behind] {
                let status = cluster.running[&member].status().await;
                let role = status.map(|status| status.role);
                assert!(role.is_none_or(|role| !role.leads), "{kind:?}: {role:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cluster.restart(other);
        all_there(&client, &names).await;
        cluster.voter(leader).await;
        cluster.agree().await;
    }
}
