// SPDX-License-Identifier: Apache-2.0

//! The order that a row declares, and the errors of a chain that does not keep it.

use crate::chain::{Error, Reason, begin::BeginLayer, metadata::MetadataLayer};

/// Rows that must stand before or after a row, by their names.
///
/// ```
/// use nsm::chain::Order;
///
/// const ORDER: Order = Order::STATE.after(&["mechanism"]).before(&["bridge"]);
/// assert_eq!(ORDER.needs, ["begin", "metadata"]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Order {
    /// Rows without which this one does not work. They come before this one.
    pub needs: &'static [&'static str],
    /// Rows that come before this one, if they are in the chain.
    pub after: &'static [&'static str],
    /// Rows that come after this one, if they are in the chain.
    pub before: &'static [&'static str],
}

impl Order {
    /// No constraint.
    pub const ANY: Order = Order { needs: &[], after: &[], before: &[] };

    /// The order of an element that keeps values in the scope of a connection or causes events:
    /// without `begin` and `metadata` there is nowhere to keep them.
    pub const STATE: Order = Order::ANY.needs(&[BeginLayer::NAME, MetadataLayer::NAME]);

    /// Sets the rows that must be in the chain, before this one.
    #[must_use]
    pub const fn needs(self, needs: &'static [&'static str]) -> Self {
        Order { needs, ..self }
    }

    /// Sets the rows that come before this one, if they are in the chain.
    #[must_use]
    pub const fn after(self, after: &'static [&'static str]) -> Self {
        Order { after, ..self }
    }

    /// Sets the rows that come after this one, if they are in the chain.
    #[must_use]
    pub const fn before(self, before: &'static [&'static str]) -> Self {
        Order { before, ..self }
    }

    /// Checks the order of each of the rows, which are in request order.
    pub(super) fn check(rows: &[(&'static str, Order)]) -> Result<(), InvalidChain> {
        for (at, (row, order)) in rows.iter().enumerate() {
            let is = |names: &'static [&'static str]| move |(name, _): &&(_, _)| names.contains(name);
            if rows[..at].iter().any(|(name, _)| name == row) {
                return Err(InvalidChain::Twice { row });
            }
            for needs in order.needs {
                if !rows.iter().any(|(name, _)| name == needs) {
                    return Err(InvalidChain::Missing { row, needs, rows: list(rows) });
                }
            }
            let late = rows[at + 1..].iter();
            if let Some((first, _)) =
                late.clone().find(is(order.needs)).or(late.clone().find(is(order.after)))
            {
                return Err(InvalidChain::Order { first, second: row, by: row });
            }
            if let Some((second, _)) = rows[..at].iter().find(is(order.before)) {
                return Err(InvalidChain::Order { first: row, second, by: row });
            }
        }
        Ok(())
    }
}

/// The names of rows, as a chain prints them.
pub(super) fn list(rows: &[(&'static str, Order)]) -> String {
    rows.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" → ")
}

/// A chain that cannot be built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidChain {
    /// Two rows are in the wrong order.
    #[error("`{first}` must stand before `{second}` (declared by `{by}`)")]
    Order {
        /// The row that must come first.
        first: &'static str,
        /// The row that must come second.
        second: &'static str,
        /// The row that declares the constraint.
        by: &'static str,
    },
    /// A row needs one that is not in the chain.
    #[error("`{row}` needs a row `{needs}` before it; the chain is: {rows}")]
    Missing {
        /// The row.
        row: &'static str,
        /// The missing row.
        needs: &'static str,
        /// The rows of the chain.
        rows: String,
    },
    /// Two rows have the same name; rows of one element would share the state of a connection.
    #[error("two rows are named `{row}`; rows of one element would share its state")]
    Twice {
        /// Their name.
        row: &'static str,
    },
    /// A row to be removed, replaced or preceded is not in the chain.
    #[error("there is no row `{row}`; the chain is: {rows}")]
    Unknown {
        /// The name.
        row: String,
        /// The rows of the chain.
        rows: String,
    },
}

impl From<InvalidChain> for Error {
    fn from(invalid: InvalidChain) -> Self {
        Reason::Refused(invalid.to_string()).into()
    }
}
