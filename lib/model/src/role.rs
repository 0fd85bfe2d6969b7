//! What a member of the cluster does, as its certificate says.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a member of the cluster does. The order is stored (postcard) and never changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Role {
    /// Keeps shards; its id is a [`crate::ids::NodeId`].
    Storage,
    /// Votes in metadata groups; its id is a [`crate::ids::NodeId`].
    Metadata,
    /// Serves S3; its id is a [`crate::ids::GatewayId`].
    Gateway,
    /// A person or a script that uses the command line; its id is 0 unless chosen otherwise.
    Operator,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Storage, Self::Metadata, Self::Gateway, Self::Operator];

    /// Returns the role's name in certificates.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Metadata => "metadata",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
        }
    }

    /// Returns the role of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
