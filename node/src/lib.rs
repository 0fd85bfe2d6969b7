//! megalith-node.
