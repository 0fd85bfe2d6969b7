//! megalith-model.
