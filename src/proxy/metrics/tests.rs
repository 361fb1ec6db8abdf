// SPDX-License-Identifier: Apache-2.0
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};

use super::{metric::Kind, *};
use crate::{
    api::{Connection, pb::registry::NetworkServiceEndpoint},
    chain::{self, Call, Chain, EventKind, Origin, Reason, Request, Tail},
    kernel::{Ends, Mac, PeerId, Port, Refusal, Statistics},
    proxy::{
        chains::Parts,
        health::{Health, Part},
        in_memory,
        mesh::{self, LinkState},
        telemetry::Losses,
        vips::Vips,
    },
    registry::{
        Registry as _, TokenPath,
        discovery::Discovered,
        twin::{Fault, Twin},
    },
    task::Tasks,
    testing::{Authority, Collector, bad_collector::BadCollector, soon},
    transport::Address,
};

/// The series of a text, by name: each with its labels and its value.
type Series = BTreeMap<String, Vec<(BTreeMap<String, String>, f64)>>;

fn config(more: &[(&str, &str)]) -> Config {
    let socket = |name: &str| (name == "SPIFFE_ENDPOINT_SOCKET").then(|| "unix:///run/agent.sock".into());
    let more: BTreeMap<String, String> =
        more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::parse(|name| more.get(name).cloned().or_else(|| socket(name))).unwrap()
}

fn sources() -> Sources {
    Sources::new(&config(&[("NSM_TRENCH", "trench-a"), ("NSM_CONDUIT", "conduit-a")]), &Health::default())
}

fn ports(number: usize) -> Vec<Port> {
    let port = |at: usize| Port {
        name: format!("nsm-{at}").parse().unwrap(),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        addresses: ["172.16.1.7/24", "fd00::7/64"].map(|net| net.parse().unwrap()).into(),
        statistics: Statistics { rx_packets: at as u64, tx_dropped: 8, ..Statistics::default() },
    };
    (0..number).map(port).collect()
}

/// The metrics of a proxy in memory, in which every part is up.
async fn whole(number_of_ports: usize, tasks: &Tasks) -> Metrics {
    let sources = sources();
    let parts: Parts = in_memory::parts("px", tasks).unwrap();
    let peer = PeerId::load_balancer("lb-1");
    let port = parts.kernel.port(&peer, "nsm-1".parse().unwrap(), Ends::default());
    let hop = parts.kernel.next_hop(&peer, "172.16.1.2".parse().unwrap());
    parts.kernel.settled().await;
    let handles = sources.handles();
    let svid = Authority::new("a.test").identity("px");
    let links = [("lb-1".to_owned(), LinkState::Connected)].into();
    let settings = mesh::Settings {
        name: "px".into(),
        network_service: "lb".into(),
        request_timeout: Duration::from_secs(15),
    };
    let status = mesh::Status { known: true, links };
    let vips = Vips { list: Some(["20.0.0.1/32".parse().unwrap()].into()), ..Vips::default() };
    handles.kernel.set(parts.kernel.status()).unwrap();
    handles.work.set(parts.kernel.work()).unwrap();
    handles.identity.set(svid).unwrap();
    handles.leases.set(parts.leases.status()).unwrap();
    assert!(handles.connections.set(parts.connections.clone()).is_ok());
    handles.losses.set(Arc::new(Losses::default())).unwrap();
    handles.vips.set(watch::channel(vips).1).unwrap();
    handles.registration.set(watch::channel(Default::default()).1).unwrap();
    let _followed =
        handles.set_mesh(settings, watch::channel(status).1, watch::channel(Discovered::default()).1, tasks);
    let metrics = Metrics::with_ports(&sources, Box::new(move || Ok(ports(number_of_ports)))).unwrap();
    drop((port, hop));
    metrics.probes(&parts.kernel.work());
    parts.kernel.work().answered("172.16.1.2".parse().unwrap(), Duration::from_millis(7));
    let row = tower::layer::util::Identity::new;
    let rows = || Chain::new().layer("trace", row()).layer("metadata", row()).layer("connect", row());
    for name in ["endpoint", "client"] {
        let chain = rows().end(Tail).observe(metrics.chain(name)).build().unwrap();
        chain.request(Request::new(Connection::named("a"))).await.unwrap();
    }
    metrics
}

async fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render().await.unwrap().to_vec()).unwrap()
}

