// SPDX-License-Identifier: Apache-2.0

//! Tests calls of peers, as sent, as received by the chain, and as answered.

use super::*;

#[tokio::test]
async fn a_request_and_a_close_reach_the_chain_with_their_caller() {
    let world = World::new().await;
    let wire = world.dial().await;
    let preference = Mechanism::local(MechanismKind::Kernel);
    let sent = NetworkServiceRequest {
        connection: Some(Connection { network_service: "lb".into(), ..named("a") }),
        mechanism_preferences: vec![preference.clone()],
    };
    let mut request = wire.call(sent, Some(Instant::now() + Duration::from_secs(3)), LIFETIME).unwrap();
    request.metadata_mut().insert("traceparent", "00-1-2-01".parse().unwrap());
    request.metadata_mut().insert("tracestate", "a=1".parse().unwrap());
    let answer = send(&wire, request).await.unwrap();
    assert_eq!((&*answer.id, &*answer.network_service), ("a", "lb"));
    let close = wire.call(answer, Some(soon()), LIFETIME).unwrap();
    NetworkServiceClient::with_origin(wire.clone(), origin()).close(close).await.unwrap();

    let [request, close] = <[Received; 2]>::try_from(world.received()).unwrap();
    let Call::Request(got) = &request.call else { panic!("{request:?}") };
    assert_eq!(got.preferences, [preference]);
    assert_eq!(
        (request.caller.peer.id(), request.caller.svid.id()),
        ("spiffe://a.test/nsc", "spiffe://a.test/nse")
    );
    let token = request.caller.token.as_ref().expect("a token");
    assert!(request.caller.peer.signed(token.jwt()), "the token is that of the peer");
    let trace = TraceContext { traceparent: "00-1-2-01".into(), tracestate: "a=1".into() };
    assert_eq!(request.trace, Some(trace));
    assert!(
        request.left <= Duration::from_secs(3) && request.left > Duration::from_secs(1),
        "{:?}",
        request.left
    );
    assert!(matches!(&close.call, Call::Close(close) if close.connection.id == "a"));
    assert_eq!(close.trace, None);
}

#[tokio::test]
async fn a_call_takes_as_long_as_its_caller_waits_within_bounds() {
    let world = World::new().await;
    let wire = world.dial().await;
    let s = Duration::from_secs;
    for (sent, expected) in
        [(None, s(15)), (Some("7S"), s(7)), (Some("2M"), s(60)), (Some("99999999H"), s(60))]
    {
        let mut request = wire.call(message(named("a")), None, LIFETIME).unwrap();
        sent.map(|value| request.metadata_mut().insert("grpc-timeout", value.parse().unwrap()));
        send(&wire, request).await.unwrap();
        let left = world.received().last().unwrap().left;
        assert!(left <= expected && left > expected - s(3), "{sent:?}: {left:?}");
    }
    let mut request = wire.call(message(named("a")), None, LIFETIME).unwrap();
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = send(&wire, request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("`soon`"), "{status:?}");
}

#[tokio::test]
async fn malformed_calls_are_refused_before_the_chain() {
    let world = World::new().await;
    let wire = world.dial().await;
    let mut long_path = named("a");
    long_path.path_mut().path_segments = vec![PathSegment::default(); 10_000];
    let labels = HashMap::from([("key".to_owned(), "v".repeat(1 << 20))]);
    let preferences = vec![Mechanism::local(MechanismKind::Kernel); 65];
    #[rustfmt::skip]
    let table = [
        (NetworkServiceRequest::default(), Code::InvalidArgument, "no connection"),
        (message(long_path), Code::ResourceExhausted, "10000 path segments (at most 64)"),
        (message(Connection { labels, ..named("a") }), Code::ResourceExhausted, "1048579 bytes of labels"),
        (NetworkServiceRequest { mechanism_preferences: preferences, ..message(named("a")) }, Code::ResourceExhausted, "65 mechanism preferences (at most 64)"),
        (message(named(&"i".repeat(2000))), Code::ResourceExhausted, "2000 bytes of connection id (at most 1024)"),
        (message(Connection { payload: "p".repeat(5 << 20), ..named("a") }), Code::OutOfRange, "the limit is: 4194304 bytes"),
    ];
    for (message, code, text) in table {
        let status = world.request(&wire, message).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
    }
    assert_eq!(world.received().len(), 0);
    assert_eq!(world.tasks.len(), 0, "no lane was made");
    world.request(&wire, message(named("a"))).await.expect("the connection still works");
}

