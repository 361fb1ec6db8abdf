// SPDX-License-Identifier: Apache-2.0

//! Tests both elements, with `update_token` above the endpoint's, against certificates of an
//! authority in memory.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use super::{Client, Endpoint};
use crate::{
    api::{Connection, PathSegment, State},
    chain::{
        self, Answered, Call, CallContext, Chain, Close, Error, EventKind, Events, InvalidChain, Next,
        Reason, Request, begin::BeginLayer, laws, metadata::MetadataLayer,
    },
    elements::update_token::UpdateToken,
    task::Tasks,
    testing::{Authority, Given, eventually},
    transport::{Caller, Peer, Svid, Token, Wire, token},
};

const LIFETIME: Duration = Duration::from_secs(600);

/// An identity, and its public part.
struct Hop {
    svid: Arc<Svid>,
    peer: Arc<Peer>,
}

fn hop(authority: &Authority, name: &str) -> Hop {
    let leaf = authority.leaf(name);
    let svid = Arc::new(Svid::new(&authority.context(&leaf)).unwrap());
    Hop { svid, peer: Arc::new(Peer::of(&leaf.certificate).unwrap()) }
}

fn hops() -> [Hop; 3] {
    let authority = Authority::new("test.domain");
    ["client", "forwarder", "endpoint"].map(|name| hop(&authority, name))
}

fn token(from: &Hop, to: &Hop) -> Token {
    token::issue(&from.svid, &to.peer, LIFETIME).unwrap()
}

fn segment(token: &Token) -> PathSegment {
    PathSegment { token: token.jwt().into(), expires: Some(token.expires().into()), ..PathSegment::default() }
}

/// The endpoint's two rows above a service that answers.
fn endpoint() -> Next {
    let end = tower::service_fn(|call: Call| async { Ok::<_, Error>(call.into_connection()) });
    Chain::new().with(UpdateToken::new(LIFETIME)).with(Endpoint).end(end).build().unwrap()
}

/// A call of `caller` at `endpoint` with this token, on a path whose first segments are these.
fn called(left: Vec<PathSegment>, caller: &Hop, endpoint: &Hop, token: Option<Token>) -> Request {
    let mut connection = Connection::named("a");
    let index = left.len() as u32;
    connection.path_mut().path_segments = [left, vec![PathSegment::default()]].concat();
    connection.path_mut().index = index;
    let mut request = Request::new(connection);
    let svid = Arc::clone(&endpoint.svid);
    let peer = Arc::clone(&caller.peer);
    request.context.extensions.insert(Caller { hub: None, svid, peer, token });
    request
}

#[tokio::test]
async fn an_endpoint_verifies_by_the_table_of_policies() {
    let [client, forwarder, end] = hops();
    let stranger = hop(&Authority::new("other.domain"), "stranger");
    let first = segment(&token(&client, &forwarder));
    let second = token(&forwarder, &end);
    let path = || vec![first.clone(), PathSegment::default()];
    let old = segment(&token(&forwarder, &end));
    // case, segments left of ours, token of the call, the policy that refuses
    #[rustfmt::skip]
    let table = [
        ("as it should be", path(), Some(second.clone()), None),
        ("the token of the call replaces an old one", vec![first.clone(), PathSegment { token: "old".into(), ..old.clone() }], Some(second.clone()), None),
        ("no token with the call, but in the path", vec![first.clone(), old.clone()], None, None),
        ("no token at all", path(), None, Some("tokens_valid")),
        ("a token for somebody else", path(), Some(token(&forwarder, &client)), Some("tokens_chained")),
        ("a hop was left out", vec![PathSegment::default(), first.clone()], Some(second.clone()), Some("tokens_valid")),
        ("signed by another", path(), Some(token(&stranger, &end)), Some("tokens_chained")),
        ("signed by the client", vec![PathSegment::default()], Some(token(&client, &end)), Some("prev_token_signed")),
        ("no segment of the caller", vec![], Some(second.clone()), Some("prev_token_signed")),
    ];
    for (what, left, token, refused) in table {
        let request = called(left, &forwarder, &end, token);
        let close = Close { connection: request.connection.clone(), context: request.context.clone() };
        for answer in [endpoint().request(request.clone()).await, endpoint().close(close).await] {
            match (answer, refused) {
                (Ok(answer), None) => {
                    let own = answer.own_segment().unwrap();
                    assert!(end.peer.signed(&own.token) && own.expires.is_some(), "{what}");
                    let previous = answer.previous_segment().unwrap();
                    assert!(forwarder.peer.signed(&previous.token) && previous.expires.is_some(), "{what}");
                }
                (Err(error), Some(policy)) => {
                    assert_eq!(error.code(), tonic::Code::PermissionDenied, "{what}");
                    assert!(error.to_string().contains(policy), "{what}: {error}");
                }
                (got, _) => panic!("{what}: {got:?}"),
            }
        }
    }
}

