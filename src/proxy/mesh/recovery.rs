// SPDX-License-Identifier: Apache-2.0
//! Finds the connection of an earlier process of this pod, so that it is continued and no second
//! one is made.
//!
//! A connection whose load balancer answers over its link is requested as it is, which changes
//! nothing at either end. Otherwise it is reselected (state `RESELECT_REQUESTED`, no mechanism,
//! same endpoint), as Meridio does. Traffic is taken off the link first.

use std::{net::IpAddr, time::Duration};

use tokio::time::timeout;

use super::links;
use crate::{
    api::{Connection, parse_prefixes},
    app::client::recovery,
    elements::heal::Verdict,
    kernel::{Kernel, PeerId, Reach},
    transport::{DialError, Dialer},
};

/// Time for the probes to determine whether a load balancer answers.
const PROBES: Duration = Duration::from_secs(1);
/// Time for the kernel to take traffic off a link.
const WITHDRAWAL: Duration = Duration::from_secs(2);

/// The source of an earlier process's connections.
pub(crate) trait Recovery: Clone + Send + Sync + 'static {
    /// The connection with this id, ready to be continued. `None` if there is none or the manager
    /// does not answer.
    ///
    /// # Errors
    /// The manager cannot be reached. The caller should try again.
    fn find(&self, id: &str) -> impl Future<Output = Result<Option<Box<Connection>>, DialError>> + Send;

    /// Whether the link of a connection can continue unchanged, at both ends.
    fn verdict(&self, connection: &Connection) -> impl Future<Output = Verdict> + Send;

    /// Takes traffic off the link of a connection that is about to be replaced.
    fn withdraw(&self, connection: &Connection) -> impl Future<Output = ()> + Send;
}

/// Recovery from nsmgr, with the next hops in the kernel.
#[derive(Clone)]
pub(crate) struct Nsmgr {
    dialer: Dialer,
    kernel: Kernel,
}

impl Nsmgr {
    /// Queries the manager at the other end of `dialer`.
    pub(crate) fn new(dialer: Dialer, kernel: Kernel) -> Self {
        Self { dialer, kernel }
    }
}

impl Recovery for Nsmgr {
    async fn find(&self, id: &str) -> Result<Option<Box<Connection>>, DialError> {
        recovery::find(&self.dialer, id).await
    }

    /// The verdict of the probes, which have a second to reach it. It stays unknown if addresses
    /// are not announced: the load balancer may have the former MAC addresses of targets whose
    /// links were made again since, and only a new link makes it resolve them again.
    async fn verdict(&self, connection: &Connection) -> Verdict {
        let peer = PeerId::load_balancer(connection.client_id());
        let addresses: Vec<IpAddr> = next_hops(connection).collect();
        let mut status = self.kernel.status();
        let found = status.wait_for(|status| status.reach(&peer, &addresses) != Reach::Unknown);
        match timeout(PROBES, found).await {
            Ok(Ok(status)) if status.announces() => links::verdict(status.reach(&peer, &addresses)),
            _ => Verdict::Unknown,
        }
    }

    async fn withdraw(&self, connection: &Connection) {
        self.kernel.withdraw(next_hops(connection));
        if timeout(WITHDRAWAL, self.kernel.settled()).await.is_err() {
            tracing::warn!(id = connection.id, "the kernel has not taken traffic off the old link in time");
        }
    }
}

/// The load balancer's addresses.
pub(super) fn next_hops(connection: &Connection) -> impl Iterator<Item = IpAddr> {
    let texts = connection.ip_context().map(|context| context.dst_ip_addrs.as_slice()).unwrap_or_default();
    parse_prefixes(texts).into_iter().map(|net| net.addr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::{Memory, Settings, liveness},
        proxy::in_memory::left_by_an_earlier_process,
        task::Tasks,
        testing::Authority,
        transport::Address,
    };

    /// The verdict on a connection whose link and next hop an earlier process left in the kernel.
    async fn verdict(prepare: impl FnOnce(&Memory)) -> Verdict {
        let linux = left_by_an_earlier_process().await;
        prepare(&linux);
        let settings = Settings {
            announce: true,
            liveness: Some(liveness::Settings::default()),
            ..Settings::of("trench", "conduit", "node")
        };
        let tasks = Tasks::default();
        let kernel = Kernel::start(settings, linux, &tasks);
        let dialer = Dialer {
            address: Address::Unix("/nonexistent".into()),
            identity: Authority::new("a.test").identity("proxy"),
            dial_timeout: Duration::from_secs(1),
            token_lifetime: Duration::from_secs(600),
        };
        let recovery = Nsmgr::new(dialer, kernel);
        let mut connection = *Connection::named("lb-1");
        connection.ip_context_mut().dst_ip_addrs = vec!["172.16.1.2/24".into()];
        let verdict = recovery.verdict(&connection).await;
        tasks.stop().await;
        verdict
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_is_continued_only_if_its_load_balancer_answers() {
        let mute = Memory::forbid_announcements;
        assert_eq!(verdict(|_| {}).await, Verdict::Alive);
        assert_eq!(
            verdict(|linux| linux.set_silent("172.16.1.2".parse().unwrap(), true)).await,
            Verdict::Dead
        );
        assert_eq!(verdict(|linux| linux.remove_link("nsm-1")).await, Verdict::Unknown);
        assert_eq!(verdict(mute).await, Verdict::Unknown, "nothing is announced");
    }

    #[test]
    fn next_hops_are_the_addresses_of_the_load_balancer() {
        let mut connection = *Connection::named("lb-1");
        connection.ip_context_mut().dst_ip_addrs =
            vec!["172.16.1.2/24".into(), "fd00::2/64".into(), "junk".into()];
        let expected = ["172.16.1.2", "fd00::2"].map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(next_hops(&connection).collect::<Vec<_>>(), expected);
    }
}
