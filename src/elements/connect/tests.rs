// SPDX-License-Identifier: Apache-2.0

//! Tests the service against a peer on a unix socket.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::time::sleep;
use tonic::Code;

use super::*;
use crate::{
    api::Inode,
    chain::{Chain, Element, Frame, Next, begin::BeginLayer, laws, metadata::MetadataLayer},
    task::Tasks,
    testing::{self, Below, Served, eventually},
    transport::{Address, Caller},
};

/// The calls that the peer received: method, seconds until the deadline, whether it had a token,
/// number of received descriptors.
type Received = Arc<Mutex<Vec<(&'static str, u64, bool, usize)>>>;

/// A peer that records the calls and answers them by the payload.
async fn peer(received: &Received) -> Served {
    let received = Arc::clone(received);
    let end = tower::service_fn(move |call: Call| {
        let context = call.context();
        let caller: &Caller = context.extensions.get().unwrap();
        let method = if matches!(call, Call::Request(_)) { "Request" } else { "Close" };
        let left = context.left().as_secs_f64().round() as u64;
        let descriptors = caller.hub.as_ref().unwrap().unclaimed();
        received.lock().unwrap().push((method, left, caller.token.is_some(), descriptors));
        let hub = caller.hub.clone().unwrap();
        async move {
            let mut connection = call.into_connection();
            match &*connection.payload {
                "refuse" => return Err(Error::from(Reason::Denied("no sufficient privileges".into()))),
                "silent" => sleep(Duration::from_secs(60)).await,
                "other" => connection.path_mut().path_segments[0].id = "other".into(),
                "long" => connection.path_mut().path_segments.resize(10_000, PathSegment::default()),
                "addressed" => {
                    let many = vec![String::new(); 20_481];
                    connection.ip_context_mut().src_ip_addrs = many;
                }
                "descriptor" => hub.send(Arc::new(null())).unwrap(),
                _ => {}
            }
            Ok(connection)
        }
    });
    testing::serve(Chain::new().end(end).build().unwrap()).await
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

fn request(payload: &str) -> Request {
    let mut connection = Connection::named("a");
    testing::path(&mut connection, 0, &[None]);
    connection.payload = payload.into();
    Request::new(connection)
}

/// Makes a Request in a frame that is kept on success.
async fn refresh(chain: &Next, bottom: &Frame, payload: &str) -> Result<Box<Connection>> {
    let frame = bottom.scope().frame();
    let mut request = request(payload);
    request.context.scope = frame.scope();
    let answer = chain.request(request).await?;
    frame.commit();
    Ok(answer)
}

fn chain(connect: Connect) -> Next {
    Chain::new().end(connect).build().unwrap()
}

#[tokio::test]
async fn every_call_has_a_new_wire_and_the_last_good_one_stays() {
    let received = Received::default();
    let peer = peer(&received).await;
    let chain = chain(Connect::new(peer.dialer.clone()));
    let bottom = Frame::bottom();
    let wire = || bottom.scope().get::<Wire>().map(|wire| Arc::as_ptr(wire.hub().unwrap()).addr());
    assert_eq!(wire(), None);
    refresh(&chain, &bottom, "").await.unwrap();
    let first = wire().unwrap();
    let kept = bottom.scope().get::<Wire>().unwrap();
    refresh(&chain, &bottom, "").await.unwrap();
    let second = wire().unwrap();
    assert_ne!(first, second);
    assert!(!kept.is_closed(), "as long as somebody holds it");
    refresh(&chain, &bottom, "refuse").await.unwrap_err();
    assert_eq!(wire(), Some(second), "a failed refresh leaves the wire");
    chain.close(Close::new(request("").connection)).await.unwrap();
    assert_eq!(wire(), Some(second));
    let methods = ["Request", "Request", "Request", "Close"].map(|method| (method, 15, true, 0));
    assert_eq!(*received.lock().unwrap(), methods, "each with a deadline and a token");
}

#[tokio::test]
async fn failures_are_reported_by_the_table() {
    let peer = peer(&Received::default()).await;
    let connect = Connect::new(peer.dialer.clone());
    let nobody = Dialer { address: Address::Unix("/nonexistent/nsm.io.sock".into()), ..peer.dialer.clone() };
    // behaviour of the peer, which peer, status, part of the text
    #[rustfmt::skip]
    let table = [
        ("refuse", connect.clone(), Code::PermissionDenied, "no sufficient privileges"),
        ("other", connect.clone(), Code::Unknown, "the answer is about connection `other`, asked was `a`"),
        ("long", connect.clone(), Code::ResourceExhausted, "10000 path segments (at most 64)"),
        ("addressed", connect.clone(), Code::ResourceExhausted, "20481 src_ip_addrs (at most 20480)"),
        ("", Connect::new(nobody), Code::Unavailable, "unix:///nonexistent/nsm.io.sock"),
        ("silent", connect, Code::DeadlineExceeded, ""),
    ];
    for (payload, connect, code, text) in table {
        let mut request = request(payload);
        request.context.deadline = Instant::now() + Duration::from_secs(1);
        let deadline = request.context.deadline;
        let scope = Frame::bottom();
        request.context.scope = scope.scope();
        let error = chain(connect).request(request).await.unwrap_err();
        assert!(error.code() == code && error.to_string().contains(text), "{payload}: {error}");
        assert!(scope.scope().get::<Wire>().is_none(), "{payload}: no wire stays");
        assert!(Instant::now() < deadline + Duration::from_secs(5), "{payload}: the deadline is kept");
    }
}

#[tokio::test]
async fn a_refused_first_answer_is_closed_under_the_peers_id() {
    for payload in ["other", "long"] {
        let closed = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&closed);
        let end = tower::service_fn(move |call: Call| {
            let closing = matches!(call, Call::Close(_));
            let mut connection = call.into_connection();
            let segments = &mut connection.path_mut().path_segments;
            match closing {
                true => noted.lock().unwrap().push(segments.iter().map(|own| own.id.clone()).collect()),
                false => segments.push(PathSegment { id: "peer".into(), ..PathSegment::default() }),
            }
            match &*connection.payload {
                _ if closing => {}
                "other" => connection.path_mut().path_segments[0].id = "other".into(),
                _ => connection.path_mut().path_segments.resize(10_000, PathSegment::default()),
            }
            async move { Ok::<_, Error>(connection) }
        });
        let peer = testing::serve(Chain::new().end(end).build().unwrap()).await;
        let tasks = Tasks::default();
        let rows = Chain::new().with(BeginLayer::client(tasks.clone())).with(MetadataLayer);
        let chain = rows.end(Connect::new(peer.dialer.clone())).build().unwrap();
        chain.request(request(payload)).await.unwrap_err();
        let closed: Vec<Vec<String>> =
            eventually(|| closed.lock().unwrap().clone(), |closed| !closed.is_empty()).await;
        assert_eq!(closed, [["a", "peer"]], "{payload}");
        eventually(|| tasks.len(), |lanes| *lanes == 0).await;
    }
}

#[tokio::test]
async fn descriptors_go_with_the_call_and_returned_ones_are_closed() {
    let received = Received::default();
    let peer = peer(&received).await;
    let connect = Connect::new(peer.dialer.clone());
    for (connect, kept) in [(connect.clone(), 0), (connect.keep_descriptors(), 1)] {
        let bottom = Frame::bottom();
        let mut request = request("descriptor");
        request.context.scope = bottom.scope();
        request.context.extensions.insert(SendFds(vec![Arc::new(null())]));
        chain(connect).request(request).await.unwrap();
        let wire = bottom.scope().get::<Wire>().unwrap();
        assert_eq!(wire.hub().unwrap().unclaimed(), kept);
        let inode = Inode::of(null()).unwrap();
        let fd = wire.hub().unwrap().take(inode, Instant::now()).await;
        assert_eq!(fd.is_some(), kept == 1);
    }
    assert!(received.lock().unwrap().iter().all(|(.., descriptors)| *descriptors == 1), "{received:?}");
}

/// Counts the Requests that it passes on.
struct Counts(Arc<AtomicUsize>);
impl Element for Counts {
    const NAME: &'static str = "counts";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        self.0.fetch_add(1, SeqCst);
        next.request(request).await
    }
}

