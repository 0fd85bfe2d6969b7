//! megalith-proto.
