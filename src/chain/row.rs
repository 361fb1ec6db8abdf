// SPDX-License-Identifier: Apache-2.0

//! The rows of a chain and its end: a service with a name.

use tower::util::ServiceFn;
use tower_layer::Layer;

use crate::chain::{
    Next, Order,
    element::{CallService, Element},
};

/// A row of a chain: an element, or a layer with a name and an order.
///
/// Every [`Element`] is a row. A layer of your own carries its name and its order if it is one:
///
/// ```
/// use nsm::chain::{CallService, Chain, Next, Order, Row};
/// use tower::{Layer, limit::{ConcurrencyLimit, ConcurrencyLimitLayer}};
///
/// /// Limits the calls in flight.
/// struct AtMost(usize);
///
/// impl Row for AtMost {
///     fn name(&self) -> &'static str { "at_most" }
///     fn order(&self) -> Order { Order::ANY.before(&["begin"]) }
///     fn service(self, next: Next) -> impl CallService {
///         ConcurrencyLimitLayer::new(self.0).layer(next)
///     }
/// }
///
/// assert_eq!(Chain::new().with(AtMost(100)).to_string(), "at_most");
/// ```
pub trait Row: Sized + Send + 'static {
    /// Name of the row in the printed chain, in spans, in errors and in the order of other rows.
    fn name(&self) -> &'static str;

    /// Rows that must come before or after this one.
    fn order(&self) -> Order {
        Order::ANY
    }

    /// The service of the row, above the rest of the chain.
    fn service(self, next: Next) -> impl CallService;
}

impl<E: Element> Row for E {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn order(&self) -> Order {
        E::ORDER
    }

    fn service(self, next: Next) -> impl CallService {
        self.layer().layer(next)
    }
}

/// A tower layer with a name, without an order: a row for [`Chain::replace`] and [`Chain::before`].
///
/// [`Chain::replace`]: crate::chain::Chain::replace
/// [`Chain::before`]: crate::chain::Chain::before
///
/// ```
/// use nsm::{chain::{Chain, Named}, elements::mtu::Mtu};
/// use tower::limit::ConcurrencyLimitLayer;
///
/// let limit = Named("limit", ConcurrencyLimitLayer::new(100));
/// let chain = Chain::new().with(Mtu(1500)).before("mtu", limit);
/// assert_eq!(chain.to_string(), "limit → mtu");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Named<L>(pub &'static str, pub L);

impl<L> Row for Named<L>
where
    L: Layer<Next, Service: CallService> + Send + 'static,
{
    fn name(&self) -> &'static str {
        self.0
    }

    fn service(self, next: Next) -> impl CallService {
        self.1.layer(next)
    }
}

/// The innermost service of a chain, with its name in the printed chain, in spans and in errors.
///
/// [`Tail`](crate::chain::Tail) answers itself, [`Connect`](crate::elements::connect::Connect)
/// calls the next hop, and a chain that is built can be the end of another.
pub trait End: CallService {
    /// Name of the end.
    fn name(&self) -> &'static str {
        "end"
    }
}

impl End for Next {
    fn name(&self) -> &'static str {
        "chain"
    }
}

impl<F> End for ServiceFn<F> where Self: CallService {}
