//! Commands and questions to the metadata group.
//!
//! A command is proposed again until its answer is known: a client's has a key, and any other does
//! no harm if it is applied twice. A deadline that passes gives [`ClientError::Unknown`], never a
//! failure that might be untrue.

use crate::backoff::{Backoff, random};
use crate::connect::MESSAGE_LEN_MAX;
use crate::convert;
use crate::error::{ClientError, chain};
use crate::group::{Ask, CallSettings, Group, Member, NoAnswer, Said, is_final};
use crate::roster::Roster;
use crate::time::GroupTime;
use crate::unheard;
use futures::stream::{FuturesUnordered, StreamExt};
use megalith_identity::TlsMaterial;
use megalith_model::beat::Beat;
use megalith_model::codec::{self, DecodeError};
use megalith_model::command::{Answer, Envelope, Refusal};
use megalith_model::ids::NodeId;
use megalith_model::level::Level;
use megalith_model::member::{ChangeStanding, MemberChange};
use megalith_model::query::{Query, Reply};
use megalith_proto::v1 as proto;
use proto::cluster_client::ClusterClient;
use proto::metadata_client::MetadataClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::Status;
use tonic::transport::Channel;

/// Calls the metadata group. Cheap to clone; clones share connections and what they have learnt.
#[derive(Clone)]
pub struct MetaClient {
    shared: Arc<Shared>,
}

struct Shared {
    group: Group,
    /// Epoch of the range map. One group holds everything, until ranges split.
    range_epoch: AtomicU32,
    time: GroupTime,
}

/// Draws the number of a command that gives something out ([`megalith_model::command`]).
#[must_use]
pub fn new_request() -> u64 {
    u64::from_le_bytes(random())
}

/// Returns whether an answer says nothing of a copy of the command that may have arrived before: it
/// is given without a look at what is remembered of the command, or to a later state of what the
/// command changes.
fn proves_nothing(answer: &Answer) -> bool {
    matches!(
        answer,
        Err(Refusal::LeaseClosed { .. }
            | Refusal::Superseded { .. }
            | Refusal::Level { .. }
            | Refusal::Changed)
    )
}

