// SPDX-License-Identifier: Apache-2.0

//! Builds the frames that announce an address: a gratuitous ARP request (RFC 5227 §3), or an
//! unsolicited neighbor advertisement with the override flag (RFC 4861 §7.2.6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
        Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
    },
};

use crate::kernel::Mac;

/// Link-layer group of [`ALL_NODES`].
const ALL_NODES_GROUP: EthernetAddress = EthernetAddress([0x33, 0x33, 0, 0, 0, 1]);
/// Every node of a link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Receivers drop neighbor discovery messages that a router may have forwarded.
const HOP_LIMIT: u8 = 255;

/// The frame with which an address announces its link-layer address.
pub(super) fn announcement(address: IpAddr, mac: Mac) -> Vec<u8> {
    let mac = EthernetAddress(mac.0);
    match address {
        IpAddr::V4(address) => gratuitous_arp(address, mac),
        IpAddr::V6(address) => unsolicited_advertisement(address, mac),
    }
}

fn gratuitous_arp(address: Ipv4Addr, mac: EthernetAddress) -> Vec<u8> {
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: mac,
        source_protocol_addr: address,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: address,
    };
    let (mut frame, header) = frame(EthernetProtocol::Arp, mac, EthernetAddress::BROADCAST, arp.buffer_len());
    arp.emit(&mut ArpPacket::new_unchecked(&mut frame[header..]));
    frame
}

fn unsolicited_advertisement(address: Ipv6Addr, mac: EthernetAddress) -> Vec<u8> {
    let advertisement = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr: address,
        lladdr: Some(mac.into()),
    });
    let ip = Ipv6Repr {
        src_addr: address,
        dst_addr: ALL_NODES,
        next_header: IpProtocol::Icmpv6,
        payload_len: advertisement.buffer_len(),
        hop_limit: HOP_LIMIT,
    };
    let length = ip.buffer_len() + ip.payload_len;
    let (mut frame, header) = frame(EthernetProtocol::Ipv6, mac, ALL_NODES_GROUP, length);
    ip.emit(&mut Ipv6Packet::new_unchecked(&mut frame[header..]));
    let mut payload = Icmpv6Packet::new_unchecked(&mut frame[header + ip.buffer_len()..]);
    advertisement.emit(&address, &ALL_NODES, &mut payload, &ChecksumCapabilities::default());
    frame
}

/// A frame with room for its payload, and the offset of the payload.
fn frame(
    ethertype: EthernetProtocol,
    src_addr: EthernetAddress,
    dst_addr: EthernetAddress,
    payload: usize,
) -> (Vec<u8>, usize) {
    let ethernet = EthernetRepr { src_addr, dst_addr, ethertype };
    let mut bytes = vec![0; ethernet.buffer_len() + payload];
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut bytes));
    (bytes, ethernet.buffer_len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

    #[test]
    fn an_ipv4_address_is_announced_by_a_gratuitous_request() {
        let frame = announcement("172.16.1.9".parse().unwrap(), MAC);
        let expected = [
            &[0xff; 6][..],                     // to every station
            &[2, 0, 0, 0, 0, 9, 0x08, 0x06],    // from its MAC, ARP
            &[0, 1, 0x08, 0, 6, 4, 0, 1],       // Ethernet, IPv4, request
            &[2, 0, 0, 0, 0, 9, 172, 16, 1, 9], // sender
            &[0, 0, 0, 0, 0, 0, 172, 16, 1, 9], // target
        ];
        assert_eq!(frame, expected.concat());
    }

    #[test]
    fn an_ipv6_address_is_announced_by_an_advertisement() {
        let address: Ipv6Addr = "fd00::9".parse().unwrap();
        let frame = announcement(address.into(), MAC);
        let (ethernet, rest) = frame.split_at(14);
        assert_eq!(ethernet, [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x86, 0xdd]);
        let (ip, icmp) = rest.split_at(40);
        assert_eq!(ip[..8], [0x60, 0, 0, 0, 0, 32, 58, 255]);
        assert_eq!((&ip[8..24], &ip[24..]), (&address.octets()[..], &ALL_NODES.octets()[..]));
        assert_eq!((icmp[0], icmp[1], icmp[4]), (136, 0, 0x20), "an advertisement that overrides");
        assert_eq!(icmp[8..24], address.octets());
        assert_eq!(icmp[24..], [2, 1, 2, 0, 0, 0, 0, 9], "the link-layer address of its target");
        assert_eq!(checksum(ip, icmp), 0xffff);
    }

    /// Sum of an ICMPv6 message with its pseudo header; it is all ones if the checksum is right.
    fn checksum(ip: &[u8], icmp: &[u8]) -> u16 {
        let length = u32::try_from(icmp.len()).unwrap().to_be_bytes();
        let pseudo = [&ip[8..40], &length, &[0, 0, 0, 58]].concat();
        let words =
            pseudo.chunks(2).chain(icmp.chunks(2)).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let sum: u32 = words.sum();
        u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
    }
}
