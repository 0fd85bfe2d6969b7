//! megalith-client.
