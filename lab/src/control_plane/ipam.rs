// SPDX-License-Identifier: Apache-2.0

//! Serves Meridio's IPAM: a [`Tree`] in memory, with optional delays, failures and garbled answers.
//!
//! # Known limits
//! No address is collected because it was not renewed.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::sleep};
use tonic::{Request, Response, Status, async_trait};

use nsm::{
    api::{
        Family,
        pb::ipam::v1::{
            Child, IpFamily, Prefix,
            ipam_server::{Ipam as Service, IpamServer},
        },
    },
    ipam::{AllocateError, Faults, NO_MORE_PREFIX, Subnet, Tree, TreeError},
};

/// Handle on an IPAM. Clones share tree, faults and store.
#[derive(Clone, Debug)]
pub struct Ipam {
    tree: Tree,
    faults: Faults,
    store: Arc<Mutex<Duration>>,
}

impl Ipam {
    /// Serves a tree, without faults.
    pub fn new(tree: Tree) -> Self {
        Self { tree, faults: Faults::default(), store: Arc::default() }
    }

    /// From now on serves one call at a time, and takes this long for each: Meridio's store takes
    /// some 5 ms.
    pub async fn set_store(&self, each: Duration) {
        *self.store.lock().await = each;
    }

    async fn stored(&self) {
        let each = self.store.lock().await;
        if !each.is_zero() {
            sleep(*each).await;
        }
    }

    /// The served tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The faults of later calls, and the number of calls so far.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The gRPC service.
    pub fn service(&self) -> IpamServer<Self> {
        IpamServer::new(self.clone())
    }
}

