//! [`MapWatch`] and the leader: redirects, endings, older maps.

mod support;

use megalith_client::{ClusterClient, MapWatch, Roster};
use megalith_identity::Role;
use megalith_model::codec;
use megalith_model::denied::{DENIED_MAX, DeniedCertificate, DenyList};
use megalith_model::topology::ClusterMap;
use megalith_proto::v1 as proto;
use proto::cluster_server::{Cluster, ClusterServer};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use support::{Certificates, Server, endpoint, quick, serve_grpc};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

/// What a member streams: a map, a redirect, or (None) the end.
type Update = Option<Result<ClusterMap, (u32, String)>>;

struct Member {
    updates: Arc<watch::Sender<Update>>,
    /// The members that it names.
    members: Vec<proto::MemberAddress>,
    /// The deny list that it pushes, as it travels.
    denied: Vec<u8>,
}

#[tonic::async_trait]
impl Cluster for Member {
    async fn join(
        &self,
        _: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::JoinReply>, Status> {
        Err(Status::unavailable("not here"))
    }

    async fn heartbeat(
        &self,
        _: Request<proto::HeartbeatRequest>,
    ) -> Result<Response<proto::HeartbeatReply>, Status> {
        Err(Status::unavailable("not here"))
    }

    async fn beat(
        &self,
        _: Request<proto::BeatRequest>,
    ) -> Result<Response<proto::BeatReply>, Status> {
        Err(Status::unavailable("not here"))
    }

    type WatchMapStream = Pin<Box<dyn Stream<Item = Result<proto::MapUpdate, Status>> + Send>>;

    async fn watch_map(
        &self,
        _: Request<proto::WatchMapRequest>,
    ) -> Result<Response<Self::WatchMapStream>, Status> {
        use proto::map_update::Update as Told;
        let updates = WatchStream::new(self.updates.subscribe());
        let (members, denied) = (self.members.clone(), self.denied.clone());
        let updates = updates.map_while(move |update| {
            let told = match update? {
                Ok(map) => Told::Map(codec::encode(&map).into()),
                Err((leader, address)) => Told::NotLeader(proto::NotLeader { leader, address }),
            };
            let update = Some(told);
            let (members, denied) = (members.clone(), denied.clone().into());
            Some(Ok(proto::MapUpdate {
                update,
                members,
                level: 0,
                denied,
            }))
        });
        Ok(Response::new(Box::pin(updates)))
    }

    async fn raise_level(
        &self,
        _: Request<proto::RaiseLevelRequest>,
    ) -> Result<Response<proto::RaiseLevelReply>, Status> {
        Err(Status::unavailable("not here"))
    }

    async fn status(
        &self,
        _: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusReply>, Status> {
        Err(Status::unavailable("not here"))
    }

    async fn health(
        &self,
        _: Request<proto::HealthRequest>,
    ) -> Result<Response<proto::HealthReply>, Status> {
        Err(Status::unavailable("not here"))
    }
}

async fn member(
    certificates: &Certificates,
    node: u32,
    first: Update,
) -> (Server, Arc<watch::Sender<Update>>) {
    member_that_names(certificates, node, first, Vec::new()).await
}

async fn member_that_names(
    certificates: &Certificates,
    node: u32,
    first: Update,
    members: Vec<proto::MemberAddress>,
) -> (Server, Arc<watch::Sender<Update>>) {
    member_that_says(certificates, node, first, (members, Vec::new())).await
}

async fn member_that_says(
    certificates: &Certificates,
    node: u32,
    first: Update,
    (members, denied): (Vec<proto::MemberAddress>, Vec<u8>),
) -> (Server, Arc<watch::Sender<Update>>) {
    let updates = Arc::new(watch::channel(first).0);
    let material = certificates.issue(Role::Metadata, node);
    let member = Member {
        updates: updates.clone(),
        members,
        denied,
    };
    let server = serve_grpc(material, ClusterServer::new(member)).await;
    (server, updates)
}

fn map(term: u64, version: u64) -> ClusterMap {
    ClusterMap {
        term,
        version,
        ..ClusterMap::default()
    }
}

async fn until(maps: &MapWatch, term: u64, version: u64) {
    let wanted = maps.wait_for(|map| (map.term, map.version) == (term, version));
    timeout(Duration::from_secs(30), wanted)
        .await
        .expect("in time");
}

#[tokio::test]
async fn the_newest_map_is_kept_whoever_leads() {
    let certificates = Certificates::new();
    let (second, pushed) = member(&certificates, 2, Some(Ok(map(1, 1)))).await;
    let redirect = Some(Err((2, second.address.clone())));
    let (first, told) = member(&certificates, 1, redirect).await;
    let members = [endpoint(1, &first.address)];
    let cluster = ClusterClient::new(&members, certificates.issue(Role::Storage, 7), quick());
    let maps = MapWatch::start(cluster);
    until(&maps, 1, 1).await;
    pushed.send_replace(Some(Ok(map(1, 2))));
    until(&maps, 1, 2).await;
    // The first takes over; the second is no longer leader and says so.
    told.send_replace(Some(Ok(map(2, 1))));
    pushed.send_replace(Some(Err((1, String::new()))));
    until(&maps, 2, 1).await;
    // An older map changes nothing, whoever sends it; the next newer one does.
    told.send_replace(Some(Ok(map(1, 9))));
    told.send_replace(Some(Ok(map(2, 2))));
    until(&maps, 2, 2).await;
    told.send_replace(Some(Ok(map(1, 10))));
    assert_eq!(maps.refresh().await.expect("asked").version, 2);
    // A stream that ends is opened again.
    told.send_replace(None);
    told.send_replace(Some(Ok(map(2, 3))));
    until(&maps, 2, 3).await;
    // The leader dies, the other one leads.
    drop(first);
    pushed.send_replace(Some(Ok(map(3, 1))));
    until(&maps, 3, 1).await;
}

#[tokio::test]
async fn members_that_came_later_are_asked_when_those_of_the_settings_are_gone() {
    let certificates = Certificates::new();
    let (second, _pushed) = member(&certificates, 2, Some(Ok(map(2, 1)))).await;
    let named = proto::MemberAddress {
        node: 2,
        address: second.address.clone(),
    };
    let (first, told) = member_that_names(&certificates, 1, Some(Ok(map(1, 1))), vec![named]).await;
    let roster = Roster::new(&[endpoint(1, &first.address)]);
    let material = certificates.issue(Role::Storage, 7);
    let maps = MapWatch::start(ClusterClient::new(&roster, material.clone(), quick()));
    until(&maps, 1, 1).await;
    drop(first);
    told.send_replace(None);
    until(&maps, 2, 1).await;
    // This one knows only what the roster tells it.
    let other = ClusterClient::new(&roster, material, quick());
    assert_eq!(other.fetch_map().await.expect("asked").term, 2);
}

#[tokio::test]
async fn a_deny_list_comes_with_the_map_and_a_bad_one_changes_nothing() {
    let certificates = Certificates::new();
    let list_of = |len: usize| {
        let mut list = DenyList {
            revision: 5,
            ..DenyList::default()
        };
        for id in 0..u32::try_from(len).expect("small") {
            list.deny(DeniedCertificate {
                role: Role::Gateway,
                id,
                serial: None,
            });
        }
        codec::encode(&list)
    };
    let longest = list_of(DENIED_MAX);
    let cut = longest[..longest.len() - 1].to_vec();
    let cases = [
        (longest, DENIED_MAX),
        (list_of(DENIED_MAX + 1), 0),
        (cut, 0),
        (Vec::new(), 0),
    ];
    for (node, (denied, heard)) in (1..).zip(cases) {
        let says = (Vec::new(), denied);
        let (server, _told) =
            member_that_says(&certificates, node, Some(Ok(map(1, 1))), says).await;
        let material = certificates.issue(Role::Storage, node);
        let members = [endpoint(node, &server.address)];
        let cluster = ClusterClient::new(&members, material.clone(), quick());
        // The map comes with the list, and after it.
        until(&MapWatch::start(cluster), 1, 1).await;
        let list = material.denials().current();
        assert_eq!(list.denied.len(), heard, "case {node}");
    }
}
