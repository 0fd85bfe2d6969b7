//! Commands whose outcome holds something that their proposer needs: one type for each, tied to the
//! type of its outcome.
//!
//! The counterpart of [`crate::question`] for commands. The other commands only report that they
//! are done, so they are proposed as they are.

use crate::command::{Command, Outcome};
use crate::ids::{AccountId, BucketId, GatewayId};
use crate::rows::{AccountRow, BucketRow};
use crate::topology::Lease;

/// A command that has an outcome of its own kind.
pub trait Instruction: Into<Command> + Send {
    /// What was made.
    type Outcome: Send;

    /// Takes the outcome apart; None if it belongs to another command.
    fn from_outcome(outcome: Outcome) -> Option<Self::Outcome>;
}

/// [`Command::OpenLease`]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenLease {
    pub gateway: GatewayId,
    /// The gateway's number of this command, drawn at random.
    pub request: u64,
}

impl From<OpenLease> for Command {
    fn from(OpenLease { gateway, request }: OpenLease) -> Self {
        Self::OpenLease { gateway, request }
    }
}

impl Instruction for OpenLease {
    type Outcome = Lease;

    fn from_outcome(outcome: Outcome) -> Option<Lease> {
        let Outcome::Lease(lease) = outcome else {
            return None;
        };
        Some(lease)
    }
}

/// [`Command::CreateAccount`]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateAccount {
    pub name: String,
    /// The proposer's number of this command, drawn at random.
    pub request: u64,
}

impl From<CreateAccount> for Command {
    fn from(CreateAccount { name, request }: CreateAccount) -> Self {
        Self::CreateAccount { name, request }
    }
}

impl Instruction for CreateAccount {
    type Outcome = AccountRow;

    fn from_outcome(outcome: Outcome) -> Option<AccountRow> {
        let Outcome::Account(row) = outcome else {
            return None;
        };
        Some(row)
    }
}

/// [`Command::CreateBucket`]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateBucket {
    pub id: BucketId,
    pub name: String,
    pub account: AccountId,
    /// The account that owns it, sealed.
    pub sealed_owner: Vec<u8>,
}

impl From<CreateBucket> for Command {
    fn from(bucket: CreateBucket) -> Self {
        let CreateBucket {
            id,
            name,
            account,
            sealed_owner,
        } = bucket;
        Self::CreateBucket {
            id,
            name,
            account,
            sealed_owner,
        }
    }
}

impl Instruction for CreateBucket {
    type Outcome = BucketRow;

    fn from_outcome(outcome: Outcome) -> Option<BucketRow> {
        let Outcome::Bucket(row) = outcome else {
            return None;
        };
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::World;

    /// Applies it and takes its outcome.
    fn outcome<I: Instruction>(world: &mut World, instruction: I) -> Option<I::Outcome> {
        I::from_outcome(world.done(instruction.into()))
    }

    #[test]
    fn each_takes_its_own_outcome() {
        let mut world = World::ready();
        let bob = CreateAccount {
            name: "bob".into(),
            request: 7,
        };
        let account = outcome(&mut world, bob).expect("its own");
        let bucket = CreateBucket {
            id: BucketId(2),
            name: "photos".into(),
            account: account.id,
            sealed_owner: vec![7],
        };
        let bucket = outcome(&mut world, bucket).expect("its own");
        assert_eq!((bucket.id, bucket.account), (BucketId(2), account.id));
        let gateway = GatewayId(3);
        let lease = outcome(
            &mut world,
            OpenLease {
                gateway,
                request: 9,
            },
        )
        .expect("its own");
        assert_eq!((lease.gateway, lease.request), (gateway, 9));
        assert_eq!(OpenLease::from_outcome(Outcome::Done), None);
        assert_eq!(CreateAccount::from_outcome(Outcome::Lease(lease)), None);
        assert_eq!(CreateBucket::from_outcome(Outcome::Account(account)), None);
    }
}
