// SPDX-License-Identifier: Apache-2.0

use super::*;

#[test]
fn b05_the_offer_is_meridios() {
    let socket = Path::new("/tmp/px1/listen.on");
    let offer = offer("px", "proxy.c.t.ns", "node-1", socket);
    let service = offer.service.unwrap();
    assert_eq!((service.name.as_str(), service.payload.as_str()), ("proxy.c.t.ns", "ETHERNET"));
    let [rule] = service.matches.as_slice() else { panic!("{:?}", service.matches) };
    let same_node = [("nodeName".to_owned(), "{{.nodeName}}".to_owned())].into();
    assert_eq!(rule.source_selector, same_node);
    assert_eq!(rule.routes[0].destination_selector, same_node);
    assert_eq!(offer.endpoint.name, "px");
    assert_eq!(offer.endpoint.network_service_names, ["proxy.c.t.ns"]);
    assert_eq!(offer.endpoint.network_service_labels["proxy.c.t.ns"].labels["nodeName"], "node-1");
    assert_eq!((offer.endpoint.url.as_str(), offer.endpoint.expiration_time), ("", None));
    assert_eq!(offer.socket.as_deref(), Some(socket));
}

#[test]
fn b05_without_a_node_there_is_no_label() {
    let offer = offer("px", "proxy.c.t.ns", "", Path::new("/tmp/px1/listen.on"));
    assert!(offer.endpoint.network_service_labels.is_empty());
}

#[test]
fn a_long_name_still_makes_a_path_that_a_socket_can_have() {
    let parent = tempfile::tempdir().unwrap();
    let directory = Directory::make(parent.path(), &"n".repeat(253)).unwrap();
    let socket = Path::new("/tmp").join(directory.0.file_name().unwrap()).join("listen.on");
    assert!(socket.as_os_str().len() <= 107, "{}", socket.display());
    let path = directory.0.clone();
    drop(directory);
    assert!(!path.exists());
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let error = Directory::make(Path::new("/proc"), "px").unwrap_err();
    assert!(error.to_string().contains("/proc"), "{error}");
}
