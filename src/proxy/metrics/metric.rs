// SPDX-License-Identifier: Apache-2.0
//! The declaration of one metric, from which its instrument is built.

use std::sync::Arc;

use opentelemetry::{
    KeyValue, StringValue,
    metrics::{AsyncInstrument, Counter, Histogram, Meter},
};

/// Maximum length of a label's value, in bytes.
pub(super) const MAX_VALUE: usize = 256;

/// A metric of the proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    /// Name by OpenTelemetry's rules.
    pub(crate) name: &'static str,
    /// The kind of its values.
    pub(crate) kind: Kind,
    /// Unit in UCUM's notation. Meridio's own units are words.
    pub(crate) unit: &'static str,
    /// Keys of its labels.
    pub(crate) labels: &'static [&'static str],
    /// Maximum number of its series. Values of further ones are added up in a series of their own.
    pub(crate) series: usize,
    /// Its meaning, in one line.
    pub(crate) meaning: &'static str,
}

/// The kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// It only grows.
    Counter,
    /// The present value.
    Gauge,
    /// The distribution of values over buckets with these upper bounds.
    Histogram(&'static [f64]),
}

impl Metric {
    pub(super) const fn counter(name: &'static str, unit: &'static str, meaning: &'static str) -> Self {
        Self { name, kind: Kind::Counter, unit, labels: &[], series: 1, meaning }
    }

    pub(super) const fn gauge(name: &'static str, unit: &'static str, meaning: &'static str) -> Self {
        Self { kind: Kind::Gauge, ..Self::counter(name, unit, meaning) }
    }

    pub(super) const fn histogram(name: &'static str, bounds: &'static [f64], meaning: &'static str) -> Self {
        Self { kind: Kind::Histogram(bounds), ..Self::counter(name, "s", meaning) }
    }

    pub(super) const fn by(self, labels: &'static [&'static str], series: usize) -> Self {
        Self { labels, series, ..self }
    }

    /// Observes whole numbers whenever the metrics are read.
    pub(super) fn observe(&self, meter: &Meter, read: impl Fn(&Observer<'_>) + Send + Sync + 'static) {
        let Self { name, unit, meaning, labels, .. } = *self;
        let read = move |instrument: &dyn AsyncInstrument<u64>| read(&Observer { labels, instrument });
        if self.kind == Kind::Counter {
            let builder = meter.u64_observable_counter(name).with_unit(unit);
            let _registered = builder.with_description(meaning).with_callback(read).build();
        } else {
            let builder = meter.u64_observable_gauge(name).with_unit(unit);
            let _registered = builder.with_description(meaning).with_callback(read).build();
        }
    }

    /// The instrument of a metric that is counted.
    pub(super) fn count(&self, meter: &Meter) -> Counter<u64> {
        meter.u64_counter(self.name).with_unit(self.unit).with_description(self.meaning).build()
    }

    /// The instrument of a metric whose values are recorded.
    pub(super) fn record(&self, meter: &Meter) -> Histogram<f64> {
        let builder = meter.f64_histogram(self.name).with_unit(self.unit).with_description(self.meaning);
        match self.kind {
            Kind::Histogram(bounds) => builder.with_boundaries(bounds.to_vec()).build(),
            Kind::Counter | Kind::Gauge => builder.build(),
        }
    }

    /// Observes a number of seconds whenever the metrics are read; nothing while there is none.
    pub(super) fn observe_seconds(
        &self,
        meter: &Meter,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        let Self { name, unit, meaning, .. } = *self;
        let read = move |observer: &dyn AsyncInstrument<f64>| {
            if let Some(seconds) = read() {
                observer.observe(seconds, &[]);
            }
        };
        if self.kind == Kind::Counter {
            let builder = meter.f64_observable_counter(name).with_unit(unit);
            let _registered = builder.with_description(meaning).with_callback(read).build();
        } else {
            let builder = meter.f64_observable_gauge(name).with_unit(unit);
            let _registered = builder.with_description(meaning).with_callback(read).build();
        }
    }
}

/// Takes the values of a metric.
pub(super) struct Observer<'a> {
    labels: &'static [&'static str],
    instrument: &'a dyn AsyncInstrument<u64>,
}

impl Observer<'_> {
    /// The value of a metric without labels.
    pub(super) fn value(&self, value: u64) {
        self.instrument.observe(value, &[]);
    }

    /// The value of the series with these values of the labels.
    pub(super) fn with<const N: usize>(&self, values: [&'static str; N], value: u64) {
        let labels = self.labels.iter().zip(values).map(|(key, value)| KeyValue::new(*key, value));
        self.labelled(&labels.collect::<Vec<_>>(), value);
    }

    /// The value of the series with these labels.
    pub(super) fn labelled(&self, labels: &[KeyValue], value: u64) {
        self.instrument.observe(value, labels);
    }
}

/// A label whose value comes from elsewhere: cut to [`MAX_VALUE`].
pub(super) fn bounded(key: &'static str, value: &str) -> KeyValue {
    KeyValue::new(key, shared(cut(value)))
}

/// A label with a list of values, written as an array of OpenTelemetry is. One text is made for all
/// series, which is cheaper than an array in each.
pub(super) fn list(key: &'static str, values: impl Iterator<Item = String>) -> KeyValue {
    let quoted: Vec<String> = values.map(|value| format!("\"{}\"", cut(&value))).collect();
    KeyValue::new(key, shared(&format!("[{}]", quoted.join(","))))
}

/// A value whose copies share the text.
fn shared(value: &str) -> StringValue {
    Arc::<str>::from(value).into()
}

fn cut(value: &str) -> &str {
    let end = (0..=MAX_VALUE.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
    &value[..end.unwrap_or(0)]
}
