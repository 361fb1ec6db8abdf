// SPDX-License-Identifier: Apache-2.0

//! Answers watches of the configuration.

use tonic::{Request, Response, Status, async_trait};

use super::{Nsp, Watch, filter};
use nsm::api::pb::nsp::v1::{
    Conduit, ConduitResponse, Vip, VipResponse, configuration_manager_server::ConfigurationManager,
};

#[async_trait]
impl ConfigurationManager for Nsp {
    type WatchConduitStream = Watch<ConduitResponse>;
    type WatchVipStream = Watch<VipResponse>;

    async fn watch_conduit(
        &self,
        request: Request<Conduit>,
    ) -> Result<Response<Self::WatchConduitStream>, Status> {
        let wanted = request.into_inner();
        Ok(Response::new(self.watch(&self.conduits, move |conduits: &Vec<Conduit>| {
            let conduits = conduits.iter().filter(|conduit| filter::conduit(Some(&wanted), Some(conduit)));
            ConduitResponse { conduits: conduits.cloned().collect() }
        })))
    }

    async fn watch_vip(&self, request: Request<Vip>) -> Result<Response<Self::WatchVipStream>, Status> {
        let wanted = request.into_inner();
        Ok(Response::new(self.watch(&self.vips, move |vips: &Vec<Vip>| VipResponse {
            vips: vips.iter().filter(|vip| filter::vip(&wanted, vip)).cloned().collect(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use nsm::api::pb::nsp::v1::Trench;

    fn in_trench(name: &str) -> Request<Vip> {
        Request::new(Vip { trench: Some(Trench { name: name.into() }), ..Vip::default() })
    }

    async fn next(watch: &mut Watch<VipResponse>) -> Vec<String> {
        let answer = watch.next().await.unwrap().unwrap();
        answer.vips.into_iter().map(|vip| vip.address).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_answers_at_once_and_after_each_change() {
        let nsp = Nsp::new("a");
        let mut watch = nsp.watch_vip(in_trench("a")).await.unwrap().into_inner();
        assert!(next(&mut watch).await.is_empty());
        assert!(futures::poll!(watch.next()).is_pending());
        nsp.set_vips([("one", "20.0.0.1/32"), ("two", "2000::1/128")]);
        assert_eq!(next(&mut watch).await, ["20.0.0.1/32", "2000::1/128"]);
        nsp.set_vips([("one", "20.0.0.1/32"), ("two", "2000::1/128")]);
        assert_eq!(next(&mut watch).await.len(), 2, "the same list again is not suppressed");
        let mut late = nsp.watch_vip(in_trench("")).await.unwrap().into_inner();
        assert_eq!(next(&mut late).await.len(), 2);
        let mut other = nsp.watch_vip(in_trench("b")).await.unwrap().into_inner();
        assert!(next(&mut other).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn conduits_are_matched_by_name_and_trench() {
        let nsp = Nsp::new("a");
        nsp.set_conduits(["c1", "c2"]);
        let trench = |name: &str| Some(Trench { name: name.into() });
        for (name, trench, expected) in
            [("", None, 2), ("c1", None, 1), ("c1", trench("a"), 1), ("c1", trench("b"), 0), ("c3", None, 0)]
        {
            let filter = Conduit { name: name.into(), trench, ..Conduit::default() };
            let mut watch = nsp.watch_conduit(Request::new(filter.clone())).await.unwrap().into_inner();
            assert_eq!(watch.next().await.unwrap().unwrap().conduits.len(), expected, "{filter:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_interruption_ends_open_watches_and_no_later_ones() {
        let nsp = Nsp::new("a");
        let mut watch = nsp.watch_vip(in_trench("a")).await.unwrap().into_inner();
        assert_eq!(nsp.watches(), 1);
        nsp.interrupt();
        assert_eq!(watch.next().await.unwrap().unwrap_err().code(), tonic::Code::Unavailable);
        assert!(watch.next().await.is_none());
        let mut again = nsp.watch_vip(in_trench("a")).await.unwrap().into_inner();
        assert!(next(&mut again).await.is_empty());
        drop((watch, again));
        assert_eq!(nsp.watches(), 0);
    }
}
