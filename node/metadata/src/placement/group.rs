//! What placement asks of the metadata group that it runs beside.

use crate::levels::Levels;
use megalith_model::answer::{OldUploads, Topology};
use megalith_model::command::{Answer, Command};
use megalith_model::denied::DenyList;
use megalith_model::freeing::Freeing;
use megalith_model::ids::{NodeId, UploadId};
use megalith_model::member::MemberStatus;
use megalith_model::query::DataStatus;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;

/// Who leads, as this replica sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term in which this replica leads and has applied an entry; None if it doesn't.
    pub term: Option<u64>,
    /// Who leads, if that is known, with the address of its gRPC listener.
    pub leader: Option<(NodeId, String)>,
}

/// One replica of the metadata group.
pub trait PlacementGroup: Clone + Send + Sync + 'static {
    /// Puts a command through the log. None if its fate isn't known.
    fn propose(&self, command: Command) -> impl Future<Output = Option<Answer>> + Send;

    /// Waits until this replica has applied everything that any replica has answered before the
    /// call. False if that can't be known now.
    fn catch_up(&self) -> impl Future<Output = bool> + Send;

    /// The topology as this replica has applied it. None if it can't be read.
    fn topology(&self) -> impl Future<Output = Option<Topology>> + Send;

    /// Uploads that are too old by the group's time, among those from `from` on, as this replica
    /// has applied them. None if that can't be known now.
    fn old_uploads(&self, from: UploadId) -> impl Future<Output = Option<OldUploads>> + Send;

    /// The data's standing, linearizably. None if it can't be read now.
    fn data(&self) -> impl Future<Output = Option<DataStatus>> + Send;

    /// The group's time in milliseconds since 1970; 0 if this replica doesn't lead.
    fn now_ms(&self) -> u64;

    /// Takes by which rules this replica, as the leader of a term, may give out deletes; None while
    /// it must give out none.
    fn tell_freeing(&self, freeing: Option<(u64, Freeing)>);

    /// Who leads.
    fn leadership(&self) -> watch::Receiver<Leadership>;

    /// Rises with every applied command that changes the topology.
    fn topology_changes(&self) -> watch::Receiver<u64>;

    /// The deny list of certificates as this replica has applied it.
    fn denied(&self) -> watch::Receiver<Arc<DenyList>>;

    /// The members and where they are, as they come and go.
    fn addresses(&self) -> watch::Receiver<Arc<Vec<(NodeId, String)>>>;

    /// The cluster's level here, and what other processes can run.
    fn levels(&self) -> Levels;

    /// The members as the leader sees them.
    fn members(&self) -> impl Future<Output = Vec<MemberStatus>> + Send;
}
