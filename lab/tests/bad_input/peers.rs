// SPDX-License-Identifier: Apache-2.0

//! Peers that do not prove their identity.

use std::time::SystemTime;

use nsm::{
    testing::{Authority, Stranger},
    transport::{Address, descriptors},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::{around::HOUR, row::Outcome, target, world::World};

/// Connects with a good configuration after spoiling it; the proxy must close.
async fn spoilt(world: &World, spoil: impl FnOnce(Stranger) -> Stranger) -> Outcome {
    let Address::Unix(path) = &world.socket else { return Err("not a unix socket".into()) };
    let stranger = spoil(Stranger::of(&world.identity("target").current().unwrap()));
    match stranger.connect(path).await {
        Err(_) => Ok(None),
        Ok(_) => Err("the peer was accepted".into()),
    }
}

pub(crate) async fn without_certificate(world: &World) -> Outcome {
    spoilt(world, Stranger::anonymous).await
}

pub(crate) async fn of_another_domain(world: &World) -> Outcome {
    let issued = Authority::new("b.test").issue("spiffe://b.test/ns/default/pod/x", HOUR);
    spoilt(world, |stranger| stranger.showing(&issued)).await
}

pub(crate) async fn expired(world: &World) -> Outcome {
    let now = SystemTime::now();
    let id = world.authority.pod("default", "x");
    let issued = world.authority.issue_between(&id, now - 2 * HOUR, now - HOUR);
    spoilt(world, |stranger| stranger.showing(&issued)).await
}

/// An authority of the same name, but with another key.
pub(crate) async fn of_an_impostor(world: &World) -> Outcome {
    let id = world.authority.pod("default", "x");
    let issued = Authority::new(crate::around::DOMAIN).issue(&id, HOUR);
    spoilt(world, |stranger| stranger.showing(&issued)).await
}

pub(crate) async fn without_http2(world: &World) -> Outcome {
    spoilt(world, Stranger::without_http2).await
}

/// Bytes that are not TLS.
pub(crate) async fn without_tls(world: &World) -> Outcome {
    let Address::Unix(path) = &world.socket else { return Err("not a unix socket".into()) };
    let greeted = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
        stream.read_to_end(&mut Vec::new()).await
    };
    greeted.await.map(|_| None).map_err(|error| error.to_string())
}

/// Silent connections to the endpoint's socket; a target joins beside them, five times in a row.
pub(crate) async fn silent(world: &World) -> Outcome {
    descriptors::raise().map_err(|error| error.to_string())?;
    let Address::Unix(path) = &world.socket else { return Err("not a unix socket".into()) };
    let mut silent = Vec::new();
    for count in [64, 1100] {
        while silent.len() < count {
            silent.push(UnixStream::connect(path).await.map_err(|error| error.to_string())?);
        }
        for n in 0..5 {
            let joined = target::established(world, &format!("bad-{n}")).await;
            let joined = joined.map_err(|why| format!("beside {count}: {why}"))?;
            target::closed(world, &joined).await?;
        }
    }
    Ok(None)
}
