// SPDX-License-Identifier: Apache-2.0

//! Keeps the targets that have registered, and answers watches of them.
//!
//! A target is identified by its addresses, type and stream. A new one is `DISABLED`, regardless of
//! the status it sends: it becomes `ENABLED` by registering again.

use tonic::{Request, Response, Status, async_trait};

use super::{Nsp, Watch, filter};
use nsm::api::pb::nsp::v1::{Target, TargetResponse, target, target_registry_server::TargetRegistry};

#[async_trait]
impl TargetRegistry for Nsp {
    type WatchStream = Watch<TargetResponse>;

    async fn register(&self, request: Request<Target>) -> Result<Response<()>, Status> {
        let mut new = request.into_inner();
        self.targets.send_modify(|targets| match targets.iter_mut().find(|known| same(known, &new)) {
            Some(known) => *known = new,
            None => {
                new.set_status(target::Status::Disabled);
                targets.push(new);
            }
        });
        Ok(Response::new(()))
    }

    /// Succeeds also if the target is unknown.
    async fn unregister(&self, request: Request<Target>) -> Result<Response<()>, Status> {
        let gone = request.into_inner();
        self.targets.send_modify(|targets| targets.retain(|known| !same(known, &gone)));
        Ok(Response::new(()))
    }

    async fn watch(&self, request: Request<Target>) -> Result<Response<Self::WatchStream>, Status> {
        let wanted = request.into_inner();
        Ok(Response::new(self.watch(&self.targets, move |targets: &Vec<Target>| TargetResponse {
            targets: targets.iter().filter(|target| filter::target(&wanted, target)).cloned().collect(),
        })))
    }
}

/// Whether two entries are of the same target.
fn same(a: &Target, b: &Target) -> bool {
    let ips = |target: &Target| {
        let mut ips = target.ips.clone();
        ips.sort_unstable();
        ips
    };
    a.r#type == b.r#type && a.stream == b.stream && ips(a) == ips(b)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use nsm::api::pb::nsp::v1::{
        Stream,
        target::{Status, Type},
    };

    fn target(ips: &[&str], status: Status) -> Target {
        let stream = Some(Stream { name: "stream-a".into(), ..Stream::default() });
        let ips = ips.iter().map(|ip| (*ip).to_owned()).collect();
        Target { ips, status: status.into(), stream, ..Target::default() }
    }

    async fn register(nsp: &Nsp, target: Target) {
        nsp.register(Request::new(target)).await.unwrap();
    }

    fn statuses(targets: &[Target]) -> Vec<Status> {
        targets.iter().map(Target::status).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_is_enabled_by_its_second_registration() {
        let nsp = Nsp::new("a");
        register(&nsp, target(&["10.0.0.1", "fd00::1"], Status::Enabled)).await;
        assert_eq!(statuses(&nsp.targets()), [Status::Disabled]);
        register(&nsp, target(&["fd00::1", "10.0.0.1"], Status::Enabled)).await;
        assert_eq!(statuses(&nsp.targets()), [Status::Enabled]);
        register(&nsp, target(&["10.0.0.2"], Status::Disabled)).await;
        assert_eq!(nsp.targets().len(), 2);
        for _ in 0..2 {
            nsp.unregister(Request::new(target(&["10.0.0.1", "fd00::1"], Status::Any))).await.unwrap();
        }
        assert_eq!(nsp.targets().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_answers_with_the_targets_that_match() {
        let nsp = Nsp::new("a");
        let filter = Target { status: Status::Enabled.into(), ..Target::default() };
        let mut enabled = TargetRegistry::watch(&nsp, Request::new(filter)).await.unwrap().into_inner();
        let mut count = async || enabled.next().await.unwrap().unwrap().targets.len();
        assert_eq!(count().await, 0);
        register(&nsp, target(&["10.0.0.1"], Status::Disabled)).await;
        assert_eq!(count().await, 0);
        register(&nsp, target(&["10.0.0.1"], Status::Enabled)).await;
        assert_eq!(count().await, 1);
        register(&nsp, Target { r#type: Type::Frontend.into(), ..target(&["10.0.0.9"], Status::Disabled) })
            .await;
        assert_eq!((count().await, nsp.targets().len()), (1, 2), "of the same type");

        let any = Target { status: Status::Any.into(), stream: Some(Stream::default()), ..Target::default() };
        let other = Stream { name: "stream-b".into(), ..Stream::default() };
        let none = Target { stream: Some(other), ..any.clone() };
        for (filter, expected) in [(any, 1), (none, 0)] {
            let mut watch = TargetRegistry::watch(&nsp, Request::new(filter)).await.unwrap().into_inner();
            assert_eq!(watch.next().await.unwrap().unwrap().targets.len(), expected);
        }
    }
}
