//! Redirects, retries and deadlines of [`MetaClient`], against members that act as they are told.

mod support;

use megalith_client::{ClientError, MetaClient};
use megalith_identity::Role;
use megalith_model::beat::Beat;
use megalith_model::codec;
use megalith_model::command::{Answer, Command, CommandKey, Envelope, Outcome, Refusal};
use megalith_model::denied::{DeniedCertificate, DenyList};
use megalith_model::ids::{BlobId, GatewayId};
use megalith_model::query::Reply;
use megalith_model::question;
use megalith_proto::v1 as proto;
use proto::metadata_server::{Metadata, MetadataServer};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Certificates, Server, dead_address, endpoint, quick, serve_grpc};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

/// What a member does with a call.
#[derive(Clone)]
enum Act {
    Answer,
    Refuse(Refusal),
    /// Answers as a member that isn't the leader: (leader, its address).
    Redirect(u32, String),
    Fail(tonic::Code),
    Silence,
    WrongRange(u32),
}

/// Acts as told, call by call; after that like `default`. Records what it was asked.
struct Member {
    acts: Mutex<VecDeque<Act>>,
    default: Act,
    seen: Mutex<Vec<(Option<CommandKey>, u32)>>,
}

struct Service(Arc<Member>);

impl Member {
    fn new(acts: &[Act], default: Act) -> Arc<Self> {
        Arc::new(Self {
            acts: Mutex::new(acts.iter().cloned().collect()),
            default,
            seen: Mutex::default(),
        })
    }

    fn next(&self, key: Option<CommandKey>, epoch: u32) -> Act {
        self.seen.lock().expect("whole").push((key, epoch));
        let act = self.acts.lock().expect("whole").pop_front();
        act.unwrap_or_else(|| self.default.clone())
    }

    fn calls(&self) -> usize {
        self.seen.lock().expect("whole").len()
    }

    async fn serve(self: &Arc<Self>, certificates: &Certificates, node: u32) -> Server {
        let material = certificates.issue(Role::Metadata, node);
        serve_grpc(material, MetadataServer::new(Service(self.clone()))).await
    }
}

/// The time limit for what must happen; a test that needs all of it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

const KEY: CommandKey = CommandKey {
    id: BlobId(7),
    attempt: 1,
    gateway: GatewayId(1),
};

/// The group's time, as every answer says.
const TIME_MS: u64 = 1_700_000_000_000;

fn not_leader(leader: u32, address: String) -> proto::NotLeader {
    proto::NotLeader { leader, address }
}

#[tonic::async_trait]
impl Metadata for Service {
    type BackupStream = futures::stream::Empty<Result<proto::SnapshotPiece, Status>>;

    async fn backup(
        &self,
        _request: Request<proto::SnapshotRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented("no rows here"))
    }

    async fn propose(
        &self,
        request: Request<proto::ProposeRequest>,
    ) -> Result<Response<proto::ProposeReply>, Status> {
        use proto::propose_reply::Result as Told;
        let request = request.into_inner();
        let envelope: Envelope = codec::decode(&request.envelope).expect("an envelope");
        let told = match self.0.next(envelope.key, request.range_epoch) {
            Act::Answer => {
                let answer: Answer = Ok(Outcome::Done);
                Told::Answer(codec::encode(&answer).into())
            }
            Act::Refuse(refusal) => {
                let answer: Answer = Err(refusal);
                Told::Answer(codec::encode(&answer).into())
            }
            Act::Redirect(leader, address) => Told::NotLeader(not_leader(leader, address)),
            Act::Fail(code) => return Err(Status::new(code, "as told")),
            Act::Silence => std::future::pending().await,
            Act::WrongRange(range_epoch) => Told::WrongRange(proto::WrongRange {
                range_epoch,
                group: 0,
            }),
        };
        let result = Some(told);
        Ok(Response::new(proto::ProposeReply {
            time_ms: TIME_MS,
            level: 0,
            result,
        }))
    }

    async fn query(
        &self,
        request: Request<proto::QueryRequest>,
    ) -> Result<Response<proto::QueryReply>, Status> {
        use proto::query_reply::Result as Told;
        let told = match self.0.next(None, request.into_inner().range_epoch) {
            Act::Refuse(refusal) => panic!("{refusal} to a question"),
            Act::Answer => Told::Reply(codec::encode(&Reply::Keks(vec![])).into()),
            Act::Redirect(leader, address) => Told::NotLeader(not_leader(leader, address)),
            Act::Fail(code) => return Err(Status::new(code, "as told")),
            Act::Silence => std::future::pending().await,
            Act::WrongRange(range_epoch) => Told::WrongRange(proto::WrongRange {
                range_epoch,
                group: 0,
            }),
        };
        let result = Some(told);
        Ok(Response::new(proto::QueryReply {
            index: 0,
            time_ms: TIME_MS,
            level: 0,
            result,
        }))
    }

    async fn change_members(
        &self,
        _request: Request<proto::ChangeMembersRequest>,
    ) -> Result<Response<proto::ChangeMembersReply>, Status> {
        Err(Status::unimplemented(
            "this group's members stay as they are",
        ))
    }
}

