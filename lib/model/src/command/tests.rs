//! The numbers under which commands and their answers are stored.
//!
//! A new variant comes last; then `UPDATE_EXPECT=1` writes the list again. If the difference shows
//! anything but lines added at the end of a list, logs and tokens that are stored today would be
//! read as something else.

use super::{Command, Outcome, Refusal};
use crate::claim::DiskRefusal;
use expect_test::{Expect, expect};
use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};

/// Compares the variants of an enum with their numbers.
fn check<'de, T: Deserialize<'de>>(expected: &Expect) {
    // A name that no variant has is refused with the list of those that there are, in order.
    let unknown = T::deserialize(StrDeserializer::<Error>::new("?"));
    let told = unknown.err().expect("no variant").to_string();
    let names = told.split('`').skip(3).step_by(2);
    let lines = names
        .enumerate()
        .map(|(number, name)| format!("{number} {name}\n"));
    expected.assert_eq(&lines.collect::<String>());
}

#[test]
fn commands_keep_their_numbers() {
    check::<Command>(&expect![[r#"
        0 InitCluster
        1 RegisterNode
        2 CreateVolume
        3 CloseVolume
        4 PutKek
        5 OpenLease
        6 CloseLease
        7 CreateAccount
        8 SetAccountEnabled
        9 PutAccessKey
        10 CreateBucket
        11 DeleteBucket
        12 PutObject
        13 DeleteObject
        14 CreateUpload
        15 PutPart
        16 CompleteUpload
        17 AbortUpload
        18 MarkOwed
        19 AckDeletes
        20 Nothing
        21 ResetClock
        22 FillOwed
        23 RaiseDoubts
        24 DenyDoubts
        25 JudgeDoubts
        26 WorkOff
        27 RaiseLevel
        28 DiscardBlob
        29 SetSettings
        30 ExpireUploads
        31 ReleaseRestore
        32 SetDenyList
        33 RotateKek
        34 Reseal
        35 DropKeks
        36 ResealKek
    "#]]);
}

#[test]
fn outcomes_keep_their_numbers() {
    check::<Outcome>(&expect![[r#"
        0 Done
        1 Volume
        2 Lease
        3 Account
        4 Bucket
        5 Registered
        6 WorkedOff
    "#]]);
}

#[test]
fn refusals_keep_their_numbers() {
    check::<Refusal>(&expect![[r#"
        0 OtherCluster
        1 NoSuchBucket
        2 NoSuchKey
        3 NoSuchUpload
        4 NoSuchPart
        5 Condition
        6 BucketExists
        7 BucketNotEmpty
        8 NameTaken
        9 NoSuchAccount
        10 LeaseClosed
        11 KeyUsed
        12 Superseded
        13 Changed
        14 StaleVolume
        15 Malformed
        16 SourceGone
        17 SealedTime
        18 Internal
        19 Level
        20 KeksLost
        21 KekReplaced
        22 Rotating
    "#]]);
}

#[test]
fn refusals_of_disks_keep_their_numbers() {
    check::<DiskRefusal>(&expect![[r#"
        0 Served
        1 OtherSuperblock
        2 NoRoom
    "#]]);
}