#[async_trait]
impl Service for Ipam {
    async fn allocate(&self, request: Request<Child>) -> Result<Response<Prefix>, Status> {
        let child = request.into_inner();
        let effect = async {
            let (subnet, family) = place(&child).map_err(AllocateError::Refused)?;
            self.tree.configured(&subnet).await;
            self.stored().await;
            let net = self.tree.allocate(&subnet, &child.name, family)?;
            Ok(Prefix { address: net.addr().to_string(), prefix_length: net.prefix_len().into() })
        };
        let answer = self
            .faults
            .around(
                |calls| calls.allocate += 1,
                effect,
                |address: &str, prefix_length| {
                    Some(Ok(Prefix { address: address.to_owned(), prefix_length }))
                },
            )
            .await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    /// Succeeds if there is nothing to release, for any reason.
    async fn release(&self, request: Request<Child>) -> Result<Response<()>, Status> {
        let child = request.into_inner();
        let effect = async {
            if let Ok((subnet, family)) = place(&child) {
                self.stored().await;
                self.tree.release(&subnet, &child.name, family);
            }
            Ok(())
        };
        let answer = self.faults.around(|calls| calls.release += 1, effect, |_, _| None).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }
}

/// The scope of a child; else the error text of Meridio's IPAM.
fn place(child: &Child) -> Result<(Subnet, Family), String> {
    let subnet = child.subnet.clone().unwrap_or_default();
    let family = match IpFamily::try_from(subnet.ip_family) {
        Ok(IpFamily::Ipv4) => Family::V4,
        Ok(IpFamily::Ipv6) => Family::V6,
        Err(_) => return Err(TreeError::UnknownFamily.to_string()),
    };
    let conduit = subnet.conduit.ok_or("conduit cannot be nil")?;
    let trench = conduit.trench.ok_or("trench cannot be nil")?;
    Ok((Subnet { trench: trench.name, conduit: conduit.name, node: subnet.node }, family))
}

/// Meridio's IPAM answers every refusal with `Unknown`.
fn status_of(error: &AllocateError) -> Status {
    match error {
        AllocateError::Exhausted(_) => Status::unknown(format!("failed allocating: {NO_MORE_PREFIX}")),
        AllocateError::Refused(text) => Status::unknown(text),
        AllocateError::Unavailable(text) => Status::unavailable(text),
        AllocateError::Deadline => Status::deadline_exceeded("context deadline exceeded"),
        AllocateError::Garbage { .. } => Status::internal(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, time::Instant};
    use tokio_stream::wrappers::TcpListenerStream;
    use tokio_util::task::AbortOnDropHandle;
    use tonic::transport::{Channel, Server};

    use super::*;
    use nsm::{
        api::pb::ipam::v1::ipam_client::IpamClient,
        ipam::{Allocator, Fault, GrpcAllocator, LeaseError, Leases, Settings, contract},
        task::Tasks,
        transport,
    };

    const LONG: Duration = Duration::from_secs(10);

    /// An IPAM that listens on a free port.
    struct Served {
        ipam: Ipam,
        client: IpamClient<Channel>,
        _server: AbortOnDropHandle<()>,
    }

    async fn serve() -> Served {
        let ipam = Ipam::new(contract::tree());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(ipam.service())
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = AbortOnDropHandle::new(tokio::spawn(async move { server.await.unwrap() }));
        let client = IpamClient::connect(format!("http://{address}")).await.unwrap();
        Served { ipam, client, _server: server }
    }

    impl Served {
        fn allocator(&self, subnet: Subnet, timeout: Duration) -> GrpcAllocator<Channel> {
            GrpcAllocator::new(self.client.clone(), subnet, timeout)
        }
    }

    #[tokio::test]
    async fn the_grpc_client_keeps_the_contract_of_an_allocator() {
        let served = serve().await;
        let elsewhere = Subnet { trench: "trench-b".into(), ..contract::subnet() };
        let allocator = |subnet| served.allocator(subnet, LONG);
        contract::check(served.ipam.tree(), &allocator(contract::subnet()), &allocator(elsewhere)).await;
    }

    #[tokio::test]
    async fn a_fault_of_the_server_becomes_an_error_that_names_it() {
        let served = serve().await;
        let allocator = served.allocator(contract::subnet(), LONG);
        let unavailable = AllocateError::Unavailable("injected".into());
        let garble = |address: &str, length| Fault::Garble(address.into(), length);
        let table = [
            (garble("banana", 24), "`banana/24`: not an address"),
            (garble("", 0), "`/0`: the address is empty"),
            (garble("fd00::1", 64), "`fd00::1/64`: an address of the other family"),
            (garble("10.0.0.1", 99), "`10.0.0.1/99`: the prefix length is out of range"),
            (Fault::Fail(unavailable), "unavailable: injected"),
            (Fault::Fail(AllocateError::Exhausted(String::new())), "no more prefix available"),
            (Fault::Fail(AllocateError::Deadline), "in time"),
        ];
        for (fault, expected) in table {
            served.ipam.faults().script([fault]);
            let error = allocator.allocate("a", Family::V4).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}, expected {expected}");
        }
        assert!(allocator.allocate("a", Family::V4).await.is_ok(), "the state is as before");
    }

    #[tokio::test]
    async fn a_store_serves_one_call_at_a_time() {
        let store = Duration::from_millis(200);
        let ipam = Ipam::new(contract::tree());
        ipam.set_store(store).await;
        let child = |ip_family| {
            let nsm::ipam::Subnet { trench, conduit, node } = contract::subnet();
            let trench = Some(nsm::api::pb::nsp::v1::Trench { name: trench });
            let conduit = nsm::api::pb::nsp::v1::Conduit { name: conduit, trench, ..Default::default() };
            let subnet = nsm::api::pb::ipam::v1::Subnet { conduit: Some(conduit), node, ip_family };
            Request::new(Child { name: "a".into(), subnet: Some(subnet) })
        };
        let start = Instant::now();
        let both = tokio::join!(ipam.allocate(child(0)), ipam.allocate(child(1)));
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
        assert!(start.elapsed() >= 2 * store, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn an_unknown_conduit_is_waited_for_until_the_timeout() {
        let served = serve().await;
        let nowhere = Subnet { conduit: "later".into(), ..contract::subnet() };
        let hasty = served.allocator(nowhere.clone(), Duration::from_millis(200));
        assert_eq!(hasty.allocate("a", Family::V4).await, Err(AllocateError::Deadline));
        let patient = served.allocator(nowhere, LONG);
        let (net, ()) = tokio::join!(patient.allocate("a", Family::V4), async {
            served.ipam.tree().add_conduit("later").unwrap();
        });
        assert_eq!(net.unwrap().to_string(), "169.255.16.1/24");
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_unavailable() {
        let served = serve().await;
        let allocator = served.allocator(contract::subnet(), LONG);
        drop(served);
        let error = allocator.allocate("a", Family::V4).await.unwrap_err();
        assert!(matches!(error, AllocateError::Unavailable(_)), "{error}");
    }

    #[tokio::test]
    async fn missing_fields_of_a_message_are_named() {
        let mut served = serve().await;
        let refused = async |client: &mut IpamClient<Channel>, subnet| {
            let child = Child { name: "a".into(), subnet };
            client.release(child.clone()).await.expect("nothing to release");
            client.allocate(child).await.unwrap_err().message().to_owned()
        };
        use nsm::api::pb::{ipam::v1::Subnet, nsp::v1::Conduit};
        assert_eq!(refused(&mut served.client, None).await, "conduit cannot be nil");
        let conduit = Some(Conduit::default());
        let ip_family = 7;
        let subnet = Subnet { conduit: conduit.clone(), ..Subnet::default() };
        assert_eq!(refused(&mut served.client, Some(subnet)).await, "trench cannot be nil");
        let subnet = Subnet { conduit, ip_family, ..Subnet::default() };
        assert_eq!(refused(&mut served.client, Some(subnet)).await, "cannot allocate in this ip family");
    }

    #[tokio::test]
    async fn leases_are_kept_over_grpc() {
        let served = serve().await;
        let tasks = Tasks::default();
        let delay = Duration::from_millis(50);
        let settings = Settings { release_delay: delay, ..Settings::default() };
        let leases = Leases::start(served.allocator(contract::subnet(), LONG), settings, &tasks);
        let lease = leases.acquire("a-src", Instant::now() + LONG).await.unwrap();
        let texts: Vec<_> = lease.addresses().iter().map(|(_, net)| net.to_string()).collect();
        assert_eq!(texts, ["169.255.0.1/24", "fd00::1/64"]);
        drop(lease);
        let mut status = leases.status();
        let released = status.wait_for(|status| status.held + status.releasing == 0);
        drop(tokio::time::timeout(LONG, released).await.expect("released").unwrap());
        assert!(served.ipam.tree().children().is_empty());

        served.ipam.faults().stand(Fault::Hang);
        let deadline = Instant::now() + Duration::from_millis(100);
        assert_eq!(leases.acquire("b", deadline).await.unwrap_err(), LeaseError::Deadline);
        tasks.stop().await;
    }

    /// The production channel fits under the client.
    #[test]
    fn the_mtls_channel_is_accepted_by_the_grpc_allocator() {
        fn is_allocator<A: Allocator>() {}
        is_allocator::<GrpcAllocator<transport::Channel>>();
    }
}
