//! megalith-erasure.
