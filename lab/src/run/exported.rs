// SPDX-License-Identifier: Apache-2.0
//! Judges the metrics of the proxy in a real OpenTelemetry collector.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Run, eventually, traces::PROXY, verdict::Verdict};
use crate::{
    control_plane::collector::{Collector, Kind, Point},
    error::LabError,
    topology::{CONDUIT, TRENCH, proxy},
};

/// Timeout of the export of every metric, and of the growth of a counter.
const DONE: Duration = Duration::from_secs(30);
/// Name of the meter, as in Meridio's other components.
const METER: &str = "Meridio";
/// Begin of the names of the counters of ports.
const OF_PORTS: &str = "meridio.interface.";
/// Attributes of the counters of ports.
const OF_PORT: [&str; 5] = ["conduit", "interface_name", "ips", "mac_address", "trench"];
/// Page that lists all metrics.
const PAGE: &str = include_str!("../../../docs/metrics.md");

/// Waits until all metrics have arrived and counters of ports have grown, and judges them.
pub(super) async fn judge(run: &mut Run) -> Result<(), LabError> {
    let ports: BTreeSet<String> = run.world.datapath(0).await?.ports.into_iter().collect();
    let mut found = Err(String::new());
    let _judged_below = eventually("all metrics are exported", DONE, async || {
        let points = run.world.collector.as_ref().map(Collector::points).unwrap_or_default();
        found = check(&points, &ports);
        found.as_ref().map(drop).map_err(Clone::clone)
    })
    .await;
    let verdict = Verdict::new("the metrics of the proxy arrive by OTLP", found.is_ok());
    run.judge(match found {
        Ok(Counted { metrics, series, grown }) => {
            let verdict = verdict.figure("metrics", metrics).figure("series", series);
            verdict.figure("counters of ports that have grown", grown)
        }
        Err(why) => verdict.figure("because", why),
    });
    Ok(())
}

/// Numbers of the received metrics.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    metrics: usize,
    series: usize,
    grown: usize,
}

/// A series: the metric and its attributes.
type Series<'a> = (&'a str, &'a BTreeMap<String, String>);

/// Rules, in this order:
/// 1. All metrics of the documentation are exported by the proxy, and no others.
/// 2. Counters are monotonic, and everything but a gauge is cumulative.
/// 3. The counters of ports have Meridio's meter and attributes, and those of every port arrive.
/// 4. A series has one begin, and its value never shrinks.
/// 5. The value of a counter of a port grows.
fn check(points: &[Point], ports: &BTreeSet<String>) -> Result<Counted, String> {
    let ours: Vec<&Point> =
        points.iter().filter(|point| point.service == PROXY && point.instance == proxy(0)).collect();
    let names: BTreeSet<String> = ours.iter().map(|point| point.name.replace('.', "_")).collect();
    let listed: BTreeMap<String, bool> = listed().collect();
    let on_page: BTreeSet<String> = listed.keys().cloned().collect();
    let differ: Vec<_> = names.symmetric_difference(&on_page).collect();
    if !differ.is_empty() {
        return Err(format!("exported, or on the page of metrics, but not both: {differ:?}"));
    }
    for point in &ours {
        if !matches!(
            (point.kind, listed[&point.name.replace('.', "_")]),
            (Kind::Sum { monotonic: true, cumulative: true }, true)
                | (Kind::Gauge | Kind::Histogram { cumulative: true }, false)
        ) {
            return Err(format!("{} is of the kind {:?}", point.name, point.kind));
        }
    }
    of_ports(&ours, ports)?;
    let series = growth(&ours)?;
    let grown =
        series.iter().filter(|((name, _), (first, last))| name.starts_with(OF_PORTS) && last > first).count();
    if grown == 0 {
        return Err("no counter of a port has grown".into());
    }
    Ok(Counted { metrics: names.len(), series: series.len(), grown })
}

/// The counters of ports: meter, attributes, and those of every port.
fn of_ports(ours: &[&Point], ports: &BTreeSet<String>) -> Result<(), String> {
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for point in ours.iter().filter(|point| point.name.starts_with(OF_PORTS)) {
        let keys: Vec<&str> = point.attributes.keys().map(String::as_str).collect();
        if point.meter != METER || keys != OF_PORT {
            return Err(format!("{} of the meter {} has the attributes {keys:?}", point.name, point.meter));
        }
        let of = [&point.attributes["trench"], &point.attributes["conduit"]];
        if of != [TRENCH, CONDUIT] {
            return Err(format!("{} is of the conduit {of:?}", point.name));
        }
        seen.entry(&point.name).or_default().insert(point.attributes["interface_name"].clone());
    }
    let lacking = seen.iter().find(|(_, named)| !named.is_superset(ports));
    lacking.map_or(Ok(()), |(name, named)| Err(format!("{name} is of the ports {named:?}, not of {ports:?}")))
}

