//! What a map holds at the moment that somebody asks for one.

mod beats;
mod levels;

use super::*;
use crate::levels::Levels;
use megalith_identity::{PeerIdentity, Role};
use megalith_model::command::Outcome;
use megalith_model::freeing::Freeing;
use megalith_model::ids::{GatewayId, LeaseId};
use megalith_model::member::MemberStatus;
use megalith_model::query::DataStatus;
use megalith_model::topology::Lease;
use megalith_proto::v1;
use megalith_proto::v1::cluster_server::Cluster;
use megalith_proto::v1::map_update::Update;
use std::sync::Mutex;
use tokio_stream::StreamExt;
use tonic::Request as Call;

/// A replica that leads and hears late of everything: what was answered is applied here only by
/// [`PlacementGroup::catch_up`], and no change is told.
#[derive(Clone)]
struct Late {
    shared: Arc<Shared>,
}

struct Shared {
    answered: Mutex<Topology>,
    applied: Mutex<Topology>,
    readable: watch::Sender<bool>,
    leadership: watch::Sender<Leadership>,
    changes: watch::Sender<u64>,
    addresses: watch::Sender<Arc<Vec<(NodeId, String)>>>,
    levels: Levels,
    members: Mutex<Vec<MemberStatus>>,
    /// All commands that were proposed, in order.
    proposed: watch::Sender<Vec<Command>>,
}

impl Late {
    fn new() -> Self {
        Self::of(Levels::default())
    }

    fn of(levels: Levels) -> Self {
        let topology = Topology {
            doomed: false,
            settings: megalith_model::settings::Settings::default(),
            cluster: Some(ClusterId([1; 16])),
            nodes: Vec::new(),
            open_volumes: Vec::new(),
            next_volume: megalith_model::ids::VolumeId(1),
            leases: Vec::new(),
        };
        let leadership = Leadership {
            term: Some(1),
            leader: Some((NodeId(1), "here".into())),
        };
        Self {
            shared: Arc::new(Shared {
                answered: Mutex::new(topology.clone()),
                applied: Mutex::new(topology),
                readable: watch::channel(true).0,
                leadership: watch::channel(leadership).0,
                changes: watch::channel(0).0,
                addresses: watch::channel(Arc::default()).0,
                levels,
                members: Mutex::default(),
                proposed: watch::channel(Vec::new()).0,
            }),
        }
    }

    /// Answers a gateway that wants a lease.
    fn open_lease(&self, number: u64) -> Lease {
        self.open_lease_of(GatewayId(1), number)
    }

    fn open_lease_of(&self, gateway: GatewayId, number: u64) -> Lease {
        let lease = Lease {
            id: LeaseId(number),
            gateway,
            request: number,
        };
        let mut answered = self.shared.answered.lock().expect("no panic");
        answered.leases.push(lease);
        lease
    }
}

impl PlacementGroup for Late {
    async fn propose(&self, command: Command) -> Option<Answer> {
        let raises = matches!(command, Command::RaiseLevel { .. });
        self.shared.proposed.send_modify(|all| all.push(command));
        raises.then_some(Ok(Outcome::Done))
    }

    async fn catch_up(&self) -> bool {
        let answered = self.shared.answered.lock().expect("no panic").clone();
        *self.shared.applied.lock().expect("no panic") = answered;
        true
    }

    async fn topology(&self) -> Option<Topology> {
        let readable = *self.shared.readable.borrow();
        readable.then(|| self.shared.applied.lock().expect("no panic").clone())
    }

    async fn old_uploads(
        &self,
        _: megalith_model::ids::UploadId,
    ) -> Option<megalith_model::answer::OldUploads> {
        None
    }

    async fn data(&self) -> Option<DataStatus> {
        None
    }

    fn now_ms(&self) -> u64 {
        0
    }