/// An endpoint chain with lanes, above a service that counts Closes.
struct Lanes {
    chain: Next,
    closes: Arc<AtomicUsize>,
    tasks: Tasks,
    end: Hop,
}

impl Lanes {
    fn new(end: Hop) -> Self {
        let closes = Arc::new(AtomicUsize::new(0));
        let tasks = Tasks::default();
        let counted = Arc::clone(&closes);
        let answers = tower::service_fn(move |call: Call| {
            counted.fetch_add(usize::from(matches!(call, Call::Close(_))), SeqCst);
            async { Ok::<_, Error>(call.into_connection()) }
        });
        let rows = Chain::new().with(UpdateToken::new(LIFETIME)).with(Endpoint);
        let chain = rows.with(BeginLayer::endpoint(tasks.clone())).end(answers).build().unwrap();
        Self { chain, closes, tasks, end }
    }

    /// A Request with tokens of `signer`, presented by `caller`.
    fn call(&self, signer: &Hop, caller: &Hop, state: State) -> Request {
        let token = Some(token(signer, &self.end));
        let mut request = called(vec![PathSegment::default()], caller, &self.end, token);
        request.connection.set_state(state);
        request
    }

    /// Closes so far, and lanes.
    fn seen(&self) -> (usize, usize) {
        (self.closes.load(SeqCst), self.tasks.len())
    }
}

fn closing(request: Request) -> Close {
    Close { connection: request.connection, context: request.context }
}

const STATES: [State; 4] = [State::Up, State::Down, State::RefreshRequested, State::ReselectRequested];

