// SPDX-License-Identifier: Apache-2.0

//! Concurrent calls, and callers that go away.

use std::time::Duration;

use futures::future::join_all;
use nsm::{
    api::{Connection, PathSegment, pb::networkservice::NetworkServiceRequest},
    ipam::Fault,
    transport::Wire,
};
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::{
    row::Outcome,
    target::{CALL_TIMEOUT, ask, call, close, closed, new, request, send, wire},
    world::World,
};

/// A Request that names its connection at the proxy.
fn same() -> NetworkServiceRequest {
    let mut message = new("bad");
    let own = PathSegment { name: "px".into(), id: "bad-at-px".into(), ..PathSegment::default() };
    message.connection.as_mut().unwrap().path_mut().path_segments.push(own);
    message
}

fn one_answer(answers: &[Connection]) -> Result<(), String> {
    let first = &answers[0];
    match answers.iter().all(|next| next.context == first.context && next.mechanism == first.mechanism) {
        true => Ok(()),
        false => Err(format!("answered {answers:?}")),
    }
}

pub(crate) async fn two_requests(world: &World) -> Outcome {
    let (one, two) = tokio::join!(ask(world, same()), ask(world, same()));
    let answers = [one.map_err(|status| status.to_string())?, two.map_err(|status| status.to_string())?];
    one_answer(&answers)?;
    closed(world, &answers[0]).await.map(|()| None)
}

/// A client that has not received its first answer: two connections with one pair of addresses.
pub(crate) async fn two_requests_without_our_segment(world: &World) -> Outcome {
    let (one, two) = tokio::join!(ask(world, new("bad")), ask(world, new("bad")));
    let one = one.map_err(|status| status.to_string())?;
    let two = two.map_err(|status| status.to_string())?;
    closed(world, &one).await?;
    closed(world, &two).await?;
    match one.context == two.context && one.mechanism != two.mechanism {
        true => Ok(None),
        false => Err(format!("answered {one:?} and {two:?}")),
    }
}

pub(crate) async fn request_and_close(world: &World) -> Outcome {
    let there = ask(world, new("bad")).await.map_err(|status| status.to_string())?;
    let (refresh, closing) = tokio::join!(ask(world, request(there.clone())), close(world, &there));
    closing.map_err(|status| status.to_string())?;
    let answer = refresh.map_err(|status| status.to_string())?;
    closed(world, &answer).await.map(|()| None)
}

/// More than a connection may queue; those that wait are answered, the others are refused at once.
pub(crate) async fn many_requests(world: &World) -> Outcome {
    world.ipam.faults().stand(Fault::Delay(Duration::from_millis(300)));
    let wire = wire(world).await?;
    let answers = join_all((0..20).map(|_| send(&wire, call(&wire, same(), CALL_TIMEOUT)))).await;
    world.ipam.faults().clear();
    let (good, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    let good: Vec<_> = good.into_iter().flatten().collect();
    let mut refused: Vec<_> = refused.into_iter().filter_map(Result::err).collect();
    if good.len() < 8 || refused.iter().any(|status| status.code() != Code::ResourceExhausted) {
        return Err(format!("{} were answered, the others {refused:?}", good.len()));
    }
    one_answer(&good)?;
    closed(world, &good[0]).await?;
    Ok(refused.pop())
}

/// Leaves in the middle of a Request whose token lives two seconds; the wire is still open.
async fn left(world: &World, id: &str) -> Result<Wire, String> {
    world.ipam.faults().stand(Fault::Delay(Duration::from_millis(300)));
    let wire = wire(world).await?;
    let lifetime = Duration::from_secs(2);
    let call = wire.call(new(id), Some(Instant::now() + CALL_TIMEOUT), lifetime).unwrap();
    let left = tokio::time::timeout(Duration::from_millis(100), send(&wire, call)).await;
    world.ipam.faults().clear();
    match left {
        Err(_) => Ok(wire),
        Ok(answer) => Err(format!("answered {answer:?}")),
    }
}

/// The answer could not be delivered, so nothing is kept.
pub(crate) async fn caller_goes_away(world: &World) -> Outcome {
    drop(left(world, "bad").await?);
    Ok(None)
}

/// The Request is completed, and the connection ends because it is not refreshed.
pub(crate) async fn caller_gives_up(world: &World) -> Outcome {
    let before = world.parts.connections.len();
    let wire = left(world, "bad").await?;
    for _ in 0..500 {
        if world.parts.connections.len() > before {
            world.log.has(&["the caller did not refresh in time: closing"]).await?;
            drop(wire);
            return Ok(None);
        }
        sleep(Duration::from_millis(10)).await;
    }
    Err("the connection was not published".into())
}
