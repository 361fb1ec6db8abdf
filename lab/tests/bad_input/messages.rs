// SPDX-License-Identifier: Apache-2.0

//! Messages that no honest peer sends.

use std::collections::HashMap;

use nsm::api::{
    Mechanism, MechanismKind, PathSegment, parameter,
    pb::{
        connectioncontext::{IpContext, PolicyRoute, Route},
        networkservice::NetworkServiceRequest,
    },
};

use crate::{
    row::Outcome,
    target::{CALL_TIMEOUT, ask, call, close, new, send, wire},
    world::World,
};

/// Sends a good Request after spoiling it; it must fail.
async fn spoilt(world: &World, spoil: impl FnOnce(&mut NetworkServiceRequest)) -> Outcome {
    let mut message = new("bad");
    spoil(&mut message);
    Ok(ask(world, message).await.err())
}

pub(crate) async fn index_out_of_range(world: &World) -> Outcome {
    spoilt(world, |message| message.connection.as_mut().unwrap().path_mut().index = u32::MAX).await
}

pub(crate) async fn segment_of_another(world: &World) -> Outcome {
    spoilt(world, |message| message.connection.as_mut().unwrap().id = "other".into()).await
}

pub(crate) async fn segments(world: &World) -> Outcome {
    let segment = PathSegment { name: "n".into(), id: "i".into(), ..PathSegment::default() };
    let many = vec![segment; 10_000];
    spoilt(world, |message| message.connection.as_mut().unwrap().path_mut().path_segments = many).await
}

/// Twenty times: a refused Request is not kept.
pub(crate) async fn labels(world: &World) -> Outcome {
    let labels = HashMap::from([("key".to_owned(), "v".repeat((1 << 20) - 3))]);
    let mut told = None;
    for _ in 0..20 {
        told = spoilt(world, |message| message.connection.as_mut().unwrap().labels = labels.clone()).await?;
    }
    Ok(told)
}

/// Larger than any message that is read.
pub(crate) async fn message(world: &World) -> Outcome {
    let labels = HashMap::from([("key".to_owned(), "v".repeat(5 << 20))]);
    spoilt(world, |message| message.connection.as_mut().unwrap().labels = labels).await
}

pub(crate) async fn id(world: &World) -> Outcome {
    spoilt(world, |message| message.connection.as_mut().unwrap().id = "i".repeat(1 << 20)).await
}

pub(crate) async fn preferences(world: &World) -> Outcome {
    let many = vec![Mechanism::local(MechanismKind::Kernel); 10_000];
    spoilt(world, |message| message.mechanism_preferences = many).await
}

pub(crate) async fn no_connection(world: &World) -> Outcome {
    spoilt(world, |message| message.connection = None).await
}

pub(crate) async fn no_time(world: &World) -> Outcome {
    let wire = wire(world).await?;
    let mut call = call(&wire, new("bad"), CALL_TIMEOUT);
    call.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    Ok(send(&wire, call).await.err())
}

fn mechanism(kind: &str, name: &str) -> Mechanism {
    let parameters = HashMap::from([(parameter::NAME.to_owned(), name.to_owned())]);
    Mechanism { cls: "LOCAL".into(), r#type: kind.into(), parameters }
}

pub(crate) async fn unknown_mechanism(world: &World) -> Outcome {
    spoilt(world, |message| {
        message.mechanism_preferences = vec![mechanism("VFIO", ""), mechanism("MEMIF", "")]
    })
    .await
}

pub(crate) async fn long_interface_name(world: &World) -> Outcome {
    spoilt(world, |message| message.mechanism_preferences = vec![mechanism("KERNEL", "sixteen-letters-")])
        .await
}

/// 60 kB, which the bounds of a message allow.
pub(crate) async fn giant_interface_name(world: &World) -> Outcome {
    let name = "n".repeat(60_000);
    spoilt(world, |message| message.mechanism_preferences = vec![mechanism("KERNEL", &name)]).await
}

pub(crate) async fn interface_name_of_another(world: &World) -> Outcome {
    let taken = world.standing.mechanism.clone().unwrap();
    spoilt(world, |message| message.mechanism_preferences = vec![taken]).await
}

pub(crate) async fn primary_interface(world: &World) -> Outcome {
    spoilt(world, |message| message.mechanism_preferences = vec![mechanism("KERNEL", "eth0")]).await
}

fn ip_context(message: &mut NetworkServiceRequest) -> &mut IpContext {
    message.connection.as_mut().unwrap().ip_context_mut()
}

pub(crate) async fn address_of_a_word(world: &World) -> Outcome {
    spoilt(world, |message| ip_context(message).src_ip_addrs = vec!["banana".into()]).await
}

pub(crate) async fn addresses(world: &World) -> Outcome {
    spoilt(world, |message| ip_context(message).src_ip_addrs = vec!["20.0.0.1/32".into(); 100_000]).await
}

pub(crate) async fn policy_for_a_word(world: &World) -> Outcome {
    let policy = PolicyRoute { from: "vip-a".into(), ..PolicyRoute::default() };
    spoilt(world, |message| ip_context(message).policies = vec![policy]).await
}

pub(crate) async fn everything_excluded(world: &World) -> Outcome {
    spoilt(world, |message| ip_context(message).excluded_prefixes = vec!["0.0.0.0/0".into()]).await
}

/// An address that is not a VIP, and a route to the services of the cluster.
pub(crate) async fn address_of_a_service(world: &World) -> Outcome {
    let mut message = new("bad");
    let ip = ip_context(&mut message);
    ip.src_ip_addrs = vec!["10.96.0.10/32".into()];
    ip.dst_routes = vec![Route { prefix: "10.96.0.0/16".into(), ..Route::default() }];
    let answer = ask(world, message).await.map_err(|status| format!("a good Request: {status}"))?;
    close(world, &answer).await.map_err(|status| format!("a good Close: {status}"))?;
    match answer.ip_context() {
        Some(ip) if ip.src_ip_addrs.len() == 2 && ip.dst_routes.is_empty() => Ok(None),
        ip => Err(format!("answered with {ip:?}")),
    }
}
