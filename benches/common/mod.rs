// SPDX-License-Identifier: Apache-2.0

//! Identities for the benchmarks that call the endpoint chain.

use std::{path::Path, sync::Arc, time::Duration};

use nsm::{
    task::Tasks,
    testing::{Authority, Workload},
    transport::{Caller, Identity, Peer, Svid, token},
};

/// Longer than any benchmark runs.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// An identity of a pod, and its public part.
async fn identity(authority: &Authority, folder: &Path, pod: &str, tasks: &Tasks) -> (Arc<Svid>, Peer) {
    let issued = authority.issue(&authority.pod("default", pod), HOUR);
    let peer = Peer::of(&issued.certificate).unwrap();
    let workload = Workload::listen(folder.join(pod)).unwrap();
    workload.grant(issued);
    let soon = tokio::time::Instant::now() + Duration::from_secs(10);
    (Identity::follow(&workload.url(), tasks).ready(soon).await.unwrap(), peer)
}

/// A target that calls the proxy, as the transport passes it to the endpoint chain.
pub(crate) async fn caller(folder: &Path, tasks: &Tasks) -> Caller {
    let authority = Authority::new("bench.test");
    let (svid, own) = identity(&authority, folder, "px", tasks).await;
    let (target, peer) = identity(&authority, folder, "target", tasks).await;
    let token = token::issue(&target, &own, HOUR).ok();
    Caller { hub: None, svid, peer: Arc::new(peer), token }
}
