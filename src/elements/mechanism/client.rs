// SPDX-License-Identifier: Apache-2.0

//! Requests a kernel interface.
//!
//! Every KERNEL preference gets the name and our network namespace; if there is none, one is added.
//! The name is
//! 1. that of the mechanism on which the connection has been agreed,
//! 2. else the previous one (a reselect requests a new link of the same name),
//! 3. else the one in the caller's preference,
//! 4. else a new one.
//!
//! An invalid name is rejected with [`Reason::Invalid`]; a name already in use, with
//! [`Reason::Refused`].

use super::{
    OWN_NETNS,
    names::{Claim, Names},
};
use crate::{
    api::{Connection, InterfaceName, Mechanism, MechanismKind, parameter},
    chain::{Element, Next, Order, Reason, Request, Result, Scope},
};

/// Element for the client chain.
///
/// ```
/// use nsm::{
///     api::Connection,
///     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::mechanism::{Client, Names},
///     task::Tasks,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let chain = Chain::new()
///     .with(BeginLayer::client(tasks.clone()))
///     .with(MetadataLayer)
///     .with(Client::new(Names::new(|_| false)))
///     .build()?;
/// chain.request(Request::new(Connection::named("a"))).await?; // requests KERNEL, with a new name
/// tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    names: Names,
}

struct Named(Claim);

impl Client {
    /// Takes names from `names`.
    pub fn new(names: Names) -> Self {
        Self { names }
    }

    /// Rules 1 to 4.
    fn name(&self, request: &Request, scope: &Scope) -> Result<InterfaceName> {
        let agreed = requested_name(request.connection.mechanism.iter())?;
        let held = scope.get::<Named>().map(|named| named.0.name().clone());
        if let Some(held) = held.filter(|held| agreed.as_ref().is_none_or(|agreed| agreed == held)) {
            return Ok(held);
        }
        let requested = match agreed {
            Some(agreed) => Some(agreed),
            None => requested_name(&request.preferences)?,
        };
        let claim = match requested {
            Some(requested) => self.names.claim(&requested),
            None => self.names.choose(&request.connection.network_service),
        };
        let claim = claim.map_err(|taken| Reason::Refused(taken.to_string()))?;
        let name = claim.name().clone();
        scope.insert(Named(claim));
        Ok(name)
    }
}

/// The name in the first KERNEL mechanism that has one.
fn requested_name<'a>(mechanisms: impl IntoIterator<Item = &'a Mechanism>) -> Result<Option<InterfaceName>> {
    let kernel = mechanisms.into_iter().filter(|mechanism| mechanism.kind() == Some(MechanismKind::Kernel));
    let name = kernel.filter_map(|mechanism| mechanism.parameters.get(parameter::NAME));
    match name.into_iter().find(|name| !name.is_empty()).map(|name| name.parse()) {
        Some(Ok(name)) => Ok(Some(name)),
        Some(Err(error)) => Err(Reason::Invalid(format!("mechanism parameter `name`: {error}")).into()),
        None => Ok(None),
    }
}

/// Puts the name into every KERNEL preference.
fn prefer(preferences: &mut Vec<Mechanism>, name: &InterfaceName) {
    if !preferences.iter().any(|preference| preference.kind() == Some(MechanismKind::Kernel)) {
        preferences.push(Mechanism::local(MechanismKind::Kernel));
    }
    for preference in preferences.iter_mut().filter(|p| p.kind() == Some(MechanismKind::Kernel)) {
        preference.parameters.insert(parameter::NAME.into(), name.to_string());
        preference.parameters.insert(parameter::INODE_URL.into(), OWN_NETNS.into());
    }
}