impl MetaClient {
    /// Builds a client of the group whose members `roster` names; redirects teach it more.
    #[must_use]
    pub fn new(
        roster: impl Into<Roster>,
        material: Arc<TlsMaterial>,
        settings: CallSettings,
    ) -> Self {
        let shared = Shared {
            group: Group::new(roster.into(), material, settings),
            range_epoch: AtomicU32::new(0),
            time: GroupTime::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The cluster's level, as far as an answer has told it; else the lowest that this program
    /// runs.
    #[must_use]
    pub fn level(&self) -> Level {
        self.shared.group.roster.level()
    }

    /// Puts a command through the log and returns its answer once it is applied.
    ///
    /// Fails with [`ClientError::Unknown`] if the deadline passes and some member may have taken
    /// the command; with [`ClientError::Unavailable`] if certainly none has. See
    /// [`Self::give_up_after`].
    pub async fn propose(&self, envelope: Envelope) -> Result<Answer, ClientError> {
        let shared = &*self.shared;
        let level = shared.group.roster.level();
        let bytes = bytes::Bytes::from(codec::encode_at(&envelope, level));
        let deadline = Instant::now() + shared.group.settings.propose_deadline;
        let call = |channel| shared.propose_once(channel, bytes.clone());
        shared.group.unheard.asked();
        if let Some(silent) = shared.group.unheard.lasting() {
            return Err(ClientError::Unavailable(unheard::said(silent)));
        }
        let answer = tokio::select! {
            biased;
            answer = shared.group.call_leader(deadline, call) => answer,
            silent = shared.group.unheard.lasts() => {
                return Err(ClientError::Unknown(unheard::said(silent)));
            }
        };
        let (bytes, sent_before) = answer.map_err(|end| match end {
            NoAnswer { denied: true, .. } => ClientError::Denied(end.last),
            NoAnswer { refused: true, .. } => ClientError::Rejected(end.last),
            NoAnswer { sent: true, .. } => ClientError::Unknown(end.last),
            NoAnswer { .. } => ClientError::Unavailable(end.last),
        })?;
        let answer: Answer = codec::decode(&bytes).map_err(|error| shared.malformed(&error))?;
        match &answer {
            Err(refusal) if sent_before && proves_nothing(&answer) => {
                Err(ClientError::Unknown(refusal.to_string()))
            }
            Ok(_) | Err(_) => Ok(answer),
        }
    }

    /// From now on commands and questions fail at once while no member has answered anything for
    /// `limit`, instead of waiting for their deadlines. Only for a process that goes on calling
    /// [`Self::beat`], which always waits, and so finds out when the group is back.
    pub fn give_up_after(&self, limit: Duration) {
        self.shared.group.unheard.give_up_after(limit);
    }

    /// Returns why calls fail at once at present; None if they don't (see
    /// [`Self::give_up_after`]).
    #[must_use]
    pub fn given_up(&self) -> Option<String> {
        self.shared.group.unheard.lasting().map(unheard::said)
    }

    /// Returns the group's time in milliseconds since 1970: what its leader said last, reckoned on.
    /// Before the leader has said anything it is this machine's wall clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.shared.time.now_ms()
    }

    /// Tells the leader what a gateway holds and reads, and hears the time from it. A gateway says
    /// it again and again ([`megalith_model::beat::BEAT_INTERVAL`]): it may have no other reason to
    /// speak with the leader.
    ///
    /// # Errors
    /// If no leader answers within `limit`.
    pub async fn beat(&self, beat: &Beat, limit: Duration) -> Result<(), ClientError> {
        let shared = &*self.shared;
        shared.group.unheard.asked();
        let request = convert::beat_to_wire(beat);
        let call = |channel| {
            let request = request.clone();
            async move {
                let reply = ClusterClient::new(channel).beat(request).await?;
                let reply = reply.into_inner();
                shared.time.hear(reply.time_ms);
                shared.group.roster.hear_level(reply.level);
                Ok(match reply.not_leader {
                    Some(hint) => Said::NotLeader(hint),
                    None => Said::Answer(()),
                })
            }
        };
        let deadline = Instant::now() + limit;
        let heard = shared.group.call_leader(deadline, call).await;
        heard.map(|((), _)| ()).map_err(unanswered)
    }

    /// Takes the next step of a membership change, and says how far it is. Call it again until the
    /// change is done or refused; one call too many does no harm.
    pub async fn change_members(
        &self,
        change: MemberChange,
    ) -> Result<ChangeStanding, ClientError> {
        use proto::change_members_reply::Result as Told;
        let request = convert::change_to_wire(change);
        let group = &self.shared.group;
        let call = |channel| async move {
            let reply = Shared::client(channel).change_members(request).await?;
            Ok(match reply.into_inner().result {
                Some(Told::NotLeader(hint)) => Said::NotLeader(hint),
                Some(Told::Done(how)) => Said::Answer(ChangeStanding::Done(how)),
                Some(Told::UnderWay(how)) => Said::Answer(ChangeStanding::UnderWay(how)),
                Some(Told::Refused(why)) => Said::Answer(ChangeStanding::Refused(why)),
                None => return Err(Status::internal("an answer without content")),
            })
        };
        let deadline = Instant::now() + group.settings.query_deadline;
        let standing = group.call_leader(deadline, call).await;
        standing.map(|(standing, _)| standing).map_err(unanswered)
    }

    /// Asks a question; the reply is linearizable, whichever member gives it. Prefers the member
    /// that answered last; asks another at once if one fails, and one more if one is slow.
    pub async fn query(&self, query: Query) -> Result<Reply, ClientError> {
        self.query_at(query).await.map(|(reply, _)| reply)
    }

    /// As [`Self::query`]; also says after which entry of the log the rows were read.
    pub async fn query_at(&self, query: Query) -> Result<(Reply, u64), ClientError> {
        let unheard = &self.shared.group.unheard;
        unheard.asked();
        let silent = match unheard.lasting() {
            Some(silent) => silent,
            None => tokio::select! {
                biased;
                answer = self.query_patiently(query) => return answer,
                silent = unheard.lasts() => silent,
            },
        };
        Err(ClientError::Unavailable(unheard::said(silent)))
    }

    async fn query_patiently(&self, query: Query) -> Result<(Reply, u64), ClientError> {
        let shared = &*self.shared;
        let level = shared.group.roster.level();
        let bytes = bytes::Bytes::from(codec::encode_at(&query, level));
        let deadline = Instant::now() + shared.group.settings.query_deadline;
        if query.is_for_leader() {
            let call = |channel| shared.query_once(channel, bytes.clone());
            let answer = shared.group.call_leader(deadline, call).await;
            let (read, _) = answer.map_err(unanswered)?;
            return shared.decoded(&read);
        }
        let mut backoff = Backoff::new();
        loop {
            let last = match shared.query_round(&bytes, deadline).await {
                Ok(read) => return shared.decoded(&read),
                Err(end) if end.denied => return Err(ClientError::Denied(end.last)),
                Err(end) if end.refused => return Err(ClientError::Rejected(end.last)),
                Err(end) => end.last,
            };
            let wait = backoff.step();
            if Instant::now() + wait >= deadline {
                return Err(ClientError::Unavailable(last));
            }
            sleep(wait).await;
        }
    }
}

/// A reply, and the last entry of the log before it.
struct Read {
    reply: bytes::Bytes,
    index: u64,
}

/// The result of asking one member.
struct Attempt {
    member: Arc<Member>,
    said: Result<Said<Read>, Status>,
}

fn unanswered(end: NoAnswer) -> ClientError {
    if end.denied {
        ClientError::Denied(end.last)
    } else if end.refused {
        ClientError::Rejected(end.last)
    } else {
        ClientError::Unavailable(end.last)
    }
}

impl Shared {
    fn client(channel: Channel) -> MetadataClient<Channel> {
        MetadataClient::new(channel)
            .max_decoding_message_size(MESSAGE_LEN_MAX)
            .max_encoding_message_size(MESSAGE_LEN_MAX)
    }

