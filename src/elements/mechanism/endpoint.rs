// SPDX-License-Identifier: Apache-2.0

//! Selects the first mechanism that works.
//!
//! 1. The connection already has a mechanism: only that one is accepted.
//! 2. Otherwise the caller's preferences are tried in order; each try has its own frame, so that a
//!    failed one leaves nothing.
//! 3. KERNEL and NOOP are supported. Others are skipped.
//! 4. KERNEL always gets our network namespace, regardless of the caller's value. It keeps the name
//!    that the caller set, else gets the previous one, else a new one.
//! 5. If nothing is supported, [`Reason::Refused`] with NSM's text. If something was, and failed,
//!    its error.
//!
//! An invalid name is rejected with [`Reason::Invalid`]; a name already in use, with
//! [`Reason::Refused`].

use super::{
    OWN_NETNS,
    names::{Claim, Names},
};
use crate::{
    api::{Connection, InterfaceName, Mechanism, MechanismKind, parameter},
    chain::{Element, Error, Next, Order, Reason, Request, Result, Scope},
};

/// Element for the endpoint chain.
///
/// ```
/// use nsm::{
///     api::{Connection, Mechanism, MechanismKind},
///     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::mechanism::{Endpoint, Names},
///     task::Tasks,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let chain = Chain::new()
///     .with(BeginLayer::endpoint(tasks.clone()))
///     .with(MetadataLayer)
///     .with(Endpoint::new(Names::new(|_| false)))
///     .build()?;
/// let preferences = vec![Mechanism::local(MechanismKind::Kernel)];
/// let request = Request { preferences, ..Request::new(Connection::named("a")) };
/// let answer = chain.request(request).await?;
/// assert_eq!(answer.mechanism.and_then(|agreed| agreed.kind()), Some(MechanismKind::Kernel));
/// tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    names: Names,
}

struct Named(Claim);

impl Endpoint {
    /// Takes names from `names`.
    pub fn new(names: Names) -> Self {
        Self { names }
    }

