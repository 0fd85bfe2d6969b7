//! The metadata role from its settings.
use crate::config::MetadataSection;
use crate::run::RunError;
use megalith_model::ids::ClusterId;
use megalith_node::run::{MetadataPart, NodeConfig, Ports};
use std::path::Path;
pub async fn start(
    _c: &NodeConfig,
    _p: &Ports,
    _d: &Path,
    _s: &MetadataSection,
) -> Result<MetadataPart, RunError> {
    Err(RunError::Log(String::new()))
}
pub fn init(
    _p: &Path,
    _c: ClusterId,
    _m: u32,
    _v: &[u32],
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Ok(())
}
