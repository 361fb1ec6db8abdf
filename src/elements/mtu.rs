// SPDX-License-Identifier: Apache-2.0

//! Sets the MTU of the link (Meridio `mtu`).
//!
//! Both chains set the same value on every Request: a bridge takes the smallest MTU of its ports,
//! and with unequal ones "packet too big" answers cannot be routed. The forwarder applies it to
//! both interfaces. A caller that sends 0, as targets do in their updates, receives the value
//! again.

use crate::{
    api::Connection,
    chain::{Element, Next, Request, Result},
};

/// Element that sets the MTU, in bytes.
///
/// ```
/// use nsm::{api::Connection, chain::{Chain, Request}, elements::mtu::Mtu};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let chain = Chain::new().with(Mtu(1500)).build()?;
/// let answer = chain.request(Request::new(Connection::named("a"))).await?;
/// assert_eq!(answer.context.map(|context| context.mtu), Some(1500));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Mtu(pub u32);

impl Element for Mtu {
    const NAME: &'static str = "mtu";

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        request.connection.context_mut().mtu = self.0;
        next.request(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Call, Chain, Error, laws};

    #[tokio::test]
    async fn b24_every_request_carries_the_mtu() {
        let end = tower::service_fn(|call: Call| async { Ok::<_, Error>(call.into_connection()) });
        let chain = Chain::new().with(Mtu(1500)).end(end).build().unwrap();
        for asked in [0, 9000] {
            let mut connection = Connection::named("a");
            connection.context_mut().mtu = asked;
            let answer = chain.request(Request::new(connection)).await.unwrap();
            assert_eq!(answer.context.unwrap().mtu, 1500, "asked for {asked}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        laws::check(|| Mtu(1500)).await.unwrap();
    }
}