/// The first and the last value of each series that only grows.
fn growth<'a>(ours: &[&'a Point]) -> Result<BTreeMap<Series<'a>, (f64, f64)>, String> {
    let mut series: BTreeMap<Series<'_>, (&Point, &Point)> = BTreeMap::new();
    for point in ours.iter().filter(|point| point.kind != Kind::Gauge) {
        let (first, last) =
            series.entry((point.name.as_str(), &point.attributes)).or_insert((*point, *point));
        if point.start != first.start || point.value < last.value {
            return Err(format!("a series starts again or shrinks: {last:?}, then {point:?}"));
        }
        *last = *point;
    }
    Ok(series.into_iter().map(|(name, (first, last))| (name, (first.value, last.value))).collect())
}

/// Metrics of the documentation with `_` for dots and without suffixes, and whether they are
/// counters.
fn listed() -> impl Iterator<Item = (String, bool)> {
    PAGE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let name = cells.next()?.trim().trim_end_matches('`');
        let counter = cells.next()?.trim() == "counter";
        let name = name.strip_suffix("_total").unwrap_or(name);
        let of_unit = match cells.next()?.trim() {
            "s" => name.strip_suffix("_seconds"),
            "By" => name.strip_suffix("_bytes"),
            _ => None,
        };
        Some((of_unit.unwrap_or(name).to_owned(), counter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, kind: Kind, port: &str, value: f64) -> Point {
        let of_port = [
            ("conduit", CONDUIT),
            ("interface_name", port),
            ("ips", "[]"),
            ("mac_address", ""),
            ("trench", TRENCH),
        ];
        let of_port = of_port.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Point {
            service: PROXY.into(),
            instance: proxy(0),
            meter: METER.into(),
            name: name.into(),
            kind,
            attributes: if name.starts_with(OF_PORTS) { of_port } else { BTreeMap::new() },
            start: "1".into(),
            value,
        }
    }

    /// Two exports of all metrics.
    fn whole() -> Vec<Point> {
        let all = |value: f64| {
            listed().map(move |(name, counter)| {
                let kind =
                    if counter { Kind::Sum { monotonic: true, cumulative: true } } else { Kind::Gauge };
                let dots = name.replace("meridio_interface_", OF_PORTS);
                point(&dots, kind, "p", value)
            })
        };
        all(1.0).chain(all(2.0)).collect()
    }

    #[test]
    fn exported_metrics_are_judged_by_the_table() {
        let ports = BTreeSet::from(["p".to_owned()]);
        let counted = check(&whole(), &ports).unwrap();
        assert_eq!((counted.metrics, counted.grown), (listed().count(), 8));
        let changed = |change: fn(&mut Point)| {
            let mut points = whole();
            let at = points.iter().rposition(|point| point.name.starts_with(OF_PORTS)).unwrap();
            change(&mut points[at]);
            points
        };
        let without = whole().into_iter().filter(|point| point.name != "meridio.interface.tx_errors");
        let of_another = whole().into_iter().map(|point| Point { service: "other".into(), ..point });
        let still = whole().into_iter().map(|point| Point { value: 1.0, ..point });
        let table = [
            (without.collect(), "but not both"),
            (of_another.collect(), "but not both"),
            (still.collect(), "has grown"),
            (changed(|point| point.kind = Kind::Sum { monotonic: true, cumulative: false }), "of the kind"),
            (changed(|point| point.kind = Kind::Sum { monotonic: false, cumulative: true }), "of the kind"),
            (changed(|point| point.meter.clear()), "of the meter"),
            (changed(|point| drop(point.attributes.remove("ips"))), "has the attributes"),
            (
                changed(|point| drop(point.attributes.insert("trench".into(), "b".into()))),
                "is of the conduit",
            ),
            (changed(|point| point.value = 0.0), "shrinks"),
            (changed(|point| point.start.clear()), "starts again"),
        ];
        for (points, why) in table {
            let found: Result<Counted, String> = check(&points, &ports);
            assert!(found.as_ref().is_err_and(|error| error.contains(why)), "{why}: {found:?}");
        }
        let other = check(&whole(), &BTreeSet::from(["q".to_owned()]));
        assert!(other.as_ref().is_err_and(|error| error.contains("not of")), "{other:?}");
    }
}
