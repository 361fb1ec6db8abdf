// SPDX-License-Identifier: Apache-2.0

//! Tests both elements on the two ends of a unix socket.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use tower::layer::layer_fn;
use tower_layer::Layer;

use super::*;
use crate::{
    api::MechanismKind,
    chain::{Call, Chain, Error, Frame, laws},
    elements::{
        connect::Connect,
        send_fd::{self, Netns},
    },
    testing::{self, Below, Counted, Given, eventually, kernel},
};

/// Names a file of which no descriptor arrives.
const NOWHERE: Inode = Inode { dev: 4, ino: 1 };

fn request(preferences: Vec<Mechanism>, agreed: Option<Mechanism>) -> Request {
    let mut connection = Connection::named("a");
    testing::path(&mut connection, 0, &[None]);
    connection.mechanism = agreed;
    Request { preferences, ..Request::new(connection) }
}

fn inodes(fds: &SendFds) -> Vec<Inode> {
    fds.0.iter().map(|fd| Inode::of(fd).unwrap()).collect()
}

#[tokio::test]
async fn a_callers_descriptor_is_waited_for_and_handed_on() {
    let handed = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&handed);
    let end = tower::service_fn(move |call: Call| {
        let context = call.context();
        let held = context.scope.get::<FromCaller>().map_or(0, |held| held.0.len());
        let fds = context.extensions.get::<SendFds>().map(inodes);
        noted.lock().unwrap().push((held, fds.unwrap_or_default()));
        async { Ok::<_, Error>(call.into_connection()) }
    });
    // The scope of a server's calls stores nothing without `begin`.
    let tasks = crate::task::Tasks::default();
    let rows = Chain::new()
        .with(crate::chain::begin::BeginLayer::endpoint(tasks.clone()))
        .with(crate::chain::metadata::MetadataLayer);
    let peer = testing::serve(rows.with(Endpoint).end(end).build().unwrap()).await;
    let own = Netns::own().unwrap();
    let connect = Connect::new(peer.dialer.clone());
    let sends = Chain::new().with(send_fd::Client::new(own.clone())).end(connect.clone()).build().unwrap();
    sends.request(request(vec![kernel(own.inode())], None)).await.unwrap();
    let silent = Chain::new().end(connect).build().unwrap();
    silent.request(request(vec![], Some(kernel(own.inode())))).await.unwrap();
    silent.close(Close::new(request(vec![], None).connection)).await.unwrap();
    let expected = (1, vec![own.inode()]);
    assert_eq!(*handed.lock().unwrap(), vec![expected; 3], "a refresh and a Close may come without it");

    let mut missing = request(vec![kernel(NOWHERE)], None);
    missing.connection.id = "b".into();
    testing::path(&mut missing.connection, 0, &[None]);
    missing.context.deadline = Instant::now() + Duration::from_secs(1);
    let error = silent.request(missing).await.unwrap_err();
    assert!(error.to_string().contains("the descriptor of inode://4/1 did not come"), "{error}");
    assert_eq!(handed.lock().unwrap().len(), 3);
    tasks.stop().await;
}

#[tokio::test]
async fn the_descriptor_of_an_answer_arrives_before_the_answer() {
    let own = Netns::own().unwrap();
    let end = tower::service_fn(|call: Call| async { Ok::<_, Error>(call.into_connection()) });
    let peer =
        testing::serve(Chain::new().with(send_fd::Endpoint::new(own.clone())).end(end).build().unwrap())
            .await;
    let connect = Connect::new(peer.dialer.clone()).keep_descriptors();
    let chain = Client.layer().layer(connect);
    let bottom = Frame::bottom();
    let mut request = request(vec![], Some(Mechanism::local(MechanismKind::Kernel)));
    request.context.scope = bottom.scope();
    let answer = chain.request(request).await.unwrap();
    let inode = answer.mechanism.unwrap().inode().unwrap();
    let held = bottom.scope().get::<FromNext>().unwrap();
    assert_eq!((inode, held.0.len()), (own.inode(), 1));
    assert_eq!(Inode::of(held.0.get(inode).unwrap()).unwrap(), inode);
}

#[tokio::test]
async fn without_a_unix_socket_a_descriptor_is_missing_at_once() {
    let end = tower::service_fn(|call: Call| async { Ok::<_, Error>(call.into_connection()) });
    let chain = Endpoint.layer().layer(end);
    let error = chain.request(request(vec![kernel(NOWHERE)], None)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error}");
}

