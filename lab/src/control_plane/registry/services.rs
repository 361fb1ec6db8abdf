// SPDX-License-Identifier: Apache-2.0
//! Serves the registry of network services.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{Change, Entry, Owners, Store, service_matches};
use nsm::api::pb::registry::{
    NetworkService, NetworkServiceQuery, NetworkServiceResponse,
    network_service_registry_server::NetworkServiceRegistry,
};

/// The service. Clones share the registrations.
#[derive(Clone, Default)]
pub struct Services {
    store: Arc<Store<NetworkService>>,
    owners: Arc<Owners>,
    /// Ends the streams of the watchers.
    pub stop: CancellationToken,
}

impl Services {
    /// The service of a name.
    pub fn get(&self, name: &str) -> Option<NetworkService> {
        self.store.get(name)
    }

    /// Registers without a call, permanently.
    #[cfg(test)]
    pub(crate) fn put(&self, service: NetworkService) {
        self.store.set(&service.name.clone(), Entry { value: service, until: None });
    }
}

fn answer(change: Change<NetworkService>) -> NetworkServiceResponse {
    NetworkServiceResponse { network_service: Some(change.value), deleted: change.deleted }
}

#[tonic::async_trait]
impl NetworkServiceRegistry for Services {
    type FindStream = Pin<Box<dyn Stream<Item = Result<NetworkServiceResponse, Status>> + Send>>;

    async fn register(&self, request: Request<NetworkService>) -> Result<Response<NetworkService>, Status> {
        let authorized = self.owners.authorize(&request, &request.get_ref().name)?;
        let mut service = request.into_inner();
        if service.name.is_empty() {
            return Err(Status::invalid_argument("a network service needs a name"));
        }
        if service.payload.is_empty() {
            "IP".clone_into(&mut service.payload);
        }
        service.path_ids.clone_from(&authorized.path_ids);
        if !self.store.set(&service.name, Entry { value: service.clone(), until: None }) {
            return Err(Status::resource_exhausted("too many network services"));
        }
        Ok(authorized.answer(service))
    }

    async fn find(
        &self,
        request: Request<NetworkServiceQuery>,
    ) -> Result<Response<Self::FindStream>, Status> {
        let query = request.into_inner();
        let wanted = query.network_service.unwrap_or_default();
        let answers = self
            .store
            .find(query.watch)
            .filter(move |change| futures::future::ready(service_matches(&wanted, &change.value)))
            .map(|change| Ok(answer(change)))
            .take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn unregister(&self, request: Request<NetworkService>) -> Result<Response<()>, Status> {
        self.owners.unregister(&request, &request.get_ref().name, &self.store)
    }
}
