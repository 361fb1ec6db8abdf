// SPDX-License-Identifier: Apache-2.0
//! Reports the kernel's view of the links to load balancers to `heal`.

use std::net::IpAddr;

use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::watch;

use super::recovery::next_hops;
use crate::{
    api::Connection,
    elements::heal::{Doubt, Liveness, Verdict},
    kernel::{Kernel, PeerId, Reach, Status},
};

/// The links to load balancers, as seen by the kernel and by the probes of their addresses.
pub(crate) struct Links(Kernel);

impl Links {
    /// Links that are declared at this kernel.
    pub(crate) fn new(kernel: Kernel) -> Self {
        Self(kernel)
    }
}

/// The verdict for a reach.
pub(super) fn verdict(reach: Reach) -> Verdict {
    match reach {
        Reach::Unknown => Verdict::Unknown,
        Reach::Answers => Verdict::Alive,
        Reach::Silent => Verdict::Dead,
    }
}

impl Liveness for Links {
    fn watch(&self, answer: &Connection) -> BoxStream<'static, Verdict> {
        let peer = PeerId::load_balancer(answer.client_id());
        let addresses: Vec<IpAddr> = next_hops(answer).collect();
        let mut status = self.0.status();
        status.mark_changed();
        stream::unfold(status, move |mut status: watch::Receiver<Status>| {
            let peer = peer.clone();
            let addresses = addresses.clone();
            async move {
                status.changed().await.ok()?;
                let reach = status.borrow_and_update().reach(&peer, &addresses);
                Some((verdict(reach), status))
            }
        })
        .boxed()
    }

    fn doubt(&self, answer: &Connection) -> Doubt {
        Box::new(self.0.doubt(&PeerId::load_balancer(answer.client_id())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Dual,
        kernel::{Ends, Memory, Settings},
        task::Tasks,
    };

    #[tokio::test(start_paused = true)]
    async fn a_link_is_checked_by_its_port_and_its_answering_addresses() {
        let tasks = Tasks::default();
        let linux = Memory::default();
        let kernel = Kernel::start(Settings::of("trench", "conduit", "node"), linux.clone(), &tasks);
        kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: None });
        let peer = PeerId::load_balancer("lb-1");
        let hop = "172.16.1.2".parse().unwrap();
        linux.add_link("nsm-1", None);
        let _port = kernel.port(&peer, "nsm-1".parse().unwrap(), Ends::default());
        let _hop = kernel.next_hop(&peer, hop);
        kernel.settled().await;

        let mut answer = *Connection::named("lb-1");
        answer.ip_context_mut().dst_ip_addrs = vec!["172.16.1.2/24".into()];
        let mut verdicts = Links::new(kernel.clone()).watch(&answer);
        let mut until = async |wanted| while verdicts.next().await.unwrap() != wanted {};
        until(Verdict::Unknown).await;
        kernel.set_answers(hop, true);
        until(Verdict::Alive).await;
        kernel.set_answers(hop, false);
        until(Verdict::Dead).await;
        kernel.set_answers(hop, true);
        until(Verdict::Alive).await;
        linux.remove_link("nsm-1");
        until(Verdict::Dead).await;
        tasks.stop().await;
    }
}