/// Parses the text format, strictly.
fn parse(text: &str) -> Series {
    let mut found = Series::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect(line));
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest),
            None => (BTreeMap::new(), rest),
        };
        found.entry(name.to_owned()).or_default().push((labels, value.trim().parse().expect(line)));
    }
    found
}

/// The labels up to the closing brace, and the text behind it.
fn labels(mut rest: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    while let Some((key, quoted)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    other => other,
                }),
                (at, '"') => break at,
                (_, other) => value.push(other),
            }
        };
        labels.insert(key.to_owned(), value);
        rest = quoted[end + 1..].trim_start_matches(',');
        if let Some(rest) = rest.strip_prefix('}') {
            return (labels, rest);
        }
    }
    panic!("no end of labels: {rest}");
}

/// A row of `docs/metrics.md`.
fn row(metric: &Metric, names: &BTreeSet<String>) -> String {
    let name = metric.name.replace('.', "_");
    let exported: Vec<_> = names.iter().filter(|other| is_of(&name, other)).collect();
    let [exported] = exported[..] else { panic!("{name} is exported as {exported:?}") };
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{}`", label.replace('.', "_"))).collect();
    let labels = labels.join(", ");
    format!("| `{exported}` | {kind} | {} | {labels} | {} | {} |", metric.unit, metric.series, metric.meaning)
}

/// The name of a metric, without the suffixes of a histogram's series.
fn base(name: &str) -> &str {
    ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

/// Whether a name is that of a metric, with the suffixes of its unit and its kind.
fn is_of(metric: &str, name: &str) -> bool {
    let suffixes = ["", "_total", "_seconds", "_seconds_total", "_bytes"];
    name.strip_prefix(metric).is_some_and(|suffix| suffixes.contains(&suffix))
}

/// With `UPDATE=1`, writes the table; with `METRICS=path`, the exported text.
#[tokio::test]
async fn the_documented_metrics_are_the_exported_ones() {
    let tasks = Tasks::default();
    let text = text(&whole(2, &tasks).await).await;
    if let Some(path) = std::env::var_os("METRICS") {
        std::fs::write(path, &text).unwrap();
    }
    let series = parse(&text);
    let mut names: BTreeSet<String> = series.keys().map(|name| base(name).to_owned()).collect();
    assert!(names.remove("target_info"), "{names:?}");
    let rows: Vec<String> = all().map(|metric| row(metric, &names)).collect();
    assert_eq!(rows.len(), names.len(), "every exported metric is declared: {names:?}");
    for metric in all() {
        let name = metric.name.replace('.', "_");
        let is_of = |other: &str| is_of(&name, base(other)) && !other.ends_with("_bucket");
        let of = series.iter().find(|(other, _)| is_of(other)).map(|(_, series)| series).unwrap();
        assert!(of.len() <= metric.series, "{name}: {of:?}");
        for (labels, _) in of {
            let keys: BTreeSet<&str> =
                labels.keys().map(String::as_str).filter(|key| *key != "otel_scope_name").collect();
            let declared: Vec<String> = metric.labels.iter().map(|label| label.replace('.', "_")).collect();
            assert_eq!(keys, declared.iter().map(String::as_str).collect(), "{name}");
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    let is_row = |line: &str| line.starts_with("| `");
    let listed: Vec<&str> = page.lines().filter(|line| is_row(line)).collect();
    if std::env::var_os("UPDATE").is_some() {
        let before = page.lines().take_while(|line| !is_row(line));
        let after = page.lines().skip_while(|line| !is_row(line)).skip_while(|line| is_row(line));
        let lines = before.chain(rows.iter().map(String::as_str)).chain(after);
        std::fs::write(path, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    } else {
        assert_eq!(listed, rows, "UPDATE=1 cargo test the_documented_metrics writes it");
    }
    tasks.stop().await;
}

#[tokio::test]
async fn a_port_has_the_counters_and_labels_of_meridio() {
    let tasks = Tasks::default();
    let series = parse(&text(&whole(3, &tasks).await).await);
    let received = &series["meridio_interface_rx_packets_total"];
    let (labels, _) = received.iter().find(|(_, value)| *value == 2.0).unwrap();
    let expected = [
        ("trench", "trench-a"),
        ("conduit", "conduit-a"),
        ("interface_name", "nsm-2"),
        ("mac_address", "02:00:00:00:00:01"),
        ("ips", "[\"172.16.1.7/24\",\"fd00::7/64\"]"),
        ("otel_scope_name", "Meridio"),
    ];
    assert_eq!(*labels, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    assert!(series["meridio_interface_tx_dropped_total"].iter().all(|(_, value)| *value == 8.0));
    tasks.stop().await;
}

#[tokio::test]
async fn calls_are_counted_by_starter_and_measured_by_row_and_code() {
    let tasks = Tasks::default();
    let metrics = whole(0, &tasks).await;
    let refuses =
        |_: Call| async { Err::<Box<Connection>, chain::Error>(Reason::Denied("no".into()).into()) };
    let refuses = tower::service_fn(refuses as fn(_) -> _);
    let chain = Chain::new().layer("metadata", tower::layer::util::Identity::new()).end(refuses);
    let chain = chain.observe(metrics.chain("client")).build().unwrap();
    let mut heals = Request::new(Connection::named("a"));
    heals.context.origin = Origin::Event(EventKind::Heal);
    chain.request(heals).await.unwrap_err();
    let series = parse(std::str::from_utf8(&metrics.0.make().unwrap()).unwrap());
    let value = |name: &str, labels: &[(&str, &str)]| {
        let has = |of: &BTreeMap<String, String>| labels.iter().all(|(key, value)| of[*key] == *value);
        series[name].iter().filter(|(of, _)| has(of)).map(|(_, value)| value).sum::<f64>()
    };
    let call = [("chain", "client"), ("origin", "heal"), ("code", "PERMISSION_DENIED")];
    assert_eq!(value("meridio_proxy_calls_total", &call), 1.0);
    assert_eq!(value("meridio_proxy_calls_total", &[("origin", "caller"), ("code", "OK")]), 2.0);
    let row = [("chain", "client"), ("row", "metadata")];
    assert_eq!(value("meridio_proxy_row_duration_seconds_count", &row), 2.0);
    let request = ("rpc_method", "networkservice.NetworkService/Request");
    assert_eq!(value("rpc_server_call_duration_seconds_count", &[request]), 1.0);
    assert_eq!(value("rpc_client_call_duration_seconds_count", &[request]), 2.0);
    tasks.stop().await;
}

#[tokio::test]
async fn a_call_of_a_service_is_measured_with_its_code() {
    let metrics = Metrics::with_ports(&sources(), Box::new(|| Ok(Vec::new()))).unwrap();
    for status in [None, Some("14"), Some("nonsense")] {
        let answer = move |_: http::Request<()>| async move {
            let answer = http::Response::builder();
            let answer =
                status.into_iter().fold(answer, |answer, status| answer.header("grpc-status", status));
            answer.body(())
        };
        let service = Timed::new(tower::service_fn(answer), Some(&metrics));
        let call = http::Request::builder().uri("http://localhost/ipam.v1.Ipam/Allocate").body(()).unwrap();
        tower::ServiceExt::oneshot(service, call).await.unwrap();
    }
    let series = parse(&text(&metrics).await);
    let codes: Vec<_> = series["rpc_client_call_duration_seconds_count"]
        .iter()
        .map(|(labels, number)| {
            assert_eq!(labels["rpc_method"], "ipam.v1.Ipam/Allocate");
            (labels["rpc_response_status_code"].as_str(), *number)
        })
        .collect();
    assert_eq!(codes, [("OK", 1.0), ("UNAVAILABLE", 1.0), ("UNKNOWN", 1.0)]);
}

#[tokio::test]
async fn a_call_of_the_registry_ends_with_its_first_answer() {
    let metrics = Metrics::with_ports(&sources(), Box::new(|| Ok(Vec::new()))).unwrap();
    let twin = Twin::default();
    let registry = TimedRegistry::new(twin.clone(), Some(&metrics));
    let endpoint = NetworkServiceEndpoint { name: "lb-1".into(), ..Default::default() };
    registry.register(endpoint.clone(), None, TokenPath::default()).await.unwrap();
    let mut watch = registry.find(endpoint.clone(), true).await.unwrap();
    assert!(watch.next().await.unwrap().is_ok(), "the answer is passed on");
    twin.fail(Fault::Find, || tonic::Status::permission_denied("no").into());
    let refused = match registry.find(endpoint.clone(), false).await {
        Ok(mut found) => found.next().await.is_some_and(|answer| answer.is_err()),
        Err(_) => true,
    };
    assert!(refused);
    let series = parse(&text(&metrics).await);
    let calls: BTreeSet<_> = series["rpc_client_call_duration_seconds_count"]
        .iter()
        .map(|(labels, _)| {
            let method = labels["rpc_method"].strip_prefix("registry.NetworkServiceEndpointRegistry/");
            (method.unwrap(), labels["rpc_response_status_code"].as_str())
        })
        .collect();
    assert_eq!(calls, [("Find", "OK"), ("Find", "PERMISSION_DENIED"), ("Register", "OK")].into());
    drop(watch);
}

#[tokio::test]
async fn a_part_that_is_not_up_has_no_metrics() {
    let series = parse(&text(&Metrics::with_ports(&sources(), Box::new(|| Ok(Vec::new()))).unwrap()).await);
    assert!(!series.contains_key("meridio_proxy_next_hops"), "{series:?}");
    assert!(!series.contains_key("meridio_interface_rx_packets_total"), "{series:?}");
    assert_eq!(series["meridio_proxy_health"].len(), 6);
    assert!(series["process_resident_memory_bytes"][0].1 > 1e6);
}

#[tokio::test]
async fn values_follow_the_state() {
    let health = Health::default();
    let sources = Sources::new(&config(&[]), &health);
    let metrics = Metrics::with_ports(&sources, Box::new(|| Ok(Vec::new()))).unwrap();
    let health_of = |text: &str, service: &str| {
        let series = parse(text)["meridio_proxy_health"].clone();
        series.into_iter().find(|(labels, _)| labels["service"] == service).unwrap().1
    };
    assert_eq!(health_of(&text(&metrics).await, "Egress"), 0.0);
    health.set(Part::Egress, true, "");
    let text = String::from_utf8(metrics.0.make().unwrap().to_vec()).unwrap();
    assert_eq!(health_of(&text, "Egress"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn many_scrapes_in_a_second_read_the_kernel_once() {
    let reads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reads);
    let read = move || {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(ports(1000))
    };
    let metrics = Metrics::with_ports(&sources(), Box::new(read)).unwrap();
    let scrapes = (0..100).map(|_| metrics.render());
    let texts = futures::future::join_all(scrapes).await;
    let first = texts[0].as_ref().unwrap();
    assert!(texts.iter().all(|text| text.as_ref().unwrap() == first));
    let series = parse(std::str::from_utf8(first).unwrap());
    assert_eq!(series["meridio_interface_rx_bytes_total"].len(), 1000);
    assert_eq!(reads.load(Ordering::Relaxed), 1);
    tokio::time::advance(FRESH).await;
    metrics.render().await.unwrap();
    assert_eq!(reads.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_link_that_goes_takes_its_series_along() {
    let mut left = [3, 1].into_iter();
    let read = move || Ok(ports(left.next().unwrap_or_default()));
    let metrics = Metrics::with_ports(&sources(), Box::new(read)).unwrap();
    assert_eq!(parse(&text(&metrics).await)["meridio_interface_tx_bytes_total"].len(), 3);
    tokio::time::sleep(FRESH).await;
    assert_eq!(parse(&text(&metrics).await)["meridio_interface_tx_bytes_total"].len(), 1);
}

#[tokio::test]
async fn a_kernel_that_refuses_costs_the_counters_alone() {
    let metrics = Metrics::with_ports(&sources(), Box::new(|| Err(Refusal::errno(1)))).unwrap();
    let series = parse(&text(&metrics).await);
    assert!(!series.contains_key("meridio_interface_rx_packets_total"));
    assert_eq!(series["meridio_proxy_health"].len(), 6);
}

#[tokio::test]
async fn values_of_labels_are_escaped_and_bounded() {
    let nasty = "a\"b\\c\nd";
    let long = "ü".repeat(32 << 10); // 64 KiB
    for (given, expected) in [(nasty, nasty.to_owned()), (long.as_str(), "ü".repeat(128))] {
        let plain = config(&[]);
        let config = Config { trench: given.into(), conduit: given.into(), name: given.into(), ..plain };
        let sources = Sources::new(&config, &Health::default());
        let metrics = Metrics::with_ports(&sources, Box::new(|| Ok(ports(1)))).unwrap();
        let series = parse(&text(&metrics).await);
        let (labels, _) = &series["meridio_interface_rx_packets_total"][0];
        assert_eq!((&labels["trench"], &labels["conduit"]), (&expected, &expected));
    }
}

/// The answer to a request with this first line, and to a scraper that uses a name of the pod.
async fn ask(address: &str, line: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nhost: proxy.example.com:2223\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn other_pods_get_the_metrics_and_nothing_else() {
    let tasks = Tasks::default();
    let metrics = whole(100, &tasks).await;
    let listener = serve::listen(0).await.unwrap();
    let Address::Tcp(address) = listener.address().unwrap() else { panic!("not TCP") };
    let address = address.replace("[::]", "127.0.0.1");
    let _served = crate::proxy::admin::serve(listener, serve::router(metrics), &tasks);
    let answer = ask(&address, "GET /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert_eq!(parse(body)["meridio_interface_rx_bytes_total"].len(), 100);
    for (line, status) in [("GET /state", "404"), ("GET /", "404"), ("POST /metrics", "405")] {
        let answer = ask(&address, line).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
    }
    tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_scrapes_a_second_of_a_thousand_links_delay_no_call() {
    let tasks = Tasks::default();
    let metrics = whole(1000, &tasks).await;
    let chain = Chain::new().layer("metadata", tower::layer::util::Identity::new()).end(Tail);
    let chain = chain.observe(metrics.chain("client")).build().unwrap();
    let listener = serve::listen(0).await.unwrap();
    let Address::Tcp(address) = listener.address().unwrap() else { panic!("not TCP") };
    let address = address.replace("[::]", "127.0.0.1");
    let _served = crate::proxy::admin::serve(listener, serve::router(metrics), &tasks);
    let mut scrapes = tokio::task::JoinSet::new();
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let address = address.clone();
        scrapes.spawn(async move { ask(&address, "GET /metrics").await });
        let until = Instant::now() + Duration::from_millis(100);
        while Instant::now() < until {
            let began = Instant::now();
            chain.request(Request::new(Connection::named("a"))).await.unwrap();
            longest = longest.max(began.elapsed());
            tokio::task::yield_now().await;
        }
    }
    for answer in scrapes.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:.100}");
        assert_eq!(answer.matches("\nmeridio_interface_rx_bytes_total{").count(), 1000);
    }
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    tasks.stop().await;
}

#[tokio::test]
async fn a_scrape_of_a_hundred_links_is_cheap() {
    use rustix::time::{ClockId, clock_gettime};
    let tasks = Tasks::default();
    let metrics = whole(100, &tasks).await;
    metrics.0.make().unwrap();
    let spent = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap())
    };
    let before = spent();
    metrics.0.make().unwrap();
    let took = spent() - before;
    println!("a scrape of 100 links: {took:?} of CPU"); // at most 5 ms in a release build
    assert!(took < Duration::from_millis(500), "{took:?}");
    tasks.stop().await;
}

/// The metrics of a proxy that exports them to this address.
fn exported(address: &str) -> Metrics {
    let config = config(&[("NSM_TRENCH", "trench-a"), ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", address)]);
    let health = Health::default();
    health.set(Part::Egress, true, "");
    Metrics::with_ports(&Sources::new(&config, &health), Box::new(|| Ok(ports(2)))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exported_metrics_are_those_of_a_scrape() {
    let collector = Collector::default();
    let tasks = Tasks::default();
    let metrics = exported(&collector.listen(&tasks).await.unwrap());
    let scraped = parse(&text(&metrics).await);
    metrics.stop(Duration::from_secs(10)).await;
    let received = collector.metrics();
    for metric in all() {
        let name = metric.name.replace('.', "_");
        let is_of = |other: &str| is_of(&name, base(other)) && !other.ends_with("_bucket");
        let scraped = scraped.iter().find(|(other, _)| is_of(other)).map_or(0, |(_, series)| series.len());
        assert_eq!(received.get(metric.name).map_or(0, Vec::len), scraped, "{name}");
    }
    let port = |series: &crate::testing::Series| {
        (series.0["trench"].clone(), series.0["interface_name"].clone(), series.1)
    };
    let mut ports: Vec<_> = received["meridio.interface.rx_packets"].iter().map(port).collect();
    ports.sort_by(|a, b| a.1.cmp(&b.1));
    let port = |name: &str, value| ("trench-a".to_owned(), name.to_owned(), value);
    assert_eq!(ports, [port("nsm-0", 0.0), port("nsm-1", 1.0)]);
    let egress = received["meridio.proxy.health"].iter().find(|(labels, _)| labels["service"] == "Egress");
    assert_eq!(egress.unwrap().1, 1.0);
    tasks.stop().await;
}

/// Exports the metrics once more.
async fn export(metrics: &Metrics) {
    let provider = metrics.0.provider.clone();
    let _counted = spawn_blocking(move || provider.force_flush()).await.unwrap();
}

/// The number of failed exports in a scrape.
fn failures(metrics: &Metrics) -> f64 {
    let series = parse(std::str::from_utf8(&metrics.0.make().unwrap()).unwrap());
    let of = &series["meridio_proxy_exports_failures_total"];
    of.iter().find(|(labels, _)| labels["signal"] == "metrics").unwrap().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_collector_costs_the_export_alone() {
    let tasks = Tasks::default();
    for fault in BadCollector::ALL {
        let metrics = exported(&fault.start(&tasks).await);
        let began = Instant::now();
        let exporting = metrics.clone();
        let exporting = tokio::spawn(async move { export(&exporting).await });
        assert!(text(&metrics).await.contains("\nmeridio_interface_rx_bytes_total{"), "{fault:?}");
        if fault != BadCollector::Hangs {
            exporting.await.unwrap();
            assert_eq!(failures(&metrics), 1.0, "{fault:?}");
        }
        metrics.stop(Duration::from_millis(300)).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{fault:?}: {:?}", began.elapsed());
    }
    tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_comes_back_gets_all_values() {
    let tasks = Tasks::default();
    let address = BadCollector::Refuses.start(&tasks).await;
    let metrics = exported(&address);
    metrics.0.calls.made("x/Y".into(), Duration::ZERO, tonic::Code::Ok);
    export(&metrics).await;
    assert_eq!(failures(&metrics), 1.0);
    let collector = Collector::default();
    collector.listen_at(address.trim_start_matches("http://").parse().unwrap(), &tasks).await.unwrap();
    metrics.0.calls.made("x/Y".into(), Duration::ZERO, tonic::Code::Ok);
    let limit = soon();
    while collector.metrics().is_empty() {
        assert!(Instant::now() < limit, "{} exports have failed", failures(&metrics));
        export(&metrics).await;
    }
    assert_eq!(collector.metrics()["rpc.client.call.duration"][0].1, 2.0, "none is lost");
    tasks.stop().await;
}

#[tokio::test]
async fn a_port_that_is_taken_costs_a_warning() {
    let tasks = Tasks::default();
    let metrics = Metrics::with_ports(&sources(), Box::new(|| Ok(Vec::new()))).unwrap();
    let taken = serve::listen(0).await.unwrap();
    let Address::Tcp(address) = taken.address().unwrap() else { panic!("not TCP") };
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    assert!(serve(Some(port), Some(&metrics), &tasks).await.is_none());
    assert!(serve(None, Some(&metrics), &tasks).await.is_none());
    tasks.stop().await;
}

/// The names of metrics in a text, without the suffixes of histograms.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours =
        words.filter(|word| ["meridio_", "process_", "rpc_"].iter().any(|start| word.starts_with(start)));
    ours.map(base).collect()
}

#[test]
fn alerts_and_panels_use_metrics_that_exist() {
    let page = include_str!("../../../docs/metrics.md");
    let listed: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let alerts = include_str!("../../../deploy/monitoring/alerts.yaml");
    let dashboard = include_str!("../../../deploy/monitoring/dashboard.json");
    serde_json::from_str::<serde_json::Value>(dashboard).unwrap();
    for (file, text) in [("alerts.yaml", alerts), ("dashboard.json", dashboard)] {
        let used = named(text);
        assert!(used.len() > 20, "{file}: {used:?}");
        let unknown: Vec<_> = used.difference(&listed).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn every_alert_has_a_unit_test_and_a_runbook() {
    let alerts = include_str!("../../../deploy/monitoring/alerts.yaml");
    let tests = include_str!("../../../deploy/monitoring/alerts_test.yaml");
    let page = include_str!("../../../docs/operations.md");
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.strip_prefix("  - alert: ")).collect();
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### MeridioProxy")).collect();
    assert!(names.len() > 20, "{names:?}");
    assert_eq!(names.iter().map(|name| &name["MeridioProxy".len()..]).collect::<Vec<_>>(), headings);
    for name in names {
        let runbook = format!("runbook: docs/operations.md#{}", name.to_lowercase());
        assert!(alerts.contains(&runbook), "{name} has its runbook");
        assert!(tests.contains(&format!("- name: {name}\n")), "{name} has a unit test");
    }
}