    fn tell_freeing(&self, _: Option<(u64, Freeing)>) {}

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.shared.leadership.subscribe()
    }

    fn topology_changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    fn denied(&self) -> watch::Receiver<Arc<megalith_model::denied::DenyList>> {
        watch::channel(Arc::default()).1
    }

    fn addresses(&self) -> watch::Receiver<Arc<Vec<(NodeId, String)>>> {
        self.shared.addresses.subscribe()
    }

    fn levels(&self) -> Levels {
        self.shared.levels.clone()
    }

    async fn members(&self) -> Vec<MemberStatus> {
        self.shared.members.lock().expect("no panic").clone()
    }
}

fn service(group: &Late, stop: &CancellationToken) -> ClusterService<Late> {
    service_by(group, stop, PlannerSettings::default())
}

fn service_by(
    group: &Late,
    stop: &CancellationToken,
    settings: PlannerSettings,
) -> ClusterService<Late> {
    let cluster = ClusterId([1; 16]);
    let placement = Placement::start(group.clone(), cluster, settings, stop.clone());
    ClusterService::new(group.clone(), placement, cluster)
}

/// A call by somebody whose certificate says this.
fn call_of<T>(role: Role, id: u32, message: T) -> Call<T> {
    let peer = PeerIdentity::new(ClusterId([1; 16]), &[(role, id)]).expect("one role");
    let mut call = Call::new(message);
    call.extensions_mut().insert(Arc::new(peer));
    call
}

async fn first_update(service: &ClusterService<Late>) -> Result<Update, tonic::Status> {
    let stream = service
        .watch_map(Call::new(v1::WatchMapRequest::default()))
        .await?;
    let mut updates = stream.into_inner();
    let update = updates.next().await.expect("a first update")?;
    Ok(update.update.expect("says something"))
}

async fn first_map(service: &ClusterService<Late>) -> ClusterMap {
    match first_update(service).await {
        Ok(Update::Map(map)) => megalith_model::codec::decode(&map).expect("a map"),
        other => panic!("no map but {other:?}"),
    }
}

#[tokio::test]
async fn the_first_map_knows_every_lease_that_was_answered_before() {
    let (group, stop) = (Late::new(), CancellationToken::new());
    let service = service(&group, &stop);
    // More than once in the second in which the topology is read anyway.
    for number in 1..50 {
        let lease = group.open_lease(number);
        let map = first_map(&service).await;
        assert!(map.leases.contains(&lease), "{lease:?} is not in {map:?}");
    }
    stop.cancel();
}

#[tokio::test]
async fn many_who_ask_at_once_all_get_a_map_that_is_new_enough() {
    let (group, stop) = (Late::new(), CancellationToken::new());
    let service = service(&group, &stop);
    let asked = (1..100).map(|number| {
        let (group, service) = (group.clone(), service.clone());
        tokio::spawn(async move {
            let lease = group.open_lease(number);
            let map = first_map(&service).await;
            assert!(map.leases.contains(&lease), "{lease:?} is not in {map:?}");
        })
    });
    for one in asked.collect::<Vec<_>>() {
        one.await.expect("has a map");
    }
    stop.cancel();
}

#[tokio::test]
async fn no_old_map_is_given_where_the_rows_can_not_be_read() {
    let (group, stop) = (Late::new(), CancellationToken::new());
    let service = service(&group, &stop);
    first_map(&service).await;
    group.shared.readable.send_replace(false);
    let refused = first_update(&service).await.expect_err("an old map");
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    group.shared.readable.send_replace(true);
    first_map(&service).await;
    stop.cancel();
}

#[tokio::test]
async fn a_replica_that_does_not_lead_says_so() {
    let (group, stop) = (Late::new(), CancellationToken::new());
    let service = service(&group, &stop);
    group.shared.leadership.send_replace(Leadership::default());
    let update = first_update(&service).await.expect("an update");
    assert!(matches!(update, Update::NotLeader(_)), "{update:?}");
    stop.cancel();
}
