//! The members of the metadata group as a caller sees them: who leads, who failed, whom to ask.

use crate::backoff::Backoff;
use crate::connect::{ChannelSettings, noting_channel};
use crate::error::chain;
use crate::roster::{Known, Roster};
use crate::unheard::Unheard;
use megalith_identity::{IdentityError, Role, TlsMaterial};
use megalith_model::codec;
use megalith_model::denied::DenyList;
use megalith_model::ids::NodeId;
use megalith_proto::v1 as proto;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Where a member of the metadata group listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The node, as in its certificate.
    pub node: NodeId,
    /// `host:port` of its gRPC listener; the name is resolved at each connection.
    pub address: String,
}

/// How many addresses of one member are remembered.
const ADDRESSES_MAX: usize = 3;

/// How long callers wait.
#[derive(Clone, Debug)]
pub struct CallSettings {
    /// For a command with all its retries.
    pub propose_deadline: Duration,
    /// For a question with all its retries.
    pub query_deadline: Duration,
    /// For one attempt; then another member is asked.
    pub attempt_deadline: Duration,
    /// If a question takes longer, another member is asked as well.
    pub hedge_after: Duration,
    pub channel: ChannelSettings,
}

impl Default for CallSettings {
    fn default() -> Self {
        Self {
            propose_deadline: Duration::from_secs(15),
            query_deadline: Duration::from_secs(15),
            attempt_deadline: Duration::from_secs(3),
            hedge_after: Duration::from_secs(1),
            channel: ChannelSettings::default(),
        }
    }
}

/// One member with its connection.
pub(crate) struct Member {
    pub(crate) node: NodeId,
    /// Tried one after the other, starting with the first; never empty.
    addresses: Vec<String>,
    channel: OnceLock<Channel>,
    /// Whether there has been a connection.
    reached: Arc<AtomicBool>,
}

/// The members, shared by the clones of a client.
pub(crate) struct Group {
    pub(crate) roster: Roster,
    material: Arc<TlsMaterial>,
    pub(crate) settings: CallSettings,
    pub(crate) unheard: Unheard,
    state: Mutex<State>,
}

struct State {
    version: u64,
    members: Vec<Arc<Member>>,
    /// How many members, starting with the first, are asked before the others.
    first: usize,
    /// The member that last answered as leader, or was named as leader.
    leader: Option<NodeId>,
    /// The member that last answered a question.
    reader: Option<NodeId>,
    /// The member to ask next when no leader is known.
    turn: usize,
}

/// Which members may answer a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Only the leader.
    Leader,
    Any,
}

/// A member's answer to a call that only the leader may answer.
pub(crate) enum Said<T> {
    Answer(T),
    NotLeader(proto::NotLeader),
    /// The range map has changed; the caller already has the new epoch.
    Again(&'static str),
}

/// Why a call ended without an answer.
pub(crate) struct NoAnswer {
    /// True if a member may have acted on the call.
    pub(crate) sent: bool,
    /// True if asking again is useless.
    pub(crate) refused: bool,
    /// True if the cluster has denied our certificate: no member will speak to us.
    pub(crate) denied: bool,
    pub(crate) last: String,
}

/// The last words of each member that was asked: who can be reached, and who can't.
#[derive(Default)]
struct Heard(BTreeMap<NodeId, String>);

impl Heard {
    /// Takes what a member said, and returns what all have said.
    fn note(&mut self, node: NodeId, words: String) -> String {
        self.0.insert(node, words);
        let each = self.0.iter().map(|(node, words)| format!("{node} {words}"));
        each.collect::<Vec<_>>().join("; ")
    }
}

impl Group {
    pub(crate) fn new(roster: Roster, material: Arc<TlsMaterial>, settings: CallSettings) -> Self {
        let state = State {
            version: 0,
            members: Vec::new(),
            first: 0,
            leader: None,
            reader: None,
            turn: 0,
        };
        Self {
            roster,
            material,
            settings,
            unheard: Unheard::default(),
            state: Mutex::new(state),
        }
    }