#[tokio::test]
async fn errors_of_the_chain_become_statuses_by_its_table() {
    let world = World::new().await;
    let wire = world.dial().await;
    for (id, code, text) in [
        ("denied", Code::PermissionDenied, "no sufficient privileges"),
        ("exhausted", Code::ResourceExhausted, "no address left"),
    ] {
        let status = world.request(&wire, message(named(id))).await.unwrap_err();
        assert_eq!(status.code(), code);
        assert!(
            status.message().contains(text) && status.message().contains(&format!("[{id}]")),
            "{status:?}"
        );
    }
}

#[tokio::test]
async fn token_metadata_that_is_not_there_exactly_once_counts_as_none() {
    let world = World::new().await;
    let wire = world.dial().await;
    type Change = fn(&mut tonic::metadata::MetadataMap);
    let changes: [Change; 4] = [
        |metadata| assert!(metadata.append("nsm-client-token", "another".parse().unwrap())),
        |metadata| {
            assert!(metadata.append("nsm-client-token-expires", "2030-01-01T00:00:00Z".parse().unwrap()))
        },
        |metadata| drop(metadata.remove("nsm-client-token-expires")),
        |metadata| drop(metadata.insert("nsm-client-token-expires", "tomorrow".parse().unwrap())),
    ];
    for change in changes {
        let mut request = wire.call(message(named("a")), Some(soon()), LIFETIME).unwrap();
        change(request.metadata_mut());
        send(&wire, request).await.expect("it is for the chain to refuse");
        assert!(world.received().last().unwrap().caller.token.is_none());
    }
}

#[tokio::test]
async fn the_endpoint_is_healthy_under_all_its_names() {
    let world = World::new().await;
    let wire = world.dial().await;
    let check = async |service: &str| {
        let request = HealthCheckRequest { service: service.into() };
        let answer = HealthClient::with_origin(wire.clone(), origin()).check(request).await;
        answer.map(|answer| answer.into_inner().status())
    };
    for service in ["", "networkservice.NetworkService", "connection.MonitorConnection"] {
        assert_eq!(check(service).await.unwrap(), ServingStatus::Serving, "{service:?}");
    }
    assert_eq!(check("other").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_chain_goes_on_when_the_caller_goes_away() {
    let world = World::new().await;
    let wire = world.dial().await;
    let call = world.request(&wire, message(named("slow")));
    assert!(timeout(Duration::from_millis(200), call).await.is_err(), "it waits at the gate");
    drop(wire);
    eventually(|| world.received().len(), |calls| *calls == 1).await;
    assert_eq!(*world.end.finished.lock().unwrap(), 0);
    world.end.gate.add_permits(1);
    eventually(|| *world.end.finished.lock().unwrap(), |finished| *finished == 1).await;
}

#[tokio::test]
async fn a_call_that_is_too_slow_is_answered_at_its_deadline() {
    let world = World::new().await;
    let wire = world.dial().await;
    let deadline = Instant::now() + Duration::from_millis(300);
    let request = wire.call(message(named("slow")), Some(deadline), LIFETIME).unwrap();
    let status = send(&wire, request).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message().contains("deadline passed")),
        (Code::DeadlineExceeded, true),
        "{status:?}"
    );
}

#[tokio::test]
async fn descriptors_are_received_only_where_calls_claim_some() {
    for keeps in [false, true] {
        let world = World::with(Duration::from_secs(5), |listener| match keeps {
            true => listener.keep_descriptors(),
            false => listener,
        });
        let world = world.await;
        let wire = world.dial().await;
        let file = Arc::new(std::os::fd::OwnedFd::from(std::fs::File::open("/proc/self/ns/net").unwrap()));
        for _ in 0..3 {
            let mut request = wire.call(message(named("a")), Some(soon()), LIFETIME).unwrap();
            request.extensions_mut().insert(SendFds(vec![Arc::clone(&file)]));
            send(&wire, request).await.unwrap();
        }
        let hub = world.received().last().unwrap().caller.hub.clone().unwrap();
        assert_eq!(hub.unclaimed(), if keeps { 3 } else { 0 });
    }
}
