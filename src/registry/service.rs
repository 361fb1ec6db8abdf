// SPDX-License-Identifier: Apache-2.0

//! Registers a network service that other proxies register too.
//!
//! All proxies of a conduit register the same network service, so none may unregister it. With
//! policies on, the registry lets only the first of them replace it. For the others it is enough
//! that the existing one equals theirs.

use super::{Error, Registry};
use crate::api::pb::registry::NetworkService;

/// The origin of a registered network service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceOwner {
    /// We registered it.
    Ours,
    /// Another client registered it, and it is the same.
    Theirs,
}

/// Registers a network service. If the registry denies that, it must have one of this name with the
/// same payload and matches.
///
/// # Errors
/// The registry's refusal if there is none of this name; [`Error::Differs`] if it is another one;
/// otherwise the error of the call.
pub async fn ensure<R: Registry>(registry: &R, service: &NetworkService) -> Result<ServiceOwner, Error> {
    let denied = match registry.register_service(service.clone()).await {
        Ok(()) => return Ok(ServiceOwner::Ours),
        Err(error) if error.is_denied() => error,
        Err(error) => return Err(error),
    };
    let Some(theirs) = registry.find_service(&service.name).await? else { return Err(denied) };
    if let Some((thing, theirs, ours)) = difference(&theirs, service) {
        return Err(Error::Differs { name: service.name.clone(), thing, theirs, ours });
    }
    tracing::warn!(name = service.name, reason = %denied, "the network service is registered by somebody else; it is the same");
    Ok(ServiceOwner::Theirs)
}

fn difference(theirs: &NetworkService, ours: &NetworkService) -> Option<(&'static str, String, String)> {
    if theirs.payload != ours.payload {
        return Some(("payload", format!("`{}`", cut(&theirs.payload)), format!("`{}`", ours.payload)));
    }
    let text = |service: &NetworkService| cut(&format!("{:?}", service.matches));
    (theirs.matches != ours.matches).then(|| ("matches", text(theirs), text(ours)))
}

fn cut(text: &str) -> String {
    text.chars().take(512).collect()
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;
    use crate::{
        api::pb::registry::Match,
        registry::twin::{Fault, Twin},
    };

    fn service(payload: &str, matches: usize) -> NetworkService {
        NetworkService {
            name: "proxy.c.t.ns".into(),
            payload: payload.into(),
            matches: vec![Match::default(); matches],
            path_ids: vec!["spiffe://not/compared".into()],
        }
    }

    #[tokio::test]
    async fn a_denied_registration_is_compared_with_the_registered_entry() {
        let same = NetworkService { path_ids: vec![], ..service("ETHERNET", 1) };
        #[rustfmt::skip]
        let table = [
            ("nobody denies", None, Some(service("IP", 0)), Ok(ServiceOwner::Ours)),
            ("the same is there", Some(Code::PermissionDenied), Some(same), Ok(ServiceOwner::Theirs)),
            ("nothing is there", Some(Code::PermissionDenied), None, Err("answered PermissionDenied")),
            ("another payload", Some(Code::PermissionDenied), Some(service("IP", 1)), Err("belongs to somebody else and has payload `IP` (ours: `ETHERNET`)")),
            ("other matches", Some(Code::PermissionDenied), Some(service("ETHERNET", 2)), Err("belongs to somebody else and has matches")),
            ("it is not a refusal", Some(Code::Unavailable), Some(service("IP", 0)), Err("answered Unavailable")),
        ];
        for (rule, code, there, expected) in table {
            let twin = Twin::default();
            twin.put_service(there);
            if let Some(code) = code {
                twin.fail(Fault::RegisterService, move || Status::new(code, "no").into());
            }
            let got = ensure(&twin, &service("ETHERNET", 1)).await;
            match (&got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(*got, expected, "{rule}"),
                (Err(got), Err(expected)) => assert!(got.to_string().contains(expected), "{rule}: {got}"),
                _ => panic!("{rule}: {got:?}"),
            }
            let conflict = rule.starts_with("an") || rule.starts_with("other");
            assert_eq!(got.err().is_some_and(|error| error.is_final()), conflict, "{rule}");
        }
    }
}