    /// Returns the state, brought up to date from the roster.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.version != self.roster.version() {
            state.take(self.roster.known());
        }
        state
    }

    /// Takes over the group's own list of its members.
    pub(crate) fn tell(&self, members: Vec<Endpoint>) {
        self.roster.tell(members);
    }

    /// Takes over the deny list of an update, if it says one.
    pub(crate) fn hear_denied(&self, update: &proto::MapUpdate) {
        if update.denied.is_empty() {
            return;
        }
        // If the new one is bad, the list that is known stays in force.
        match codec::decode::<DenyList>(&update.denied) {
            Ok(list) => match list.check() {
                Ok(()) => drop(self.material.denials().hear(list)),
                Err(error) => tracing::error!(%error, "a deny list that no member can have"),
            },
            Err(error) => tracing::error!(%error, "a deny list that can't be read"),
        }
    }

    /// Returns true if the member that answered last has denied our certificate.
    pub(crate) fn is_denied(&self) -> bool {
        self.material.denials().is_own_denied()
    }

    /// Says for people that our certificate is denied.
    pub(crate) fn own_denied(&self) -> String {
        let own = self.material.identity();
        format!("{own}, serial {}", own.serial())
    }

    pub(crate) fn channel(&self, member: &Member) -> Channel {
        let make = || {
            noting_channel(
                member.address(),
                (Role::Metadata, member.node.0),
                &self.material,
                &self.settings.channel,
                member.reached.clone(),
            )
        };
        member.channel.get_or_init(make).clone()
    }

    /// Returns the member to ask: the preferred one, else one after the other. None if `avoid`
    /// lists all of them.
    pub(crate) fn pick(&self, ask: Ask, avoid: &[NodeId]) -> Option<Arc<Member>> {
        let mut state = self.state();
        let usable = |member: &&Arc<Member>| !avoid.contains(&member.node);
        let preferred = match ask {
            Ask::Leader => state.leader,
            Ask::Any => state.reader.or(state.leader),
        };
        let preferred =
            preferred.and_then(|node| state.members.iter().find(|member| member.node == node));
        if let Some(preferred) = preferred.filter(usable) {
            return Some(preferred.clone());
        }
        let (first, turn) = (state.first, state.turn);
        let chosen = (0..first)
            .map(|i| (turn + i) % first)
            .chain(first..state.members.len())
            .find(|&i| usable(&&state.members[i]))?;
        if chosen < first {
            state.turn = chosen + 1;
        }
        Some(state.members[chosen].clone())
    }

    /// Notes that a member has answered.
    pub(crate) fn prefer(&self, ask: Ask, member: &Member) {
        self.unheard.answered();
        let mut state = self.state();
        match ask {
            Ask::Leader => state.leader = Some(member.node),
            Ask::Any => state.reader = Some(member.node),
        }
    }

    /// Stops preferring a member that failed. If another address of it is known, that one is tried
    /// next.
    pub(crate) fn demote(&self, member: &Member) {
        let mut state = self.state();
        let state = &mut *state;
        for preferred in [&mut state.leader, &mut state.reader] {
            if *preferred == Some(member.node) {
                *preferred = None;
            }
        }
        let place = state
            .members
            .iter()
            .position(|held| held.node == member.node && held.addresses == member.addresses);
        if let Some(place) = place.filter(|_| member.addresses.len() > 1) {
            let mut addresses = member.addresses.clone();
            addresses.rotate_left(1);
            state.members[place] = Member::new(member.node, addresses);
        }
    }

    /// Follows a redirect from `from`; returns the leader that it names, if it names another
    /// member.
    pub(crate) fn follow(&self, from: &Member, hint: &proto::NotLeader) -> Option<NodeId> {
        let named = NodeId(hint.leader);
        let mut state = self.state();
        if hint.leader == 0 || named == from.node {
            if state.leader == Some(from.node) {
                state.leader = None;
            }
            return None;
        }
        match state.members.iter().position(|member| member.node == named) {
            Some(at) if hint.address.is_empty() || state.members[at].address() == hint.address => {}
            // It moved: its certificate, not its address, says that it is the same member.
            Some(at) => {
                let mut addresses = state.members[at].addresses.clone();
                addresses.retain(|address| *address != hint.address);
                addresses.insert(0, hint.address.clone());
                addresses.truncate(ADDRESSES_MAX);
                state.members[at] = Member::new(named, addresses);
            }
            None if hint.address.is_empty() => return None,
            None => {
                let first = state.first;
                let member = Member::new(named, vec![hint.address.clone()]);
                state.members.insert(first, member);
                state.first += 1;
            }
        }
        state.leader = Some(named);
        Some(named)
    }

    pub(crate) fn len(&self) -> usize {
        self.state().members.len()
    }

    /// Calls the leader, whichever member it is, until it answers or `deadline` passes. Returns its
    /// answer, and whether a member may have acted on the call before.
    pub(crate) async fn call_leader<T, F>(
        &self,
        deadline: Instant,
        call: impl Fn(Channel) -> F,
    ) -> Result<(T, bool), NoAnswer>
    where
        F: Future<Output = Result<Said<T>, Status>>,
    {
        let mut end = NoAnswer {
            sent: false,
            refused: false,
            denied: false,
            last: "no member is known".into(),
        };
        let mut failed: Vec<NodeId> = Vec::new();
        let mut heard = Heard::default();
        let mut backoff = Backoff::new();
        let mut hops = 0;
        while let Some(member) = self.pick(Ask::Leader, &failed) {
            let limit = self.settings.attempt_deadline;
            let limit = limit.min(deadline.saturating_duration_since(Instant::now()));
            let answer = timeout(limit, call(self.channel(&member))).await;
            let at_once = match self.heed(&member, answer, (&mut end, &mut heard), &mut failed) {
                Heeded::Answer(answer) => return Ok((answer, end.sent)),
                Heeded::Over => return Err(end),
                Heeded::Another { at_once } => at_once,
            };
            hops += 1;
            // A few redirects are followed at once; a group that is electing a leader gets time for
            // it.
            if !at_once || hops > self.len() + 1 {
                let wait = backoff.step();
                if Instant::now() + wait >= deadline {
                    break;
                }
                tokio::time::sleep(wait).await;
                failed.clear();
                hops = 0;
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(end)
    }

    /// Learns from a member's answer, and says whether to go on.
    fn heed<T>(
        &self,
        member: &Member,
        answer: Result<Result<Said<T>, Status>, Elapsed>,
        (end, heard): (&mut NoAnswer, &mut Heard),
        failed: &mut Vec<NodeId>,
    ) -> Heeded<T> {
        match answer {
            Ok(Ok(Said::Answer(answer))) => {
                self.prefer(Ask::Leader, member);
                return Heeded::Answer(answer);
            }
            Ok(Ok(Said::NotLeader(hint))) => {
                end.sent = true;
                end.last = heard.note(member.node, "answers but does not lead".to_owned());
                let leader = self.follow(member, &hint);
                let at_once = leader.is_some_and(|leader| !failed.contains(&leader));
                return Heeded::Another { at_once };
            }
            Ok(Ok(Said::Again(why))) => {
                end.sent = true;
                end.last = heard.note(member.node, format!("says: {why}"));
                return Heeded::Another { at_once: false };
            }
            Ok(Err(status)) => {
                let words = format!("can't be called: {}", chain(&status));
                end.last = heard.note(member.node, words);
                if self.is_denied() || is_final(&status) {
                    self.unheard.answered();
                }
                if self.is_denied() {
                    end.denied = !end.sent;
                    end.last = self.own_denied();
                    return Heeded::Over;
                }
                if is_final(&status) {
                    // An earlier attempt may have reached a leader: then this refusal proves
                    // nothing.
                    end.refused = !end.sent;
                    return Heeded::Over;
                }
                end.sent |= !is_unsent(&status);
            }
            Err(_) => {
                end.last = heard.note(member.node, "did not answer in time".to_owned());
                end.sent |= member.reached.load(Ordering::SeqCst);
            }
        }
        self.demote(member);
        failed.push(member.node);
        Heeded::Another {
            at_once: failed.len() < self.len(),
        }
    }
}

/// What to do after asking one member.
enum Heeded<T> {
    Answer(T),
    /// Asking any other member is useless.
    Over,
    Another {
        at_once: bool,
    },
}

impl Member {
    fn new(node: NodeId, addresses: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            node,
            addresses,
            channel: OnceLock::new(),
            reached: Arc::default(),
        })
    }

    /// Returns the address that is tried now.
    fn address(&self) -> &str {
        self.addresses.first().map_or("", String::as_str)
    }
}