fn nothing(key: Option<CommandKey>) -> Envelope {
    Envelope {
        key,
        command: Command::Nothing,
    }
}

fn client(certificates: &Certificates, members: &[(u32, &str)]) -> MetaClient {
    let endpoints: Vec<_> = members
        .iter()
        .map(|(node, address)| endpoint(*node, address))
        .collect();
    MetaClient::new(&endpoints, certificates.issue(Role::Gateway, 1), quick())
}

#[tokio::test]
async fn a_redirect_is_followed_and_remembered_even_to_a_member_not_listed() {
    let certificates = Certificates::new();
    let leader = Member::new(&[], Act::Answer);
    let leading = leader.serve(&certificates, 2).await;
    let follower = Member::new(&[], Act::Redirect(2, leading.address.clone()));
    let following = follower.serve(&certificates, 1).await;
    let client = client(&certificates, &[(1, &following.address)]);
    for _ in 0..3 {
        let answer = client.propose(nothing(None)).await.expect("an answer");
        assert_eq!(answer, Ok(Outcome::Done));
    }
    assert_eq!((follower.calls(), leader.calls()), (1, 3));
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let certificates = Certificates::new();
    let acts = [
        Act::Silence,
        Act::Fail(tonic::Code::Unavailable),
        Act::WrongRange(7),
    ];
    let member = Member::new(&acts, Act::Answer);
    let server = member.serve(&certificates, 1).await;
    let client = client(&certificates, &[(1, &server.address)]);
    let answer = client.propose(nothing(Some(KEY))).await;
    assert_eq!(answer.expect("an answer"), Ok(Outcome::Done));
    let epochs = [0, 0, 0, 7].map(|epoch| (Some(KEY), epoch));
    assert_eq!(*member.seen.lock().expect("whole"), epochs);
}