    /// Rules 3 and 4.
    fn prepare(&self, mechanism: &mut Mechanism, service: &str, scope: &Scope) -> Result<()> {
        match mechanism.kind() {
            Some(MechanismKind::Noop) => return Ok(()),
            Some(MechanismKind::Kernel) => {}
            None => return Err(unsupported(&[&mechanism.r#type]).into()),
        }
        let name = self.name(mechanism, service, scope)?;
        mechanism.parameters.insert(parameter::NAME.into(), name.to_string());
        mechanism.parameters.insert(parameter::INODE_URL.into(), OWN_NETNS.into());
        Ok(())
    }

    fn name(&self, mechanism: &Mechanism, service: &str, scope: &Scope) -> Result<InterfaceName> {
        let requested = match mechanism.parameters.get(parameter::NAME).filter(|name| !name.is_empty()) {
            Some(text) => {
                let name = text.parse::<InterfaceName>();
                Some(name.map_err(|error| Reason::Invalid(format!("mechanism parameter `name`: {error}")))?)
            }
            None => None,
        };
        let held = scope.get::<Named>().map(|named| named.0.name().clone());
        if let Some(held) = held.filter(|held| requested.as_ref().is_none_or(|requested| requested == held)) {
            return Ok(held);
        }
        let claim = match requested {
            Some(requested) => self.names.claim(&requested),
            None => self.names.choose(service),
        };
        let claim = claim.map_err(|taken| Reason::Refused(taken.to_string()))?;
        let name = claim.name().clone();
        scope.insert(Named(claim));
        Ok(name)
    }

    /// One try of rule 2.
    async fn attempt(
        &self,
        preference: Mechanism,
        mut request: Request,
        next: &Next,
    ) -> Result<Box<Connection>> {
        let frame = request.context.scope.frame();
        request.context.scope = frame.scope();
        let mut mechanism = preference;
        self.prepare(&mut mechanism, &request.connection.network_service, &request.context.scope)?;
        request.connection.mechanism = Some(mechanism);
        let connection = next.request(request).await?;
        frame.commit();
        Ok(connection)
    }
}

/// Rule 5.
fn unsupported(requested: &[&String]) -> Reason {
    let kinds: Vec<String> = requested.iter().take(8).map(|kind| kind.chars().take(32).collect()).collect();
    let kinds = kinds.join(", ");
    Reason::Refused(format!(
        "cannot support any of the requested mechanism: [{kinds}] (supported: KERNEL, NOOP)"
    ))
}

impl Element for Endpoint {
    const NAME: &'static str = "mechanism";
    const ORDER: Order = Order::STATE.before(&["bridge", "send_fd"]);

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        if let Some(mechanism) = &mut request.connection.mechanism {
            self.prepare(mechanism, &request.connection.network_service, &request.context.scope)?;
            return next.request(request).await;
        }
        let mut failed: Option<Error> = None;
        for preference in request.preferences.iter().filter(|preference| preference.kind().is_some()) {
            match self.attempt(preference.clone(), request.clone(), &next).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = Some(error),
            }
        }
        let kinds: Vec<_> = request.preferences.iter().map(|preference| &preference.r#type).collect();
        Err(failed.unwrap_or_else(|| unsupported(&kinds).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::{Call, Chain, begin::BeginLayer, laws, metadata::MetadataLayer},
        task::Tasks,
        testing::Given,
    };

    fn mechanism(kind: &str, name: &str) -> Mechanism {
        let mut mechanism = Mechanism { cls: "LOCAL".into(), r#type: kind.into(), ..Mechanism::default() };
        if !name.is_empty() {
            mechanism.parameters.insert(parameter::NAME.into(), name.into());
        }
        mechanism
    }

    /// A chain whose end refuses links of the name `bad`.
    fn chain(names: &Names, tasks: &Tasks) -> Next {
        let end = tower::service_fn(|call: Call| async move {
            let name = call.connection().mechanism.as_ref().and_then(Mechanism::interface);
            match name.is_some_and(|name| name.as_str() == "bad") {
                true => Err(Error::from(Reason::Exhausted("no address left".into()))),
                false => Ok(call.into_connection()),
            }
        });
        let rows = Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer);
        rows.with(Endpoint::new(names.clone())).end(end).build().unwrap()
    }

    fn request(agreed: Option<Mechanism>, preferences: Vec<Mechanism>) -> Request {
        let mut connection = Connection::named("a");
        connection.network_service = "proxy.load-balancer".into();
        connection.mechanism = agreed;
        Request { preferences, ..Request::new(connection) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_link_is_agreed_by_the_table() {
        let m = mechanism;
        let names = Names::new(|name| name.as_str() == "eth0");
        let _other = names.claim(&"other".parse().unwrap()).unwrap();
        // rule, mechanism of the connection, preferences, answer: type and start of the name, or
        // part of the error
        #[rustfmt::skip]
        let table = [
            ("1 agreed", Some(m("KERNEL", "nsm-1")), vec![m("NOOP", "")], Ok(("KERNEL", "nsm-1"))),
            ("1 agreed on what we cannot", Some(m("VFIO", "")), vec![m("KERNEL", "")], Err("requested mechanism: [VFIO]")),
            ("2 the first", None, vec![m("KERNEL", "nsm-1"), m("NOOP", "")], Ok(("KERNEL", "nsm-1"))),
            ("2 the second, the first fails", None, vec![m("KERNEL", "bad"), m("KERNEL", "nsm-2")], Ok(("KERNEL", "nsm-2"))),
            ("2 noop", None, vec![m("NOOP", ""), m("KERNEL", "")], Ok(("NOOP", ""))),
            ("3 unknown ones first", None, vec![m("MEMIF", ""), m("", ""), m("KERNEL", "")], Ok(("KERNEL", "proxy.load-"))),
            ("5 nothing supported", None, vec![m("MEMIF", ""), m("VLAN", "")], Err("cannot support any of the requested mechanism: [MEMIF, VLAN]")),
            ("5 nothing asked", None, vec![], Err("cannot support any of the requested mechanism")),
            ("5 all failed", None, vec![m("MEMIF", ""), m("KERNEL", "bad")], Err("no address left")),
            ("invalid", None, vec![m("KERNEL", "sixteen-letters-")], Err("`sixteen-letters-` is not an interface name (accepted: 1 to 15 bytes")),
            ("foreign", Some(m("KERNEL", "eth0")), vec![], Err("`eth0` is that of a link which belongs to no connection")),
            ("another's", None, vec![m("KERNEL", "other")], Err("`other` is that of another connection")),
        ];
        for (rule, agreed, preferences, expected) in table {
            let tasks = Tasks::default();
            match (chain(&names, &tasks).request(request(agreed, preferences)).await, expected) {
                (Ok(answer), Ok((kind, name))) => {
                    let mechanism = answer.mechanism.unwrap();
                    let has = mechanism.parameters.get(parameter::NAME).cloned().unwrap_or_default();
                    assert!(mechanism.r#type == kind && has.starts_with(name), "{rule}: {mechanism:?}");
                    let netns = mechanism.parameters.get(parameter::INODE_URL).map(String::as_str);
                    assert_eq!(netns, (kind == "KERNEL").then_some(OWN_NETNS), "{rule}");
                    assert_eq!(
                        names.len(),
                        1 + usize::from(kind == "KERNEL"),
                        "{rule}: a failed try keeps no name"
                    );
                }
                (Err(error), Err(expected)) => {
                    assert!(error.to_string().contains(expected), "{rule}: {error}")
                }
                (got, _) => panic!("{rule}: {got:?}"),
            }
            tasks.stop().await;
            assert_eq!(names.len(), 1, "{rule}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_keeps_the_name_and_sets_the_network_namespace() {
        let names = Names::new(|_| false);
        let tasks = Tasks::default();
        let chain = chain(&names, &tasks);
        let first = chain.request(request(None, vec![mechanism("KERNEL", "")])).await.unwrap();
        let mut agreed = first.mechanism.clone().unwrap();
        agreed.parameters.insert(parameter::INODE_URL.into(), "inode://4/1".into());
        let second = chain.request(request(Some(agreed), vec![])).await.unwrap();
        assert_eq!((second.mechanism, names.len()), (first.mechanism, 1));
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        let names = Names::new(|_| false);
        laws::check_with(
            || {
                Given(Endpoint::new(names.clone()), |c: &mut Connection, _: &mut _| {
                    c.mechanism = Some(mechanism("KERNEL", "nsm-1"))
                })
            },
            || names.len(),
        )
        .await
        .unwrap();
    }
}
