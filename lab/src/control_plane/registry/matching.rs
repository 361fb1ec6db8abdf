// SPDX-License-Identifier: Apache-2.0
//! Decides which services and endpoints a query selects, and which endpoints may serve a client.

use std::collections::HashMap;

use nsm::api::pb::registry::{NetworkService, NetworkServiceEndpoint};

type Labels = HashMap<String, String>;

/// Whether a service is selected: an empty field of the query matches anything.
pub fn service_matches(query: &NetworkService, service: &NetworkService) -> bool {
    let empty_or = |wanted: &str, has: &str| wanted.is_empty() || wanted == has;
    empty_or(&query.name, &service.name)
        && empty_or(&query.payload, &service.payload)
        && (query.matches.is_empty() || query.matches == service.matches)
}

/// Whether an endpoint is selected: its name is equal or the query's is empty, and it has all
/// services and labels of the query.
pub fn endpoint_matches(query: &NetworkServiceEndpoint, endpoint: &NetworkServiceEndpoint) -> bool {
    let services = &query.network_service_names;
    (query.name.is_empty() || query.name == endpoint.name)
        && services.iter().all(|service| endpoint.network_service_names.contains(service))
        && query.network_service_labels.iter().all(
            |(service, wanted): (&String, &nsm::api::pb::registry::NetworkServiceLabels)| {
                let has = endpoint.network_service_labels.get(service);
                wanted
                    .labels
                    .iter()
                    .all(|(key, value)| has.is_some_and(|has| has.labels.get(key) == Some(value)))
            },
        )
        && endpoint.url.contains(&query.url)
}

/// The endpoints that may serve a client with these labels. The first match whose source selector
/// fits decides; without matches every endpoint may.
pub fn candidates(
    service: &NetworkService,
    client: &Labels,
    endpoints: Vec<NetworkServiceEndpoint>,
) -> Vec<NetworkServiceEndpoint> {
    if service.matches.is_empty() {
        return endpoints;
    }
    for rule in service.matches.iter().filter(|rule| fits(&rule.source_selector, client, client)) {
        let found: Vec<_> = endpoints
            .iter()
            .filter(|endpoint| {
                let has = endpoint.network_service_labels.get(&service.name).map(|labels| &labels.labels);
                let has = has.cloned().unwrap_or_default();
                rule.routes.iter().any(|route| fits(&route.destination_selector, &has, client))
            })
            .cloned()
            .collect();
        if !found.is_empty() || !rule.fallthrough {
            return found;
        }
    }
    Vec::new()
}

/// Whether the labels contain all of a selector. A value may be a template of one client label,
/// `{{.nodeName}}`.
fn fits(selector: &Labels, labels: &Labels, client: &Labels) -> bool {
    selector.iter().all(|(key, value)| {
        let template = value.strip_prefix("{{.").and_then(|value| value.strip_suffix("}}"));
        let wanted = template.map_or(Some(value), |name| client.get(name.trim()));
        let has = labels.get(key);
        has.is_some() && (has == Some(value) || has == wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nsm::api::pb::registry::{Destination, Match, NetworkServiceLabels};

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    fn endpoint(name: &str, node: &str) -> NetworkServiceEndpoint {
        NetworkServiceEndpoint {
            name: name.into(),
            network_service_names: vec!["proxy".into()],
            network_service_labels: HashMap::from([(
                "proxy".into(),
                NetworkServiceLabels { labels: labels(&[("nodeName", node)]) },
            )]),
            ..Default::default()
        }
    }

    fn same_node() -> NetworkService {
        let same = labels(&[("nodeName", "{{.nodeName}}")]);
        let routes = vec![Destination { destination_selector: same.clone(), weight: 0 }];
        let rule = Match { source_selector: same, routes, ..Default::default() };
        NetworkService {
            name: "proxy".into(),
            payload: "ETHERNET".into(),
            matches: vec![rule],
            ..Default::default()
        }
    }

    #[test]
    fn a_target_reaches_the_proxy_of_its_own_node_only() {
        let both = || vec![endpoint("a", "node-1"), endpoint("b", "node-2")];
        let names = |client: &[(&str, &str)]| {
            let found = candidates(&same_node(), &labels(client), both());
            found.into_iter().map(|endpoint| endpoint.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[("nodeName", "node-2")]), ["b"]);
        assert_eq!(names(&[("nodeName", "node-3")]), Vec::<String>::new());
        assert_eq!(names(&[]), Vec::<String>::new());
        let open = NetworkService { matches: vec![], ..same_node() };
        assert_eq!(candidates(&open, &labels(&[]), both()).len(), 2);
    }

    #[test]
    fn an_empty_field_of_a_query_stands_for_anything() {
        let query = |name: &str, service: &str| NetworkServiceEndpoint {
            name: name.into(),
            network_service_names: (!service.is_empty()).then(|| service.into()).into_iter().collect(),
            ..Default::default()
        };
        let table = [("", "", true), ("a", "proxy", true), ("b", "", false), ("", "lb", false)];
        for (name, service, expected) in table {
            assert_eq!(
                endpoint_matches(&query(name, service), &endpoint("a", "n")),
                expected,
                "{name} {service}"
            );
        }
        let named = |name: &str| NetworkService { name: name.into(), ..Default::default() };
        assert!(service_matches(&named(""), &same_node()) && !service_matches(&named("x"), &same_node()));
    }
}