#[tokio::test]
async fn a_first_answer_without_its_descriptor_is_closed() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let comes = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&calls);
    let sends = Arc::clone(&comes);
    let own: Arc<OwnedFd> = Arc::new(std::fs::File::open("/dev/null").unwrap().into());
    let end = tower::service_fn(move |call: Call| {
        noted.lock().unwrap().push(if matches!(call, Call::Close(_)) { "close" } else { "request" });
        let hub = call.context().extensions.get::<Caller>().unwrap().hub.clone().unwrap();
        let mut connection = call.into_connection();
        let comes = sends.load(SeqCst);
        let inode = if comes { Inode::of(&own).unwrap() } else { NOWHERE };
        connection.mechanism = Some(kernel(inode));
        if comes {
            hub.send(Arc::clone(&own)).unwrap();
        }
        async { Ok::<_, Error>(connection) }
    });
    let peer = testing::serve(Chain::new().end(end).build().unwrap()).await;
    let tasks = crate::task::Tasks::default();
    let chain = Chain::new()
        .with(crate::chain::begin::BeginLayer::client(tasks.clone()))
        .with(crate::chain::metadata::MetadataLayer)
        .with(Client)
        .end(Connect::new(peer.dialer.clone()).keep_descriptors())
        .build()
        .unwrap();
    let ask = async || {
        let mut request = request(vec![], None);
        request.context.deadline = Instant::now() + Duration::from_secs(2);
        chain.request(request).await
    };
    let missing = "the descriptor of inode://4/1 did not come";
    let error = ask().await.unwrap_err();
    assert!(error.to_string().contains(missing), "{error}");
    eventually(|| calls.lock().unwrap().clone(), |calls| *calls == ["request", "close"]).await;

    comes.store(true, SeqCst);
    ask().await.unwrap();
    comes.store(false, SeqCst);
    let error = ask().await.unwrap_err();
    assert!(error.to_string().contains(missing), "{error}");
    assert_eq!(calls.lock().unwrap()[2..], ["request", "request"], "the connection stands as it was");
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn both_keep_the_laws() {
    laws::check(|| Endpoint).await.unwrap(); // calls that name no descriptor
    let below = Below::default();
    let peer = below.served().await;
    let connect = Connect::new(peer.dialer.clone()).keep_descriptors();
    laws::check_layer(|| below.under(|| Client.layer().layer(connect.clone())), || below.open())
        .await
        .unwrap();
}

/// A caller that names the file in each call; its descriptor arrives a little later.
#[derive(Clone)]
struct Sends(Counted, Caller);

impl Sends {
    fn prepare(&self, connection: &mut Connection, context: &mut CallContext) {
        connection.mechanism = Some(kernel(self.0.inode()));
        context.extensions.insert(Caller { hub: Some(self.0.arriving()), ..self.1.clone() });
    }
}

/// Such a caller, whose Requests come after one that also names another file, of which no
/// descriptor arrives.
struct Misses(Sends);

impl Element for Misses {
    const NAME: &'static str = "misses";

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let mut missed = request.clone();
        self.0.prepare(&mut missed.connection, &mut missed.context);
        missed.preferences = vec![kernel(self.0.0.inode()), kernel(NOWHERE)];
        missed.context.deadline = Instant::now() + MARGIN + Duration::from_millis(5);
        let error = next.request(missed).await.unwrap_err();
        assert!(error.to_string().contains("inode://4/1 did not come"), "{error}");
        self.0.prepare(&mut request.connection, &mut request.context);
        next.request(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_endpoint_keeps_the_laws_with_and_without_descriptors() {
    let sends = Sends(Counted::new(), testing::caller());
    laws::check_with(
        || {
            let sends = sends.clone();
            Given(Endpoint, move |connection: &mut _, context: &mut _| sends.prepare(connection, context))
        },
        || sends.0.open(),
    )
    .await
    .unwrap();
    laws::check_layer(
        || {
            let sends = sends.clone();
            layer_fn(move |next| Misses(sends.clone()).layer().layer(Endpoint.layer().layer(next)))
        },
        || sends.0.open(),
    )
    .await
    .unwrap();
}
