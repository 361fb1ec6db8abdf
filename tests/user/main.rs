// SPDX-License-Identifier: Apache-2.0

//! A user's crate: an element, an endpoint with it, and their tests. It needs the feature
//! `transport` only.
//!
//! It serves the socket of the first argument, with the identity of the SPIFFE agent whose address
//! is the second one.

use std::{env, error::Error, future::pending, time::Duration};

use nsm::{
    api::Connection,
    chain::{
        Chain, Element, InvalidChain, Next, Request, Result, begin::BeginLayer, metadata::MetadataLayer,
    },
    elements::update_path::UpdatePath,
    server::{self, monitor::Connections},
    task::Tasks,
    transport::{Address, Identity, Listener},
};

/// Adds a greeting to the context of each connection.
struct Greet;

impl Element for Greet {
    const NAME: &'static str = "greet";

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let greeting = format!("Welcome to {}", request.connection.network_service);
        request.connection.context_mut().extra_context.insert("greeting".into(), greeting);
        next.request(request).await
    }
}

/// The chain of the endpoint.
fn chain(tasks: &Tasks) -> Result<Next, InvalidChain> {
    Chain::new()
        .with(UpdatePath::new("hello"))
        .with(BeginLayer::endpoint(tasks.clone()))
        .with(MetadataLayer)
        .with(Greet)
        .build()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(socket), Some(agent)) = (arguments.next(), arguments.next()) else {
        return Err("usage: hello SOCKET AGENT".into());
    };
    let tasks = Tasks::default();
    let listener = Listener::bind(&Address::Unix(socket.into()), Identity::follow(&agent, &tasks)).await?;
    let endpoint = server::Endpoint::new(chain(&tasks)?, Connections::default());
    server::serve(listener, endpoint.routes(), pending(), Duration::ZERO).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use nsm::{chain::laws, elements::connect::Connect, testing};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_element_keeps_the_laws() {
        laws::check(|| Greet).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_receives_the_greeting_over_mtls() {
        let tasks = Tasks::default();
        let served = testing::serve(chain(&tasks).unwrap()).await;
        let client = Chain::new().with(UpdatePath::new("client")).end(Connect::new(served.dialer.clone()));
        let client = client.build().unwrap();
        let mut connection = Connection::named("a");
        connection.network_service = "hello".into();
        let answer = client.request(Request::new(connection)).await.unwrap();
        assert_eq!(answer.context.unwrap().extra_context["greeting"], "Welcome to hello");
        tasks.stop().await;
    }
}
