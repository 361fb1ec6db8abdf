// SPDX-License-Identifier: Apache-2.0

//! Builds a chain from elements and tower layers, checking their order.
//!
//! Rows are listed in request order; a row is an element or any tower layer. Readiness is not
//! propagated across rows, so `load_shed` and the limit it guards must be one row
//! (`ServiceBuilder::new().load_shed().concurrency_limit(1)`).

use std::{fmt, sync::Arc};

use tower_layer::Layer;

use crate::chain::{
    Next, Tail,
    element::CallService,
    observe::{Observer, observed},
    order::{InvalidChain, Order, list},
    row::{End, Named, Row},
};

struct Listed {
    name: &'static str,
    order: Order,
    wrap: Box<dyn FnOnce(Next) -> Next + Send>,
}

impl Listed {
    fn of<R: Row>(row: R) -> Self {
        let name = row.name();
        let order = row.order();
        Self { name, order, wrap: Box::new(move |next| Next::of(name, row.service(next))) }
    }
}

/// Builder of a chain. `Display` prints its rows and its end.
///
/// ```
/// use nsm::{chain::{Chain, begin::BeginLayer, metadata::MetadataLayer}, elements::{mtu::Mtu, refresh::Refresh}, task::Tasks};
///
/// let begin = || Chain::new().with(BeginLayer::client(Tasks::default()));
/// let chain = begin().with(MetadataLayer).slot().with(Mtu(1500));
/// let chain = chain.append(Refresh); // into the slot
/// assert_eq!(chain.to_string(), "begin → metadata → refresh → mtu");
/// assert!(chain.build().is_ok());
///
/// let error = begin().with(Refresh).build().err().unwrap();
/// assert_eq!(error.to_string(), "`refresh` needs a row `metadata` before it; the chain is: begin → refresh");
/// ```
#[derive(Default)]
pub struct Chain {
    rows: Vec<Listed>,
    slot: Option<usize>,
    end: Option<(&'static str, Next)>,
    observer: Option<Arc<dyn Observer>>,
    unknown: Option<InvalidChain>,
}

impl Chain {
    /// An empty chain.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row below the others.
    #[must_use]
    pub fn with<R: Row>(mut self, row: R) -> Self {
        self.rows.push(Listed::of(row));
        self
    }

    /// Adds a tower layer under the given name below the other rows.
    #[must_use]
    pub fn layer<L>(self, name: &'static str, layer: L) -> Self
    where
        L: Layer<Next, Service: CallService> + Send + 'static,
    {
        self.with(Named(name, layer))
    }

    /// Marks the place of rows that are [appended](Self::append) later. Without a mark they stand
    /// below all others.
    #[must_use]
    pub fn slot(mut self) -> Self {
        self.slot = Some(self.rows.len());
        self
    }

    /// Adds a row to the [slot](Self::slot), below those that were appended before.
    #[must_use]
    pub fn append<R: Row>(mut self, row: R) -> Self {
        let slot = self.slot.unwrap_or(self.rows.len());
        self.insert(slot, row);
        self
    }

    /// Adds a row directly before the one with a name. [`build`](Self::build) fails if there is
    /// none.
    #[must_use]
    pub fn before<R: Row>(mut self, name: &str, row: R) -> Self {
        if let Some(at) = self.position(name) {
            self.insert(at, row);
        }
        self
    }

    /// Puts a row in the place of the one with a name. [`build`](Self::build) fails if there is
    /// none.
    #[must_use]
    pub fn replace<R: Row>(mut self, name: &str, row: R) -> Self {
        if let Some(at) = self.position(name) {
            self.rows[at] = Listed::of(row);
        }
        self
    }

    /// Removes the row with a name. [`build`](Self::build) fails if there is none.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        if let Some(at) = self.position(name) {
            self.rows.remove(at);
            self.slot = self.slot.map(|slot| if at < slot { slot - 1 } else { slot });
        }
        self
    }

    /// Sets the innermost service, in place of a former one. Without it a chain ends with [`Tail`].
    #[must_use]
    pub fn end<E: End>(mut self, end: E) -> Self {
        let name = end.name();
        self.end = Some((name, Next::of(name, end)));
        self
    }

    /// Reports the calls of every row, and of the end, to an observer.
    #[must_use]
    pub fn observe(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Names of the rows in request order, and that of the end if one was set.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        let end = self.end.iter().map(|(name, _)| *name);
        self.rows.iter().map(|row| row.name).chain(end)
    }

    /// Builds the chain.
    ///
    /// # Errors
    /// The first row that is unknown, missing, there twice or in a wrong place.
    pub fn build(self) -> Result<Next, InvalidChain> {
        self.unknown.map_or(Ok(()), Err)?;
        Order::check(&orders(&self.rows))?;
        let (name, end) = self.end.unwrap_or_else(|| (Tail::NAME, Next::of(Tail::NAME, Tail)));
        let observer = self.observer;
        let report = |name, next| match &observer {
            Some(observer) => observed(name, Arc::clone(observer), next),
            None => next,
        };
        let end = report(name, end);
        Ok(self.rows.into_iter().rev().fold(end, |next, row| report(row.name, (row.wrap)(next))))
    }

    fn insert<R: Row>(&mut self, at: usize, row: R) {
        self.rows.insert(at, Listed::of(row));
        self.slot = self.slot.map(|slot| if at <= slot { slot + 1 } else { slot });
    }

    fn position(&mut self, name: &str) -> Option<usize> {
        let at = self.rows.iter().position(|row| row.name == name);
        if at.is_none() && self.unknown.is_none() {
            let rows = list(&orders(&self.rows));
            self.unknown = Some(InvalidChain::Unknown { row: name.to_owned(), rows });
        }
        at
    }
}

fn orders(rows: &[Listed]) -> Vec<(&'static str, Order)> {
    rows.iter().map(|row| (row.name, row.order)).collect()
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().collect();
        f.write_str(&names.join(" → "))
    }
}
