// SPDX-License-Identifier: Apache-2.0

//! The figures of two programs, side by side.

use std::{fmt, time::Duration};

/// Width of the column of names.
const WIDTH: usize = 52;

/// The figures of one program, in order.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<(String, f64)>);

impl Figures {
    /// The median of each figure; all sets have the same order.
    pub(crate) fn median(all: &[Self]) -> Self {
        let median = |(at, (name, _)): (usize, &(String, f64))| {
            let mut values: Vec<f64> = all.iter().map(|figures| figures.0[at].1).collect();
            values.sort_unstable_by(f64::total_cmp);
            (name.clone(), values[values.len() / 2])
        };
        Self(all.iter().take(1).flat_map(|first| first.0.iter().enumerate().map(median)).collect())
    }

    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64) {
        self.0.push((name.into(), value));
    }

    /// Adds the median and the 99th percentile of some times, in milliseconds.
    pub(crate) fn add_times(&mut self, name: &str, mut times: Vec<Duration>) {
        times.sort_unstable();
        for percent in [50, 99] {
            let nearest = (times.len() * percent).div_ceil(100).saturating_sub(1);
            let time = times.get(nearest).copied().unwrap_or_default();
            self.add(format!("{name}: p{percent} ms"), milliseconds(time));
        }
    }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The figures of the proxy and of the twin. `Display` prints them with their ratio.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) ours: Figures,
    pub(crate) twin: Figures,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<WIDTH$}  {:>10}  {:>10}  proxy / Go twin", "", "proxy", "Go twin")?;
        for ((name, ours), (_, twin)) in self.ours.0.iter().zip(&self.twin.0) {
            writeln!(f, "{name:<WIDTH$}  {ours:>10.2}  {twin:>10.2}  {:.2}", ours / twin)?;
        }
        Ok(())
    }
}