impl Element for Client {
    const NAME: &'static str = "mechanism";
    const ORDER: Order = Order::STATE.before(&["send_fd"]);

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let name = self.name(&request, &request.context.scope)?;
        prefer(&mut request.preferences, &name);
        next.request(request).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        chain::{Call, Chain, Close, Error, EventKind, begin::BeginLayer, laws, metadata::MetadataLayer},
        task::Tasks,
    };

    fn kernel(name: &str) -> Mechanism {
        let mut mechanism = Mechanism::local(MechanismKind::Kernel);
        mechanism.parameters.insert(parameter::NAME.into(), name.into());
        mechanism
    }

    fn named(mechanism: Option<Mechanism>) -> Box<Connection> {
        let mut connection = Connection::named("lb-1");
        connection.network_service = "load-balancer.trench".into();
        connection.mechanism = mechanism;
        connection
    }

    #[test]
    fn the_name_is_chosen_by_the_table() {
        let names = Names::new(|name| name.as_str() == "eth0");
        let other = names.claim(&"other".parse().unwrap()).unwrap();
        let element = Client::new(names.clone());
        let noop = Mechanism::local(MechanismKind::Noop);
        // rule, agreed mechanism, previous name, preferences, name or part of the error
        #[rustfmt::skip]
        let table = [
            ("1 agreed", Some(kernel("agreed")), None, vec![kernel("requested")], Ok("agreed")),
            ("1 agreed on another than before", Some(kernel("agreed")), Some("held"), vec![], Ok("agreed")),
            ("1 agreed on the same", Some(kernel("held")), Some("held"), vec![], Ok("held")),
            ("2 reselect", None, Some("held"), vec![kernel("requested")], Ok("held")),
            ("2 agreed without a name", Some(kernel("")), Some("held"), vec![], Ok("held")),
            ("3 requested", None, None, vec![noop.clone(), kernel(""), kernel("requested")], Ok("requested")),
            ("4 new", None, None, vec![], Ok("load-balan-")),
            ("4 new, agreed on no link", Some(noop), None, vec![kernel("")], Ok("load-balan-")),
            ("invalid", None, None, vec![kernel("sixteen-letters-")], Err("`sixteen-letters-` is not an interface name")),
            ("foreign", None, None, vec![kernel("eth0")], Err("`eth0` is that of a link which belongs to no connection")),
            ("another's", Some(kernel("other")), None, vec![], Err("`other` is that of another connection")),
        ];
        for (rule, mechanism, held, preferences, expected) in table {
            let frame = crate::chain::Frame::bottom();
            if let Some(held) = held {
                frame.scope().insert(Named(names.claim(&held.parse().unwrap()).unwrap()));
            }
            let request = Request { preferences, ..Request::new(named(mechanism)) };
            match (element.name(&request, &frame.scope()), expected) {
                (Ok(name), Ok(expected)) => assert!(name.as_str().starts_with(expected), "{rule}: {name}"),
                (Err(error), Err(expected)) => {
                    assert!(error.to_string().contains(expected), "{rule}: {error}")
                }
                (got, _) => panic!("{rule}: {got:?}"),
            }
        }
        drop(other);
        assert!(names.is_empty(), "{names:?}");
    }

    #[test]
    fn every_kernel_preference_names_the_link() {
        let name = "nsm-1".parse().unwrap();
        let mut none = Vec::new();
        prefer(&mut none, &name);
        let mut some = vec![Mechanism { r#type: "MEMIF".into(), ..Mechanism::default() }, kernel("")];
        prefer(&mut some, &name);
        assert_eq!((none.len(), some.len(), some[0].parameters.len()), (1, 2, 0));
        for kernel in [&none[0], &some[1]] {
            assert_eq!((kernel.interface(), &*kernel.cls), (Some(name.clone()), "LOCAL"));
            assert_eq!(kernel.parameters[parameter::INODE_URL], OWN_NETNS);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_name_stays_until_the_close() {
        let names = Names::new(|_| false);
        let tasks = Tasks::default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let end = tower::service_fn(move |call: Call| {
            if let Call::Request(request) = &call {
                noted.lock().unwrap().push(request.preferences[0].interface().unwrap());
                let events = request.context.events.clone();
                let first = noted.lock().unwrap().len() == 1;
                if first {
                    drop(events.reselect(EventKind::Heal, true));
                }
            }
            async move { Ok::<_, Error>(call.into_connection()) }
        });
        let rows = Chain::new().with(BeginLayer::client(tasks.clone())).with(MetadataLayer);
        let chain = rows.with(Client::new(names.clone())).end(end).build().unwrap();
        chain.request(Request::new(named(None))).await.unwrap();
        chain.request(Request::new(named(None))).await.unwrap();
        {
            let seen = seen.lock().unwrap();
            assert!(seen.len() == 3 && seen.iter().all(|name| *name == seen[0]), "{seen:?}");
        }
        assert_eq!(names.len(), 1);
        chain.close(Close::new(named(None))).await.unwrap();
        assert!(names.is_empty());
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        let names = Names::new(|_| false);
        laws::check_with(|| Client::new(names.clone()), || names.len()).await.unwrap();
    }
}