#[tokio::test(start_paused = true)]
async fn a_call_that_is_denied_changes_nothing_now_or_later() {
    let [client, forwarder, end] = hops();
    let lanes = Lanes::new(end);
    lanes.chain.request(lanes.call(&forwarder, &forwarder, State::Up)).await.unwrap();
    for state in STATES {
        let forged = || lanes.call(&client, &forwarder, state);
        let close = lanes.chain.close(closing(forged()));
        for error in [lanes.chain.request(forged()).await.unwrap_err(), close.await.unwrap_err()] {
            assert_eq!(error.code(), tonic::Code::PermissionDenied, "{error}");
            assert!(error.to_string().contains("prev_token_signed"), "{error}");
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(lanes.seen(), (0, 1), "{state:?}: the connection stands");
    }
    lanes.chain.close(closing(lanes.call(&forwarder, &forwarder, State::Up))).await.unwrap();
    assert_eq!(lanes.seen(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn another_client_can_neither_close_nor_take_a_connection() {
    let [client, stranger, end] = hops();
    let lanes = Lanes::new(end);
    lanes.chain.request(lanes.call(&client, &client, State::Up)).await.unwrap();
    for state in STATES {
        let foreign = || lanes.call(&stranger, &stranger, state);
        let close = lanes.chain.close(closing(foreign()));
        for error in [lanes.chain.request(foreign()).await.unwrap_err(), close.await.unwrap_err()] {
            assert_eq!(error.code(), tonic::Code::PermissionDenied, "{error}");
            let ids = [client.peer.id(), stranger.peer.id()];
            assert!(ids.iter().all(|id| error.to_string().contains(&format!("`{id}`"))), "{error}");
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(lanes.seen(), (0, 1), "{state:?}: the connection stands");
    }
    lanes.chain.request(lanes.call(&client, &client, State::ReselectRequested)).await.unwrap();
    assert_eq!(lanes.seen(), (1, 1), "its own reselect closes it first");
    lanes.chain.close(closing(lanes.call(&client, &client, State::Up))).await.unwrap();
    lanes.chain.request(lanes.call(&stranger, &stranger, State::Up)).await.unwrap();
    assert_eq!(lanes.seen(), (2, 1), "the name is free again");
    lanes.tasks.stop().await;
}

#[test]
fn tokens_are_stamped_before_they_are_verified() {
    let chain = Chain::new().with(Endpoint).with(UpdateToken::new(LIFETIME));
    let wrong = chain.build().err().unwrap();
    assert!(
        matches!(wrong, InvalidChain::Order { first: "update_token", second: "authorize", .. }),
        "{wrong}"
    );
}

#[test]
fn a_chain_whose_lanes_take_unverified_calls_is_not_built() {
    let lanes = Chain::new().with(BeginLayer::endpoint(Tasks::default()));
    let wrong = lanes.with(Endpoint).build().err().unwrap();
    assert!(matches!(wrong, InvalidChain::Order { first: "authorize", second: "begin", .. }), "{wrong}");
}

/// A wire to `peer` whose other end is silent.
async fn wire(own: &Hop, peer: &Hop) -> (Wire, tokio::io::DuplexStream) {
    let (near, far) = tokio::io::duplex(4096);
    let svid = Arc::clone(&own.svid);
    let peer = (*peer.peer).clone();
    (Wire::over(near, None, svid, peer, None).await.unwrap(), far)
}

/// A client chain whose peer signs its answers if the switch is on; with the Closes received by the
/// peer, and the chain's events.
struct Signing {
    chain: Next,
    bad: Arc<AtomicBool>,
    closes: Arc<AtomicUsize>,
    events: Arc<Mutex<Events>>,
    tasks: Tasks,
    _far: tokio::io::DuplexStream,
}

async fn signing() -> Signing {
    let [client, nsmgr, stranger] = hops();
    let (wire, _far) = wire(&client, &nsmgr).await;
    let bad = Arc::<AtomicBool>::default();
    let closes = Arc::<AtomicUsize>::default();
    let events = Arc::<Mutex<Events>>::default();
    let switch = Arc::clone(&bad);
    let counted = Arc::clone(&closes);
    let noted = Arc::clone(&events);
    let right = segment(&token(&nsmgr, &client));
    let wrong = segment(&token(&stranger, &client));
    let own = segment(&token(&client, &nsmgr));
    let end = tower::service_fn(move |mut call: Call| {
        match &mut call {
            Call::Request(request) => {
                let next = if switch.load(SeqCst) { &wrong } else { &right };
                request.connection.path_mut().path_segments = vec![own.clone(), next.clone()];
                request.context.scope.insert(wire.clone());
                request.context.scope.insert(Answered::with((*request.connection).clone()));
                *noted.lock().unwrap() = request.context.events.clone();
            }
            Call::Close(close) => {
                close.context.scope.take::<Answered>();
                counted.fetch_add(1, SeqCst);
            }
        }
        async move { Ok::<_, Error>(call.into_connection()) }
    });
    let tasks = Tasks::default();
    let rows = Chain::new().with(BeginLayer::client(tasks.clone())).with(MetadataLayer);
    let chain = rows.with(Client).end(end).build().unwrap();
    Signing { chain, bad, closes, events, tasks, _far }
}

impl Signing {
    async fn request(&self, bad: bool) -> chain::Result<Box<Connection>> {
        self.bad.store(bad, SeqCst);
        self.chain.request(Request::new(Connection::named("a"))).await
    }

    async fn closed(&self, times: usize) {
        eventually(|| self.closes.load(SeqCst), |closes| *closes == times).await;
    }
}

#[tokio::test]
async fn an_unauthorized_first_answer_is_closed_a_later_one_logged() {
    let peer = signing().await;
    let error = peer.request(true).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::Denied(_)), "{error}");
    assert!(error.to_string().contains("tokens_chained"), "{error}");
    peer.closed(1).await;
    peer.request(false).await.unwrap();
    peer.request(true).await.unwrap();
    assert_eq!(peer.closes.load(SeqCst), 1, "a refresh is only reported");
    peer.chain.close(Close::new(Connection::named("a"))).await.unwrap();
    peer.tasks.stop().await;
}

#[tokio::test]
async fn an_answer_to_a_reselect_is_verified_as_a_first_one() {
    let peer = signing().await;
    peer.request(false).await.unwrap();
    peer.bad.store(true, SeqCst);
    let events = peer.events.lock().unwrap().clone();
    let error = events.reselect(EventKind::Heal, true).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::Denied(_)), "{error}");
    peer.closed(2).await; // before the reselect, and its result
    peer.bad.store(false, SeqCst);
    events.reselect(EventKind::Heal, true).await.unwrap();
    peer.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn both_keep_the_laws() {
    let [_, forwarder, end] = hops();
    let hops = Arc::new((forwarder, end));
    let given = || {
        let hops = Arc::clone(&hops);
        move |connection: &mut Connection, context: &mut CallContext| {
            let (forwarder, end) = &*hops;
            let token = Some(token(forwarder, end));
            let call = called(vec![segment(token.as_ref().unwrap())], forwarder, end, token);
            connection.path = call.connection.path;
            connection.path_mut().path_segments[1].token = self::token(end, forwarder).jwt().into();
            context.extensions = call.context.extensions;
        }
    };
    laws::check(|| Given(Endpoint, given())).await.unwrap();
    laws::check(|| Client).await.unwrap();
}
