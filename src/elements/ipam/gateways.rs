// SPDX-License-Identifier: Apache-2.0

//! Chooses the gateway of a link: the address of the bridge whose subnet contains the link.

use ipnet::IpNet;

use crate::api::Dual;

/// Maximum number of former addresses, of both families.
const FORMER: usize = 8;

/// The addresses of the bridge, with the prefix length of the node: the present ones, and former
/// ones, which it keeps for links that have not moved yet.
///
/// ```
/// # use nsm::{api::Dual, elements::ipam::Gateways};
/// let v4 = |text: &str| Dual { v4: text.parse().ok(), v6: None };
/// let mut gateways = Gateways::from(v4("172.16.1.1/24"));
/// gateways.move_to(v4("172.16.9.1/24"));
/// assert_eq!(gateways.of(&v4("172.16.9.6/24")), v4("172.16.9.1/24"));
/// assert_eq!(gateways.of(&v4("172.16.1.6/24")), v4("172.16.1.1/24"), "not moved yet");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateways {
    now: Dual<IpNet>,
    former: Vec<IpNet>,
}

impl From<Dual<IpNet>> for Gateways {
    fn from(now: Dual<IpNet>) -> Self {
        Self { now, former: Vec::new() }
    }
}

impl Gateways {
    /// The addresses now.
    pub fn now(&self) -> Dual<IpNet> {
        self.now
    }

    /// Former addresses, the latest first.
    pub fn former(&self) -> &[IpNet] {
        &self.former
    }

    /// Sets other addresses; the present ones become former ones.
    pub fn move_to(&mut self, now: Dual<IpNet>) {
        let before = std::mem::replace(&mut self.now, now);
        self.former.splice(0..0, before.iter().map(|(_, net)| *net));
        self.former.retain(|net| now.iter().all(|(_, now)| now != net));
        self.former.truncate(FORMER);
    }

    /// The gateways of a link with these addresses.
    pub fn of(&self, link: &Dual<IpNet>) -> Dual<IpNet> {
        self.now.map(|family, now| {
            let Some(address) = link.get(family).map(IpNet::addr) else { return now };
            let mut all = std::iter::once(&now).chain(&self.former);
            all.find(|net| net.contains(&address)).copied().unwrap_or(now)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dual(v4: &str, v6: &str) -> Dual<IpNet> {
        Dual { v4: v4.parse().ok(), v6: v6.parse().ok() }
    }

    #[test]
    fn a_link_gets_the_gateway_of_its_own_subnet() {
        let mut gateways = Gateways::from(dual("172.16.1.1/24", "fd00::1/64"));
        gateways.move_to(dual("172.16.2.1/24", "fd00::1/64"));
        gateways.move_to(dual("172.16.3.1/24", "fd00:0:0:1::1/64"));
        let table = [
            (dual("172.16.3.9/24", "fd00:0:0:1::9/64"), dual("172.16.3.1/24", "fd00:0:0:1::1/64")),
            (dual("172.16.2.9/24", "fd00::9/64"), dual("172.16.2.1/24", "fd00::1/64")),
            (dual("172.16.1.9/24", "fd00:0:0:1::9/64"), dual("172.16.1.1/24", "fd00:0:0:1::1/64")),
            (dual("10.0.0.9/24", ""), dual("172.16.3.1/24", "fd00:0:0:1::1/64")),
        ];
        for (link, expected) in table {
            assert_eq!(gateways.of(&link), expected, "{link:?}");
        }
    }

    #[test]
    fn addresses_that_return_are_not_former_and_few_are_kept() {
        let one = dual("172.16.1.1/24", "");
        let two = dual("172.16.2.1/24", "");
        let mut gateways = Gateways::from(one);
        gateways.move_to(two);
        gateways.move_to(one);
        assert_eq!((gateways.now(), gateways.former()), (one, &[two.v4.unwrap()][..]));
        for n in 0..100 {
            gateways.move_to(dual(&format!("172.17.{n}.1/24"), ""));
        }
        assert_eq!(gateways.former().len(), FORMER);
    }
}
