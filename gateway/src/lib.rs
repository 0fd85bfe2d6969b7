//! megalith-gateway.
