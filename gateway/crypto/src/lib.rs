//! megalith-crypto.