#[tokio::test]
async fn it_stands_below_rows_that_are_added_later() {
    let received = Received::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let peer = peer(&received).await;
    let rows = Chain::new().end(Connect::new(peer.dialer.clone())).with(Counts(Arc::clone(&calls)));
    assert_eq!(rows.to_string(), "counts → connect");
    rows.build().unwrap().request(request("")).await.unwrap();
    assert_eq!((calls.load(SeqCst), received.lock().unwrap().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_laws() {
    let below = Below::default();
    let peer = below.served().await;
    let connect = Connect::new(peer.dialer.clone());
    for connect in [connect.clone(), connect.keep_descriptors()] {
        laws::check_layer(|| below.under(|| connect.clone()), || below.open()).await.unwrap();
    }
}

type Kept = Arc<Mutex<Vec<Box<dyn Send>>>>;

/// Calls by a [`Connect`] with one deliberate violation.
async fn wrongly(
    what: &str,
    below: Below,
    mut connect: Connect,
    call: Call,
    kept: Kept,
) -> Result<Box<Connection>> {
    let scope = call.context().scope.clone();
    if what == "outlives its call" {
        return tokio::spawn(connect.call(call)).await.unwrap();
    }
    let answer = connect.call(call).await?;
    match (what, scope.get::<Wire>()) {
        ("keeps the wire", wire) => kept.lock().unwrap().push(Box::new(wire)),
        ("keeps a descriptor", Some(wire)) => {
            let last = below.last().unwrap();
            let descriptor = wire.hub().unwrap().take(last, Instant::now()).await;
            kept.lock().unwrap().push(Box::new(descriptor));
        }
        _ => {}
    }
    Ok(answer)
}

#[tokio::test(start_paused = true)]
async fn an_element_that_breaks_a_law_is_reported() {
    let below = Below::default();
    let peer = below.served().await;
    for (what, expected) in [
        ("nothing", None),
        ("outlives its call", Some("cut of a first Request")),
        ("keeps the wire", Some("stop without a Close")),
        ("keeps a descriptor", Some("stop without a Close")),
    ] {
        let connect = Connect::new(peer.dialer.clone()).keep_descriptors();
        let kept = Kept::default();
        let checked = laws::check_layer(
            || {
                below.under(|| {
                    let below = below.clone();
                    let connect = connect.clone();
                    let kept = kept.clone();
                    tower::service_fn(move |call| {
                        wrongly(what, below.clone(), connect.clone(), call, Arc::clone(&kept))
                    })
                })
            },
            || below.open(),
        )
        .await;
        assert_eq!(checked.err().map(|broken| broken.law), expected, "{what}");
    }
}
