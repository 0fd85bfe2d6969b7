//! megalith-model.

pub mod ids;