    /// Why an answer can't be read: because the cluster is ahead of this program, if it is.
    fn malformed(&self, error: &DecodeError) -> ClientError {
        let outgrown = self.group.roster.check_level().err();
        ClientError::Malformed(outgrown.map_or(error.to_string(), |outgrown| outgrown.to_string()))
    }

    fn decoded(&self, read: &Read) -> Result<(Reply, u64), ClientError> {
        let reply = codec::decode(&read.reply).map_err(|error| self.malformed(&error))?;
        Ok((reply, read.index))
    }

    fn moved(&self, wrong: &proto::WrongRange) -> &'static str {
        self.range_epoch.store(wrong.range_epoch, Ordering::Relaxed);
        "the range map was old"
    }

    async fn propose_once(
        &self,
        channel: Channel,
        envelope: bytes::Bytes,
    ) -> Result<Said<bytes::Bytes>, Status> {
        use proto::propose_reply::Result as Told;
        let range_epoch = self.range_epoch.load(Ordering::Relaxed);
        let request = proto::ProposeRequest {
            envelope,
            range_epoch,
        };
        let reply = Self::client(channel).propose(request).await?.into_inner();
        self.time.hear(reply.time_ms);
        self.group.roster.hear_level(reply.level);
        Ok(match reply.result {
            Some(Told::Answer(answer)) => Said::Answer(answer),
            Some(Told::NotLeader(hint)) => Said::NotLeader(hint),
            Some(Told::WrongRange(wrong)) => Said::Again(self.moved(&wrong)),
            None => return Err(Status::internal("an answer without content")),
        })
    }

    async fn query_once(
        &self,
        channel: Channel,
        query: bytes::Bytes,
    ) -> Result<Said<Read>, Status> {
        use proto::query_reply::Result as Told;
        let range_epoch = self.range_epoch.load(Ordering::Relaxed);
        let request = proto::QueryRequest { query, range_epoch };
        let reply = Self::client(channel).query(request).await?.into_inner();
        self.time.hear(reply.time_ms);
        self.group.roster.hear_level(reply.level);
        Ok(match reply.result {
            Some(Told::Reply(encoded)) => Said::Answer(Read {
                reply: encoded,
                index: reply.index,
            }),
            Some(Told::NotLeader(hint)) => Said::NotLeader(hint),
            Some(Told::WrongRange(wrong)) => Said::Again(self.moved(&wrong)),
            None => return Err(Status::internal("a reply without content")),
        })
    }

    async fn ask(&self, member: Arc<Member>, query: bytes::Bytes, deadline: Instant) -> Attempt {
        let limit = deadline.saturating_duration_since(Instant::now());
        let limit = limit.min(self.group.settings.attempt_deadline);
        let call = self.query_once(self.group.channel(&member), query);
        let said = timeout(limit, call)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("silent for {limit:?}"))));
        Attempt { member, said }
    }

    /// Asks each member at most once: one after the other, or several at once if they are slow.
    async fn query_round(&self, query: &bytes::Bytes, deadline: Instant) -> Result<Read, NoAnswer> {
        let mut asked: Vec<NodeId> = Vec::new();
        let mut running = FuturesUnordered::new();
        let mut last = String::from("no member is known");
        loop {
            // A member that is given no time would be said to have been silent.
            let in_time = asked.is_empty() || Instant::now() < deadline;
            let next = in_time.then(|| self.group.pick(Ask::Any, &asked)).flatten();
            if let Some(member) = next {
                asked.push(member.node);
                running.push(self.ask(member, query.clone(), deadline));
            }
            let hedge = Instant::now() + self.group.settings.hedge_after;
            let attempt = tokio::select! {
                attempt = running.next() => attempt,
                () = sleep_until(hedge) => continue,
            };
            let Some(Attempt { member, said }) = attempt else {
                return Err(NoAnswer {
                    sent: true,
                    refused: false,
                    denied: false,
                    last,
                });
            };
            match said {
                Ok(Said::Answer(reply)) => {
                    self.group.prefer(Ask::Any, &member);
                    return Ok(reply);
                }
                Ok(Said::NotLeader(hint)) => {
                    last = format!("{} can't answer now", member.node);
                    self.group.follow(&member, &hint);
                }
                Ok(Said::Again(why)) => {
                    last = format!("{}: {why}", member.node);
                    return Err(NoAnswer {
                        sent: true,
                        refused: false,
                        denied: false,
                        last,
                    });
                }
                Err(status) => {
                    last = format!("{}: {}", member.node, chain(&status));
                    let denied = self.group.is_denied();
                    if denied {
                        last = self.group.own_denied();
                    }
                    if denied || is_final(&status) {
                        self.group.unheard.answered();
                        return Err(NoAnswer {
                            sent: true,
                            refused: !denied,
                            denied,
                            last,
                        });
                    }
                    self.group.demote(&member);
                }
            }
        }
    }
}
