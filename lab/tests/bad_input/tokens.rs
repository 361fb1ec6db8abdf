// SPDX-License-Identifier: Apache-2.0

//! Tokens that do not authorize the caller.

use std::time::Duration;

use nsm::{
    api::{
        PathSegment,
        pb::networkservice::{NetworkServiceRequest, network_service_client::NetworkServiceClient},
    },
    transport::{
        Token, Wire,
        token::{self, EXPIRES, TOKEN},
    },
};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use crate::{
    around::HOUR,
    row::Outcome,
    target::{self, CALL_TIMEOUT, call, new, send},
    world::World,
};

/// Sends a Request after spoiling its metadata.
async fn spoilt(world: &World, spoil: impl FnOnce(&Wire, &mut MetadataMap)) -> Outcome {
    spoilt_message(world, new("bad"), spoil).await
}

async fn spoilt_message(
    world: &World,
    message: NetworkServiceRequest,
    spoil: impl FnOnce(&Wire, &mut MetadataMap),
) -> Outcome {
    let wire = target::wire(world).await?;
    let mut call = call(&wire, message, CALL_TIMEOUT);
    spoil(&wire, call.metadata_mut());
    Ok(send(&wire, call).await.err())
}

fn replace(metadata: &mut MetadataMap, token: &Token) {
    let expires = prost_types::Timestamp::from(token.expires()).to_string();
    metadata.insert(TOKEN, token.jwt().parse().unwrap());
    metadata.insert(EXPIRES, expires.parse().unwrap());
}

pub(crate) async fn missing(world: &World) -> Outcome {
    spoilt(world, |_, metadata| {
        metadata.remove(TOKEN);
        metadata.remove(EXPIRES);
    })
    .await
}

pub(crate) async fn expired(world: &World) -> Outcome {
    spoilt(world, |wire, metadata| {
        replace(metadata, &token::issue(wire.svid(), wire.peer(), Duration::ZERO).unwrap());
    })
    .await
}

/// Two hops, the first of which made its token for another peer than the second.
pub(crate) async fn wrongly_chained(world: &World) -> Outcome {
    let far =
        world.dialer("far").dial(Instant::now() + CALL_TIMEOUT).await.map_err(|error| error.to_string())?;
    let token = token::issue(far.svid(), far.peer(), HOUR).unwrap();
    let first = PathSegment {
        name: "far".into(),
        id: "first".into(),
        token: token.jwt().into(),
        expires: Some(token.expires().into()),
        ..PathSegment::default()
    };
    let mut message = new("bad");
    let path = message.connection.as_mut().unwrap().path_mut();
    path.path_segments.insert(0, first);
    path.index = 1;
    spoilt_message(world, message, |_, _| {}).await
}

/// The token of another pod that may call.
fn of_another(world: &World, wire: &Wire) -> Token {
    let other = world.identity("other").current().unwrap();
    token::issue(&other, wire.peer(), HOUR).unwrap()
}

pub(crate) async fn signed_by_another(world: &World) -> Outcome {
    spoilt(world, |wire, metadata| replace(metadata, &of_another(world, wire))).await
}

/// A Close of the standing connection.
pub(crate) async fn close_signed_by_another(world: &World) -> Outcome {
    let wire = target::wire(world).await?;
    let mut call = call(&wire, world.standing.clone(), CALL_TIMEOUT);
    replace(call.metadata_mut(), &of_another(world, &wire));
    Ok(NetworkServiceClient::new(wire).close(call).await.err())
}

pub(crate) async fn twice(world: &World) -> Outcome {
    spoilt(world, |_, metadata| {
        let token = metadata.get(TOKEN).unwrap().clone();
        metadata.append(TOKEN, token);
    })
    .await
}

pub(crate) async fn garbage(world: &World) -> Outcome {
    spoilt(world, |_, metadata| drop(metadata.insert(TOKEN, "garbage".parse().unwrap()))).await
}

/// Seventeen thousand bytes; the log has the reason, the caller's status only reports that the
/// token is missing.
pub(crate) async fn giant(world: &World) -> Outcome {
    let told = spoilt(world, |_, metadata| {
        metadata.insert(TOKEN, "e".repeat(17_000).parse().unwrap());
    });
    let told = told.await?;
    world.log.has(&["token of a call ignored", "not text of at most 16384 bytes", "/pod/target"]).await?;
    Ok(told)
}
