// SPDX-License-Identifier: Apache-2.0

//! Changes the standard chains: an element of its own in the endpoint's, which gives every client
//! an address of a fixed prefix, and a client's without the rows that act by themselves. The
//! endpoint is served over a unix socket with mTLS and all of NSM's policies, and called: Request,
//! Request again, Close.

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nsm::{
    api::Connection,
    chain::{Element, Next, Reason, Request, Result},
    chains,
    server::{self, monitor::Connections},
    task::Tasks,
    testing::{Authority, Workload},
    transport::{Address, Dialer, Identity, Listener},
};

const LIFETIME: Duration = Duration::from_secs(600);

/// Gives a client one of the addresses 192.0.2.1 to 192.0.2.254 for as long as its connection
/// lasts.
#[derive(Clone, Default)]
struct Pool(Arc<Mutex<BTreeSet<u8>>>);

/// An address; dropped with the connection's scope, which returns it to the pool.
struct Given(Pool, u8);

impl Pool {
    fn taken<T>(&self, change: impl FnOnce(&mut BTreeSet<u8>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.0.taken(|taken| taken.remove(&self.1));
    }
}

impl Element for Pool {
    const NAME: &'static str = "pool";

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        if scope.get::<Given>().is_none() {
            let free = self.taken(|taken| (1..=254).find(|host| taken.insert(*host)));
            let host = free.ok_or_else(|| Reason::Exhausted("no address left in 192.0.2.0/24".into()))?;
            scope.insert(Given(self.clone(), host));
        }
        let host = scope.get::<Given>().map_or(0, |given| given.1);
        request.connection.ip_context_mut().src_ip_addrs = vec![format!("192.0.2.{host}/24")];
        next.request(request).await
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let tasks = Tasks::default();
    let authority = Authority::new("example.org");
    let identity = |pod: &str| -> std::result::Result<_, Box<dyn std::error::Error>> {
        let workload = Workload::listen(folder.path().join(format!("{pod}.agent")))?;
        workload.grant(authority.issue(&authority.pod("default", pod), Duration::from_secs(3600)));
        Ok((Identity::follow(&workload.url(), &tasks), workload))
    };
    let ((server, _agent), (client, _other)) = (identity("endpoint")?, identity("client")?);

    let pool = Pool::default();
    let connections = Connections::default();
    let endpoint = chains::endpoint("endpoint", LIFETIME, &connections, &tasks).append(pool.clone());
    println!("endpoint: {endpoint}");
    let address = Address::Unix(folder.path().join("endpoint.sock"));
    let listener = Listener::bind(&address, server).await?;
    let routes = server::Endpoint::new(endpoint.build()?, connections).routes();
    tasks.spawn(server::serve(listener, routes, pending(), Duration::from_secs(1)));

    let dialer =
        Dialer { address, identity: client, dial_timeout: Duration::from_secs(5), token_lifetime: LIFETIME };
    let client = chains::client("client", dialer, &tasks).without("refresh").without("heal");
    println!("client: {client}");
    let client = client.build()?;

    let address = |answer: &Connection| answer.ip_context().map(|ip| ip.src_ip_addrs.clone());
    let first = client.request(Request::new(Connection::named("a"))).await?;
    let again = client.request(Request::new(first.clone())).await?;
    println!("address: {:?}", address(&first));
    assert_eq!(address(&first), Some(vec!["192.0.2.1/24".to_owned()]));
    assert_eq!(address(&again), address(&first), "a refresh keeps the address");
    client.close(nsm::chain::Close::new(again)).await?;
    assert!(pool.taken(|taken| taken.is_empty()), "Close returns the address");
    tasks.stop().await;
    Ok(())
}