impl State {
    /// Takes over a newer roster; members that stay keep their connections.
    fn take(&mut self, known: Known) {
        let mut members: Vec<(NodeId, Vec<String>)> = Vec::new();
        self.first = 0;
        for (endpoint, first) in (known.members.into_iter().map(|endpoint| (endpoint, true)))
            .chain(known.others.into_iter().map(|endpoint| (endpoint, false)))
        {
            match members.iter_mut().find(|(node, _)| *node == endpoint.node) {
                Some((_, addresses)) if addresses.contains(&endpoint.address) => {}
                Some((_, addresses)) => addresses.push(endpoint.address),
                None => {
                    members.push((endpoint.node, vec![endpoint.address]));
                    self.first += usize::from(first);
                }
            }
        }
        let held = std::mem::take(&mut self.members);
        let same = |node: NodeId, addresses: &[String]| {
            let found = held.iter().find(|member| member.node == node)?;
            let (mut now, mut then) = (addresses.to_vec(), found.addresses.clone());
            now.sort_unstable();
            then.sort_unstable();
            (now == then).then(|| found.clone())
        };
        self.members = members
            .into_iter()
            .map(|(node, addresses)| {
                same(node, &addresses).unwrap_or_else(|| Member::new(node, addresses))
            })
            .collect();
        self.version = known.version;
        self.turn = 0;
    }
}

/// Returns true if every member would give the same answer.
pub(crate) fn is_final(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::OutOfRange => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

/// Returns true if the call has certainly not reached the member: there was no connection.
fn is_unsent(status: &Status) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = status.source();
    while let Some(cause) = source {
        if cause.is::<IdentityError>() {
            return true;
        }
        source = cause.source();
    }
    false
}