#[tokio::test]
async fn a_closed_lease_says_nothing_of_a_copy_that_may_have_arrived_before() {
    let certificates = Certificates::new();
    let blob = KEY.id;
    let refusals = [Refusal::LeaseClosed { blob }, Refusal::Superseded { blob }];
    for refusal in refusals {
        let refused = Act::Refuse(refusal.clone());
        let member = Member::new(&[refused.clone(), Act::Silence], refused);
        let server = member.serve(&certificates, 1).await;
        let client = client(&certificates, &[(1, &server.address)]);
        // Nothing was sent before: it is certain.
        let answer = client.propose(nothing(Some(KEY))).await;
        assert_eq!(answer.expect("an answer"), Err(refusal));
        let answer = client.propose(nothing(Some(KEY))).await;
        assert!(matches!(answer, Err(ClientError::Unknown(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_command_that_may_have_been_taken_is_unknown_and_never_failed() {
    let certificates = Certificates::new();
    let material = certificates.issue(Role::Gateway, 1);
    let mut settings = quick();
    settings.propose_deadline = Duration::from_millis(700);
    let silent = Member::new(&[], Act::Silence);
    let server = silent.serve(&certificates, 1).await;
    let dead = dead_address().await;
    let members = [endpoint(2, &dead), endpoint(1, &server.address)];
    let client = MetaClient::new(&members, material.clone(), settings.clone());
    let end = client.propose(nothing(None)).await;
    assert!(matches!(end, Err(ClientError::Unknown(_))), "{end:?}");
    // No member was there: certainly not applied.
    let client = MetaClient::new(&members[..1], material.clone(), settings.clone());
    let end = client.propose(nothing(None)).await;
    assert!(matches!(end, Err(ClientError::Unavailable(_))), "{end:?}");
    // A different node was there.
    let other = [endpoint(9, &server.address)];
    let client = MetaClient::new(&other, material, settings);
    let end = client.propose(nothing(None)).await;
    let Err(ClientError::Unavailable(why)) = &end else {
        panic!("{end:?}");
    };
    assert!(why.contains("expected metadata 9"), "{why}");
}

/// After how long without an answer a client gives up in the test of it.
const GIVES_UP: Duration = Duration::from_millis(700);

#[tokio::test]
async fn giving_up_leaves_open_what_was_sent_and_sends_nothing_more_until_a_member_is_heard() {
    let certificates = Certificates::new();
    let member = Member::new(&[Act::Silence], Act::Answer);
    let server = member.serve(&certificates, 1).await;
    let mut settings = quick();
    settings.propose_deadline = PATIENCE;
    settings.query_deadline = PATIENCE;
    settings.attempt_deadline = PATIENCE;
    let members = [endpoint(1, &server.address)];
    let client = MetaClient::new(&members, certificates.issue(Role::Gateway, 1), settings);
    client.give_up_after(GIVES_UP);
    // The member has it, so nobody knows what becomes of it.
    let sent = timeout(PATIENCE / 2, client.propose(nothing(Some(KEY)))).await;
    let sent = sent.expect("it gives up");
    assert!(matches!(sent, Err(ClientError::Unknown(_))), "{sent:?}");
    assert_eq!(member.calls(), 1);
    // These are not sent, so nothing becomes of them.
    let end = client.propose(nothing(Some(KEY))).await;
    assert!(matches!(end, Err(ClientError::Unavailable(_))), "{end:?}");
    let end = client.query(question::Keks.into()).await;
    assert!(matches!(end, Err(ClientError::Unavailable(_))), "{end:?}");
    assert_eq!(member.calls(), 1);
    assert!(client.given_up().is_some());
    // This member knows of no beats; it says so, and is heard.
    let beat = Beat {
        gateway: GatewayId(1),
        life: 1,
        leases: Vec::new(),
        reading: None,
    };
    assert!(client.beat(&beat, PATIENCE).await.is_err());
    assert_eq!(client.given_up(), None);
    let answer = client.propose(nothing(Some(KEY))).await;
    assert_eq!(answer.expect("an answer"), Ok(Outcome::Done));
}

#[tokio::test]
async fn what_is_refused_is_not_repeated() {
    let certificates = Certificates::new();
    let member = Member::new(&[], Act::Fail(tonic::Code::PermissionDenied));
    let server = member.serve(&certificates, 1).await;
    let client = client(&certificates, &[(1, &server.address)]);
    let end = client.propose(nothing(None)).await;
    assert!(matches!(end, Err(ClientError::Rejected(_))), "{end:?}");
    let end = client.query(question::Keks.into()).await;
    assert!(matches!(end, Err(ClientError::Rejected(_))), "{end:?}");
    assert_eq!(member.calls(), 2);
}

/// A list that denies the gateway that these tests speak as, or nobody.
fn deny_list(revision: u64, denied: bool) -> DenyList {
    let mut list = DenyList {
        revision,
        ..DenyList::default()
    };
    if denied {
        list.deny(DeniedCertificate {
            role: Role::Gateway,
            id: 1,
            serial: None,
        });
    }
    list
}

#[tokio::test]
async fn a_denied_client_is_told_so_and_does_not_try_on() {
    let certificates = Certificates::new();
    let member = Member::new(&[], Act::Answer);
    let material = certificates.issue(Role::Metadata, 1);
    let service = MetadataServer::new(Service(member.clone()));
    let server = serve_grpc(material.clone(), service).await;
    let mut settings = quick();
    // Who tries on does not end in time.
    settings.propose_deadline = PATIENCE * 10;
    settings.query_deadline = PATIENCE * 10;
    let gateway = certificates.issue(Role::Gateway, 1);
    let client = MetaClient::new(&[endpoint(1, &server.address)], gateway, settings);

    material.denials().hear(deny_list(1, true));
    let end = timeout(PATIENCE, client.propose(nothing(None))).await;
    let end = end.expect("at once");
    let Err(ClientError::Denied(why)) = &end else {
        panic!("{end:?}");
    };
    assert!(why.starts_with("gateway 1, "), "{why}");
    let end = timeout(PATIENCE, client.query(question::Keks.into())).await;
    let end = end.expect("at once");
    assert!(matches!(end, Err(ClientError::Denied(_))), "{end:?}");
    assert_eq!(member.calls(), 0);

    material.denials().hear(deny_list(2, false));
    let answer = client.propose(nothing(None)).await;
    assert_eq!(answer.expect("an answer"), Ok(Outcome::Done));
}

#[tokio::test]
async fn a_command_sent_before_its_client_was_denied_is_unknown() {
    let certificates = Certificates::new();
    let member = Member::new(&[], Act::Silence);
    let material = certificates.issue(Role::Metadata, 1);
    let service = MetadataServer::new(Service(member.clone()));
    let server = serve_grpc(material.clone(), service).await;
    let mut settings = quick();
    settings.propose_deadline = PATIENCE * 10;
    let gateway = certificates.issue(Role::Gateway, 1);
    let client = MetaClient::new(&[endpoint(1, &server.address)], gateway, settings);
    let denied = async {
        while member.calls() == 0 {
            tokio::task::yield_now().await;
        }
        material.denials().hear(deny_list(1, true));
    };
    let asked = async { tokio::join!(client.propose(nothing(None)), denied).0 };
    let end = timeout(PATIENCE, asked).await.expect("it does not try on");
    assert!(matches!(end, Err(ClientError::Unknown(_))), "{end:?}");
}

#[tokio::test]
async fn members_that_name_each_other_do_not_spin() {
    let certificates = Certificates::new();
    let one = Member::new(&[], Act::Redirect(2, String::new()));
    let two = Member::new(&[], Act::Redirect(1, String::new()));
    let servers = [
        one.serve(&certificates, 1).await,
        two.serve(&certificates, 2).await,
    ];
    let mut settings = quick();
    settings.propose_deadline = Duration::from_millis(600);
    let members = [
        endpoint(1, &servers[0].address),
        endpoint(2, &servers[1].address),
    ];
    let client = MetaClient::new(&members, certificates.issue(Role::Gateway, 1), settings);
    let end = client.propose(nothing(None)).await;
    assert!(matches!(end, Err(ClientError::Unknown(_))), "{end:?}");
    let calls = one.calls() + two.calls();
    assert!((2..200).contains(&calls), "{calls} calls");
}

#[tokio::test]
async fn a_question_goes_to_another_member_when_one_is_slow_or_gone() {
    let certificates = Certificates::new();
    let slow = Member::new(&[], Act::Silence);
    let slow_server = slow.serve(&certificates, 1).await;
    let good = Member::new(&[], Act::Answer);
    let good_server = good.serve(&certificates, 2).await;
    let dead = dead_address().await;
    for first in [(1, slow_server.address.as_str()), (3, dead.as_str())] {
        let client = client(&certificates, &[first, (2, &good_server.address)]);
        let reply = client.query(question::Keks.into()).await.expect("a reply");
        assert_eq!(reply, Reply::Keks(vec![]));
        let before = slow.calls();
        // The one that answered is asked first from now on.
        client.query(question::Keks.into()).await.expect("a reply");
        assert_eq!(slow.calls(), before);
    }
    assert_eq!((slow.calls(), good.calls()), (1, 4));
}
