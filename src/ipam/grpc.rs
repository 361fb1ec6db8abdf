// SPDX-License-Identifier: Apache-2.0

//! Allocates from Meridio's IPAM over gRPC.

use std::{error::Error as _, time::Duration};

use ipnet::IpNet;
use tonic::{
    Code, Request, Status,
    body::Body as Sent,
    client::GrpcService,
    codegen::{Body, Bytes, StdError},
};

use super::{
    AllocateError, Allocator, Subnet,
    allocator::{NO_MORE_PREFIX, parse_answer},
};
use crate::api::{
    Family,
    pb::{
        ipam::v1::{self as pb, ipam_client::IpamClient},
        nsp::v1::{Conduit, Trench},
    },
};

/// An allocator at the other end of a channel: any service that the generated clients accept.
///
/// Every call carries its timeout to the server: without one, Meridio's IPAM loops forever on a
/// conduit that it does not know (yet).
#[derive(Clone, Debug)]
pub struct GrpcAllocator<T> {
    client: IpamClient<T>,
    subnet: Subnet,
    timeout: Duration,
}

impl<T> GrpcAllocator<T> {
    /// Allocates the children of a subnet through a client.
    pub fn new(client: IpamClient<T>, subnet: Subnet, timeout: Duration) -> Self {
        Self { client, subnet, timeout }
    }

    fn request(&self, child: &str, family: Family) -> Request<pb::Child> {
        let trench = Trench { name: self.subnet.trench.clone() };
        let conduit =
            Conduit { name: self.subnet.conduit.clone(), trench: Some(trench), ..Conduit::default() };
        let ip_family = match family {
            Family::V4 => pb::IpFamily::Ipv4,
            Family::V6 => pb::IpFamily::Ipv6,
        };
        let subnet = pb::Subnet {
            conduit: Some(conduit),
            node: self.subnet.node.clone(),
            ip_family: ip_family.into(),
        };
        let mut request = Request::new(pb::Child { name: child.to_owned(), subnet: Some(subnet) });
        request.set_timeout(self.timeout);
        request
    }
}

impl<T> Allocator for GrpcAllocator<T>
where
    T: GrpcService<Sent> + Clone + Send + Sync + 'static,
    T::Error: Into<StdError>,
    T::Future: Send,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    async fn allocate(&self, child: &str, family: Family) -> Result<IpNet, AllocateError> {
        let answer = self.client.clone().allocate(self.request(child, family)).await;
        let pb::Prefix { address, prefix_length } = answer.map_err(|status| error_of(&status))?.into_inner();
        parse_answer(&address, prefix_length, family)
    }

    async fn release(&self, child: &str, family: Family) -> Result<(), AllocateError> {
        let answer = self.client.clone().release(self.request(child, family)).await;
        answer.map(drop).map_err(|status| error_of(&status))
    }
}

/// The meaning of a status. Meridio's IPAM answers every refusal with `Unknown`; a status created
/// on this side has a source.
fn error_of(status: &Status) -> AllocateError {
    let message = || status.message().chars().take(256).collect::<String>();
    match status.code() {
        _ if status.message().contains(NO_MORE_PREFIX) => AllocateError::Exhausted(message()),
        Code::ResourceExhausted => AllocateError::Exhausted(message()),
        Code::DeadlineExceeded => AllocateError::Deadline,
        Code::Cancelled if status.message().contains("Timeout expired") => AllocateError::Deadline,
        Code::Unavailable | Code::Cancelled | Code::Aborted => AllocateError::Unavailable(message()),
        _ if status.source().is_some() => AllocateError::Unavailable(message()),
        _ => AllocateError::Refused(message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_the_ipam_becomes_a_typed_error() {
        let expired = "context deadline exceeded";
        let table = [
            (Status::unknown("failed allocating (a): no more prefix available"), "used up"),
            (Status::resource_exhausted("quota"), "used up"),
            (Status::deadline_exceeded(expired), "in time"),
            (Status::cancelled("Timeout expired"), "in time"),
            (Status::unavailable("connection refused"), "unavailable: connection refused"),
            (Status::from_error("broken pipe".into()), "unavailable: broken pipe"),
            (Status::unknown("no corresponding trench"), "refused: no corresponding trench"),
            (Status::unimplemented(""), "refused"),
        ];
        for (status, expected) in table {
            let text = error_of(&status).to_string();
            assert!(text.contains(expected), "{status:?}: {text}");
        }
    }

    #[test]
    fn a_long_message_is_cut() {
        assert!(error_of(&Status::unknown("x".repeat(1 << 16))).to_string().len() < 512);
    }
}
