//! megalith-identity.
