//! How long the texts and sealed records of a command may be: far above what an honest proposer
//! makes. Without these bounds a stolen certificate could fill rows that all members keep, and that
//! others read whole. `lib/crypto` bounds what it seals; neither crate knows the other, and
//! `lib/keyring`, which knows both, does not compile if it may seal more than is accepted here.

use super::{NAME_LEN_MAX, PART_MAX};
use crate::command::{Command, NewBlob, ObjectBlobs, PutObject, Refusal};
use crate::rotation::STEP_ROWS_MAX;

/// The most bytes of a wrapped data key.
pub const WRAPPED_KEY_LEN_MAX: usize = 256;
/// The most bytes of a sealed key-encryption key.
pub const SEALED_KEK_LEN_MAX: usize = 256;
/// The greatest version of a key-encryption key.
pub const KEK_VERSION_MAX: u32 = 1_024;
/// The most bytes of an access key's sealed credential.
pub const SEALED_CREDENTIAL_LEN_MAX: usize = 1_024;
/// The most bytes of a bucket's sealed owner, which is a number.
pub const SEALED_OWNER_LEN_MAX: usize = 256;
/// The most bytes of a sealed manifest: 10,000 parts with their checksums, headers, user metadata.
pub const SEALED_MANIFEST_LEN_MAX: usize = 4 << 20;
/// The most bytes of what is sealed for listings.
pub const SEALED_LISTING_LEN_MAX: usize = 4 << 10;
/// The most bytes of what is sealed of a part.
pub const SEALED_PART_LEN_MAX: usize = 16 << 10;
/// The most segments of one blob: a gateway writes 5 GiB at most, in segments of 64 MiB.
pub const SEGMENTS_MAX: usize = 1_000;

/// Refuses a command with a text, a sealed record or a list that no honest proposer makes that
/// long. Looks at no row, so a leader can ask before the log.
///
/// # Errors
/// [`Refusal::Malformed`].
pub fn check_sizes(command: &Command) -> Result<(), Refusal> {
    match command {
        Command::PutKek { .. } | Command::RotateKek { .. } | Command::ResealKek { .. } => {
            sealed_kek(command).map_or(Ok(()), |(version, sealed)| kek(version, sealed))
        }
        Command::Reseal { rows, .. } => at_most("number of rows", rows.len(), STEP_ROWS_MAX),
        Command::CreateAccount { name, .. } => bytes("name", name, NAME_LEN_MAX),
        Command::PutAccessKey {
            access_key,
            sealed_credential,
            ..
        } => {
            let max = SEALED_CREDENTIAL_LEN_MAX;
            bytes("access key", access_key, NAME_LEN_MAX)?;
            bytes("sealed credential", sealed_credential, max)
        }
        Command::CreateBucket {
            name, sealed_owner, ..
        } => {
            bytes("name", name, NAME_LEN_MAX)?;
            bytes("sealed owner", sealed_owner, SEALED_OWNER_LEN_MAX)
        }
        Command::PutObject(put) => object(put),
        Command::CreateUpload {
            wrapped_key,
            sealed_manifest,
            ..
        } => keyed(wrapped_key, sealed_manifest),
        Command::PutPart {
            sealed_part, blob, ..
        } => bytes("sealed part", sealed_part, SEALED_PART_LEN_MAX).and_then(|()| segments(blob)),
        Command::CompleteUpload {
            parts, object: put, ..
        } => at_most("number of parts", parts.len(), PART_MAX as usize).and_then(|()| object(put)),
        // Numbers only, or lists that their own handlers bound.
        Command::InitCluster { .. }
        | Command::RegisterNode(_)
        | Command::CreateVolume { .. }
        | Command::CloseVolume { .. }
        | Command::OpenLease { .. }
        | Command::CloseLease { .. }
        | Command::SetAccountEnabled { .. }
        | Command::DeleteBucket(_)
        | Command::DeleteObject { .. }
        | Command::AbortUpload { .. }
        | Command::MarkOwed { .. }
        | Command::AckDeletes { .. }
        | Command::Nothing
        | Command::ResetClock
        | Command::FillOwed { .. }
        | Command::RaiseDoubts(_)
        | Command::DenyDoubts { .. }
        | Command::JudgeDoubts { .. }
        | Command::WorkOff
        | Command::RaiseLevel { .. }
        | Command::DiscardBlob { .. }
        | Command::SetSettings(_)
        | Command::ExpireUploads { .. }
        | Command::ReleaseRestore
        | Command::SetDenyList(_)
        | Command::DropKeks { .. } => Ok(()),
    }
}

/// The key-encryption key that a command brings, with its version.
fn sealed_kek(command: &Command) -> Option<(u32, &[u8])> {
    match command {
        Command::PutKek {
            version,
            sealed_kek,
        }
        | Command::RotateKek {
            version,
            sealed_kek,
            ..
        }
        | Command::ResealKek {
            version,
            sealed_kek,
            ..
        } => Some((*version, sealed_kek)),
        _ => None,
    }
}

fn kek(version: u32, sealed: &[u8]) -> Result<(), Refusal> {
    at_most("version of a key-encryption key", version, KEK_VERSION_MAX)?;
    bytes("sealed key-encryption key", sealed, SEALED_KEK_LEN_MAX)
}

fn object(put: &PutObject) -> Result<(), Refusal> {
    keyed(&put.wrapped_key, &put.sealed_manifest)?;
    bytes(
        "sealed listing",
        &put.sealed_listing,
        SEALED_LISTING_LEN_MAX,
    )?;
    match &put.blobs {
        ObjectBlobs::New(blob) => segments(blob),
        ObjectBlobs::Shared { .. } | ObjectBlobs::Parts => Ok(()),
    }
}

fn keyed(wrapped_key: &[u8], sealed_manifest: &[u8]) -> Result<(), Refusal> {
    bytes("wrapped key", wrapped_key, WRAPPED_KEY_LEN_MAX)?;
    bytes("sealed manifest", sealed_manifest, SEALED_MANIFEST_LEN_MAX)
}

fn segments(blob: &NewBlob) -> Result<(), Refusal> {
    at_most("number of segments", blob.segments.len(), SEGMENTS_MAX)
}

fn bytes(what: &str, is: impl AsRef<[u8]>, max: usize) -> Result<(), Refusal> {
    match is.as_ref().len() {
        len if len > max => Err(Refusal::Malformed(format!(
            "the {what} has {len} bytes, and may have {max}"
        ))),
        _ => Ok(()),
    }
}

fn at_most<N: PartialOrd + std::fmt::Display>(what: &str, is: N, max: N) -> Result<(), Refusal> {
    if is > max {
        let why = format!("the {what} is {is}, and may be {max} at most");
        return Err(Refusal::Malformed(why));
    }
    Ok(())
}
