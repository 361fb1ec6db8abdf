// SPDX-License-Identifier: Apache-2.0
//! Follows the VIPs of the trench, as the NSP lists them.
//!
//! Every message of the NSP is a complete list. Its valid entries are published if they differ from
//! the previous list. An invalid entry is reported once, by name and value, for as long as it stays
//! in the list. A list of more than [`MAX_VIPS`] entries is refused as a whole, reported once, and
//! shown in the health of `Egress`. The last list stays when the watch fails.
//!
//! # Known limits
//! An empty list is passed on, although a restarted NSP sends one before it has read its
//! configuration: only the [kernel](crate::kernel) can decide, because it has the rules that would
//! be removed.

mod list;

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use ipnet::IpNet;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{
    Code, Status,
    body::Body as Sent,
    client::GrpcService,
    codegen::{Body, Bytes, StdError},
};

use self::list::{InvalidVip, List};
use crate::{
    api::pb::nsp::v1::{Trench, Vip, configuration_manager_client::ConfigurationManagerClient},
    elements::ipam::Listed,
    kernel::Kernel,
    task::{Backoff, Tasks},
};

/// Maximum number of entries in a list; a longer one is refused as a whole. The kernel takes
/// seconds to insert 10,000 rules.
pub const MAX_VIPS: usize = 20_000;
/// Maximum message size in bytes: the maximum number of VIPs, with long names.
const MAX_ANSWER: usize = 16 << 20;
/// First and longest wait before subscribing again.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];
/// Timeout of the first list. The NSP sends it at once; a subscription without one has failed.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// A subscription without a message for this long is replaced: its connection may be dead.
const QUIET: Duration = Duration::from_secs(300);

/// The state of the VIPs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vips {
    /// The last list that was accepted: sorted, without duplicates and host bits. `None` until
    /// there is one.
    pub list: Option<Arc<[IpNet]>>,
    /// The list is that of an earlier process, because the NSP has not answered yet.
    pub restored: bool,
    /// Number of entries of the NSP's present list, if it was refused.
    pub refused: Option<usize>,
}

/// Follows the VIPs of a trench in a task of `tasks`, for as long as the receiver lives. `restored`
/// is the list of an earlier process.
pub fn follow<T>(
    client: ConfigurationManagerClient<T>,
    trench: impl Into<String>,
    restored: Option<Arc<[IpNet]>>,
    tasks: &Tasks,
) -> watch::Receiver<Vips>
where
    T: GrpcService<Sent, Future: Send> + Send + 'static,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    let before = Vips { restored: restored.is_some(), list: restored, refused: None };
    let (publish, vips) = watch::channel(before);
    let subscriber = Subscriber {
        client: client.max_decoding_message_size(MAX_ANSWER),
        trench: Trench { name: trench.into() },
        publish: publish.clone(),
        reported: HashSet::new(),
        backoff: Backoff::new(RETRY[0], RETRY[1]),
        failure: None,
    };
    tasks.spawn(async move {
        tokio::select! {
            () = publish.closed() => {}
            never = subscriber.run() => match never {},
        }
    });
    vips
}

/// Declares every list of the NSP to the kernel and publishes it to the endpoint chain, until the
/// subscriber ends. A restored list is only published. An empty list is only declared: the kernel
/// keeps the list before it for a grace time, and a target that refreshes meanwhile keeps its VIPs.
pub async fn declare(mut vips: watch::Receiver<Vips>, kernel: Kernel, publish: watch::Sender<Listed>) {
    let mut declared = None;
    loop {
        let Vips { list, restored, .. } = vips.borrow_and_update().clone();
        let cleared = list.as_deref().is_some_and(<[IpNet]>::is_empty);
        publish.send_if_modified(|published| {
            let new = *published != list && !(cleared && published.is_some());
            if new {
                published.clone_from(&list);
            }
            new
        });
        let now = if restored { None } else { list };
        if let Some(vips) = now.as_deref().filter(|_| now != declared) {
            kernel.set_vips(vips);
        }
        declared = now;
        if vips.changed().await.is_err() {
            return;
        }
    }
}

struct Subscriber<T> {
    client: ConfigurationManagerClient<T>,
    trench: Trench,
    publish: watch::Sender<Vips>,
    reported: HashSet<InvalidVip>,
    backoff: Backoff,
    failure: Option<Code>,
}

impl<T> Subscriber<T>
where
    T: GrpcService<Sent>,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    async fn run(mut self) -> Infallible {
        loop {
            if let Err(error) = self.subscription().await {
                self.failed(&error);
                sleep(self.backoff.delay()).await;
            }
        }
    }

    /// Subscribes, and takes lists until the subscription fails (error) or is quiet.
    async fn subscription(&mut self) -> Result<(), Status> {
        let late = |_| Status::deadline_exceeded("no list in time");
        let filter = Vip { trench: Some(self.trench.clone()), ..Vip::default() };
        let answer = timeout(FIRST_ANSWER, self.client.watch_vip(filter)).await.map_err(late)??;
        let mut lists = answer.into_inner();
        let mut next = timeout(FIRST_ANSWER, lists.message()).await.map_err(late)?;
        loop {
            let answer = next?.ok_or_else(|| Status::unavailable("the NSP has ended the watch"))?;
            self.take(&answer.vips);
            match timeout(QUIET, lists.message()).await {
                Ok(answer) => next = answer,
                Err(_) => return Ok(()),
            }
        }
    }

    /// Reads a list, unless it is too long.
    fn take(&mut self, list: &[Vip]) {
        self.backoff.reset();
        self.failure = None;
        if list.len() <= MAX_VIPS {
            return self.accept(List::read(list));
        }
        let refused = Some(list.len());
        self.publish.send_if_modified(|published| {
            let new = std::mem::replace(&mut published.refused, refused) != refused;
            if new {
                tracing::error!(
                    count = list.len(),
                    accepted = MAX_VIPS,
                    "too many VIPs: the last list stays"
                );
            }
            new
        });
    }

    /// Reports the complaints that are new, and publishes the VIPs if they differ.
    fn accept(&mut self, list: List) {
        for complaint in list.complaints.iter().filter(|complaint| !self.reported.contains(complaint)) {
            tracing::error!(name = complaint.name, value = complaint.value, "{}", complaint.problem);
        }
        self.reported = list.complaints.into_iter().collect();
        self.publish.send_if_modified(|published| {
            let confirms = std::mem::take(&mut published.restored);
            let heals = published.refused.take().is_some();
            let before = published.list.as_deref().unwrap_or_default();
            let count = |these: &[IpNet], those: &[IpNet]| {
                these.iter().filter(|vip| those.binary_search(vip).is_err()).count()
            };
            let added = count(&list.vips, before);
            let removed = count(before, &list.vips);
            if added + removed == 0 && published.list.is_some() {
                return heals || confirms;
            }
            tracing::info!(added, removed, total = list.vips.len(), "the VIPs have changed");
            published.list = Some(list.vips.into());
            true
        });
    }

    /// Logs why the watch failed; repeats of the same error are logged at debug.
    fn failed(&mut self, error: &Status) {
        // A field called `message` would replace the message of the line.
        let code = error.code();
        let error = error.message();
        let known = self.publish.borrow().list.is_some();
        if self.failure.replace(code) == Some(code) {
            tracing::debug!(?code, error, known, "still no watch of VIPs");
        } else {
            tracing::warn!(?code, error, known, "no watch of VIPs; those known stay");
        }
    }
}

#[cfg(test)]
mod tests;
