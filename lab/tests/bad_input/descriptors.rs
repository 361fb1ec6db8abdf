// SPDX-License-Identifier: Apache-2.0

//! Descriptors that are named and do not arrive, and those that arrive and are not named.

use std::{fs, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use nsm::{
    api::{Mechanism, MechanismKind, parameter, pb::networkservice::NetworkServiceRequest},
    chain::{Chain, begin::BeginLayer, metadata::MetadataLayer},
    elements::{recv_fd, update_path::UpdatePath},
    server::{Endpoint, monitor::Connections},
    task::Tasks,
    transport::{Address, SendFds, Wire},
};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    around::{HOUR, dialer, host},
    row::Outcome,
    target::{self, CALL_TIMEOUT, call, new, send},
    world::World,
};

/// A file, and the descriptor of it.
fn file(world: &World) -> (PathBuf, Arc<OwnedFd>) {
    let path = world.folder.path().join("descriptor");
    (path.clone(), Arc::new(fs::File::create(path).unwrap().into()))
}

/// Number of descriptors of this process, test and proxy, that refer to a file.
fn open(path: &PathBuf) -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
    all.filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == *path)).count()
}

fn naming(inode: &str) -> NetworkServiceRequest {
    let mut message = new("bad");
    let mut mechanism = Mechanism::local(MechanismKind::Kernel);
    mechanism.parameters.insert(parameter::INODE_URL.into(), inode.into());
    message.mechanism_preferences = vec![mechanism];
    message
}

/// The proxy creates links in its own namespace and needs no namespace of a target: it answers at
/// once, with its own.
pub(crate) async fn never_comes(world: &World) -> Outcome {
    let answer = target::ask(world, naming("inode://4/4026531833")).await;
    let answer = answer.map_err(|status| status.to_string())?;
    let inode = answer.mechanism.as_ref().and_then(Mechanism::inode);
    target::closed(world, &answer).await?;
    match inode == Some(world.parts.netns.inode()) {
        true => Ok(None),
        false => Err(format!("answered {:?}", answer.mechanism)),
    }
}

/// A chain that needs descriptors, as that of a forwarder does.
struct PassThrough {
    wire: Wire,
    tasks: Tasks,
    _server: AbortOnDropHandle<()>,
}

impl PassThrough {
    async fn serve(world: &World) -> Result<Self, String> {
        let tasks = Tasks::default();
        let chain = Chain::new()
            .with(UpdatePath::new("forwarder"))
            .with(BeginLayer::endpoint(tasks.clone()))
            .with(MetadataLayer)
            .with(recv_fd::Endpoint);
        let routes = Endpoint::new(chain.build().unwrap(), Connections::default()).routes();
        let target = Address::Unix(world.folder.path().join("forwarder.sock"));
        let _server = host(&target, world.identity("forwarder"), routes).await;
        let dialled =
            dialer(&target, world.identity("target"), HOUR).dial(Instant::now() + CALL_TIMEOUT).await;
        Ok(Self { wire: dialled.map_err(|error| format!("{error:?}"))?, tasks, _server })
    }

    async fn end(self) {
        self.tasks.stop().await;
    }
}

pub(crate) async fn never_comes_where_it_is_needed(world: &World) -> Outcome {
    let other = PassThrough::serve(world).await?;
    let call = call(&other.wire, naming("inode://4/4026531833"), Duration::from_secs(1));
    let told = send(&other.wire, call).await.err();
    other.end().await;
    Ok(told)
}

/// Sends more of them than a connection keeps, with calls that name none.
async fn flood(wire: &Wire, fd: &Arc<OwnedFd>) -> Result<(), String> {
    for n in 0..4 {
        let mut message = new(&format!("flood-{n}"));
        message.connection.as_mut().unwrap().path_mut().index = 7; // refused, but not before it has arrived
        let mut call = call(wire, message, CALL_TIMEOUT);
        call.extensions_mut().insert(SendFds(vec![Arc::clone(fd); 200]));
        send(wire, call).await.err().ok_or("a call with a wrong path was answered")?;
    }
    Ok(())
}

/// The proxy closes them as they arrive.
pub(crate) async fn nobody_claims(world: &World) -> Outcome {
    let ((path, fd), wire) = (file(world), target::wire(world).await?);
    // From the first call of a connection it is known that no row will claim any.
    flood(&wire, &fd).await?;
    match open(&path) {
        1 => Ok(None),
        more => Err(format!("{} are open beside the one that was sent", more - 1)),
    }
}

/// A chain that may claim them keeps the newest.
pub(crate) async fn nobody_claims_where_one_could(world: &World) -> Outcome {
    let ((path, fd), other) = (file(world), PassThrough::serve(world).await?);
    flood(&other.wire, &fd).await?;
    let kept = open(&path) - 1;
    other.end().await;
    match kept {
        1..=256 => Ok(None),
        kept => Err(format!("{kept} are kept (accepted: 256)")),
    }
}

pub(crate) async fn too_many_for_one_call(world: &World) -> Outcome {
    let ((_path, fd), wire) = (file(world), target::wire(world).await?);
    let mut call = call(&wire, new("bad"), CALL_TIMEOUT);
    call.extensions_mut().insert(SendFds(vec![fd; 257]));
    Ok(send(&wire, call).await.err())
}
