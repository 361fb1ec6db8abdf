// SPDX-License-Identifier: Apache-2.0

//! Builds a chain from elements and tower layers, checking their order.
//!
//! Rows are listed in request order; a row is an element or any tower layer. Readiness is not
//! propagated across rows, so `load_shed` and the limit it guards must be one row
//! (`ServiceBuilder::new().load_shed().concurrency_limit(1)`).

use std::fmt;

use tower_layer::Layer;

use crate::chain::{
    Error, Reason,
    element::{CallService, Element, Next},
};

/// Order constraints of a row. Names that are not in the chain are ignored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Order {
    /// Rows that must come before this one.
    pub after: &'static [&'static str],
    /// Rows that must come after this one.
    pub before: &'static [&'static str],
}

impl Order {
    /// No constraint.
    pub const ANY: Order = Order { after: &[], before: &[] };
}

/// Two rows are in the wrong order.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{first}` must stand before `{second}`, because `{says}` says so")]
pub struct WrongOrder {
    /// The row that must come first.
    pub first: &'static str,
    /// The row that must come second.
    pub second: &'static str,
    /// The row that declares the constraint.
    pub says: &'static str,
}

impl From<WrongOrder> for Error {
    fn from(wrong: WrongOrder) -> Self {
        Reason::Refused(wrong.to_string()).into()
    }
}

struct Row {
    name: &'static str,
    order: Order,
    wrap: Box<dyn FnOnce(Next) -> Next + Send>,
}

/// Builder of a chain. `Display` prints its rows.
#[derive(Default)]
pub struct Chain(Vec<Row>);

impl Chain {
    /// An empty chain.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an element.
    pub fn with<E: Element>(self, element: E) -> Self {
        self.push(E::NAME, E::ORDER, move |next| element.layer().layer(next))
    }

    /// Appends a tower layer under the given name.
    pub fn layer<L>(self, name: &'static str, layer: L) -> Self
    where
        L: Layer<Next, Service: CallService> + Send + 'static,
    {
        self.push(name, Order::ANY, move |next| Next::of(name, layer.layer(next)))
    }

    fn push<F>(mut self, name: &'static str, order: Order, wrap: F) -> Self
    where
        F: FnOnce(Next) -> Next + Send + 'static,
    {
        let wrap = Box::new(wrap);
        self.0.push(Row { name, order, wrap });
        self
    }

    /// Removes the rows with a name, so that a test can show which promise fails without them.
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|row| row.name != name);
        self
    }

    /// Names of the rows in request order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|row| row.name)
    }

    /// Finishes the chain with the innermost service.
    ///
    /// # Errors
    /// [`WrongOrder`] for the first constraint that is violated.
    pub fn build<S: CallService>(self, end: S) -> Result<Next, WrongOrder> {
        self.check()?;
        let rows = self.0.into_iter().rev();
        Ok(rows.fold(Next::of("end", end), |next, row| (row.wrap)(next)))
    }

    fn check(&self) -> Result<(), WrongOrder> {
        for (at, row) in self.0.iter().enumerate() {
            let above = &self.0[..at];
            let below = &self.0[at + 1..];
            let says = row.name;
            if let Some(late) = below.iter().find(|r| row.order.after.contains(&r.name)) {
                let first = late.name;
                let second = says;
                return Err(WrongOrder { first, second, says });
            }
            if let Some(early) = above.iter().find(|r| row.order.before.contains(&r.name)) {
                let first = says;
                let second = early.name;
                return Err(WrongOrder { first, second, says });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().collect();
        f.write_str(&names.join(" → "))
    }
}
