// SPDX-License-Identifier: Apache-2.0
//! Serves the SPIFFE Workload API on a unix socket: one socket, one workload.
//!
//! An agent attests its callers; the lab gives each pod a socket of its own instead. The response
//! is under control: none yet, an SVID, its rotation, or a refusal. Callers receive an agent's
//! responses: `PermissionDenied` while there is no identity, an update on the open stream at a
//! rotation.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::Pin,
};

use futures::{Stream, StreamExt};
use tokio::{net::UnixListener, sync::watch};
use tokio_stream::wrappers::WatchStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};

use super::authority::Issued;
use crate::{
    api::pb::spiffe::{
        X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
        spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
    },
    testing::accept,
};

/// The answer to every caller, and the next one on open streams.
#[derive(Clone)]
enum State {
    Refused,
    Silent,
    Granted(Box<Issued>),
}

/// The Workload API of one workload. Dropping it closes the socket and ends its streams.
pub struct Workload {
    state: watch::Sender<State>,
    socket: PathBuf,
    _server: AbortOnDropHandle<()>,
}

impl Workload {
    /// Listens on a socket that must not exist yet. There is no identity until [`Workload::grant`].
    ///
    /// # Errors
    /// Those of `bind` and `chmod`: the folder is missing, or the path is taken or longer than 107
    /// bytes.
    pub fn listen(socket: impl Into<PathBuf>) -> io::Result<Self> {
        let socket = socket.into();
        let listener = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777))?;
        let (state, watched) = watch::channel(State::Refused);
        let server = tokio::spawn(async move {
            // Connections outlive an aborted accept loop, unless it is notified of an end.
            let served = tonic::transport::Server::builder()
                .add_service(SpiffeWorkloadApiServer::new(Api(watched)))
                .serve_with_incoming_shutdown(Box::pin(accept::unix(listener)), futures::future::pending());
            if let Err(error) = served.await {
                tracing::error!(%error, "the Workload API ended");
            }
        });
        Ok(Self { state, socket, _server: AbortOnDropHandle::new(server) })
    }

    /// Gives the workload an SVID. The second time, this is a rotation: open streams receive it.
    pub fn grant(&self, issued: Issued) {
        self.state.send_replace(State::Granted(Box::new(issued)));
    }

    /// Takes the identity away: open streams end, and callers are refused.
    pub fn refuse(&self) {
        self.state.send_replace(State::Refused);
    }

    /// Stops answering: calls wait, open streams are silent.
    pub fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The socket, in the format of the variable `SPIFFE_ENDPOINT_SOCKET`.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Api(watch::Receiver<State>);

impl Api {
    /// One answer for the present state and one for each that follows; ends after a refusal.
    fn answers<M, T: Send + 'static>(
        &self,
        request: &Request<M>,
        answer: fn(&Issued) -> T,
    ) -> Result<Response<Answers<T>>, Status> {
        // Without this header a web page could send the request; agents require it.
        if request.metadata().get("workload.spiffe.io").is_none_or(|value| value != "true") {
            return Err(Status::invalid_argument("security header missing from request"));
        }
        let refused = || Status::permission_denied("no identity issued");
        if matches!(*self.0.borrow(), State::Refused) {
            return Err(refused());
        }
        let states = WatchStream::new(self.0.clone());
        let answers = states.filter_map(move |state| {
            futures::future::ready(match state {
                State::Silent => None,
                State::Refused => Some(Err(refused())),
                State::Granted(issued) => Some(Ok(answer(&issued))),
            })
        });
        let answers = answers.scan(false, |ended, answer| {
            let last = std::mem::replace(ended, answer.is_err());
            futures::future::ready((!last).then_some(answer))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Api {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<X509BundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.answers(&request, svid)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.answers(&request, bundles)
    }
}

fn svid(issued: &Issued) -> X509svidResponse {
    let svid = X509svid {
        spiffe_id: issued.id.clone(),
        x509_svid: issued.certificate.clone(),
        x509_svid_key: issued.key.clone(),
        bundle: issued.bundle.clone(),
        hint: String::new(),
    };
    X509svidResponse { svids: vec![svid], ..Default::default() }
}

fn bundles(issued: &Issued) -> X509BundlesResponse {
    let authority = issued.id.trim_start_matches("spiffe://").split('/').next().unwrap_or_default();
    let trust_domain = format!("spiffe://{authority}");
    X509BundlesResponse { bundles: [(trust_domain, issued.bundle.clone())].into(), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spiffe::{WorkloadApiClient, WorkloadApiError, X509Context};

    use super::*;
    use crate::testing::Authority;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn next(
        stream: &mut (impl Stream<Item = Result<X509Context, WorkloadApiError>> + Unpin),
    ) -> Option<Result<X509Context, WorkloadApiError>> {
        tokio::time::timeout(Duration::from_secs(5), stream.next()).await.expect("an answer within 5 s")
    }

    #[tokio::test]
    async fn a_workload_gets_an_svid_its_rotation_and_a_refusal() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("lab.test");
        let workload = Workload::listen(folder.path().join("agent.sock")).unwrap();
        let client = WorkloadApiClient::connect_to(workload.url()).await.unwrap();
        let refused = client.fetch_x509_context().await;
        assert!(matches!(refused, Err(WorkloadApiError::NoIdentityIssued)), "{refused:?}");

        let id = authority.pod("default", "proxy");
        workload.grant(authority.issue(&id, HOUR));
        let mut stream = Box::pin(client.stream_x509_contexts().await.unwrap());
        let first = next(&mut stream).await.unwrap().unwrap();
        let first = first.default_svid().unwrap();
        assert_eq!(first.spiffe_id().to_string(), id);

        workload.grant(authority.issue(&id, HOUR));
        let second = next(&mut stream).await.unwrap().unwrap();
        assert_ne!(second.default_svid().unwrap().leaf().as_bytes(), first.leaf().as_bytes());

        workload.refuse();
        assert!(matches!(next(&mut stream).await, Some(Err(_)) | None));
    }

    #[tokio::test]
    async fn dropping_it_ends_the_streams_and_removes_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("lab.test");
        let workload = Workload::listen(folder.path().join("agent.sock")).unwrap();
        workload.grant(authority.issue(&authority.pod("default", "a"), HOUR));
        let client = WorkloadApiClient::connect_to(workload.url()).await.unwrap();
        let mut stream = Box::pin(client.stream_x509_contexts().await.unwrap());
        next(&mut stream).await.unwrap().unwrap();

        let socket = workload.socket().to_owned();
        drop(workload);
        assert!(!matches!(next(&mut stream).await, Some(Ok(_))), "the stream went on");
        assert!(!socket.exists());
    }

    #[tokio::test]
    async fn a_call_without_the_security_header_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("lab.test");
        let workload = Workload::listen(folder.path().join("agent.sock")).unwrap();
        workload.grant(authority.issue(&authority.pod("default", "a"), HOUR));
        let channel = tonic::transport::Endpoint::try_from(workload.url()).unwrap().connect().await.unwrap();
        let mut client =
            crate::api::pb::spiffe::spiffe_workload_api_client::SpiffeWorkloadApiClient::new(channel);
        let status = client.fetch_x509svid(X509svidRequest {}).await.err().unwrap();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
}
