//! Connections in a namespace of our own.

use std::net::UdpSocket;

use proptest::prelude::*;

use super::*;
use crate::testing::{add_local_v6, in_netns, run};

#[test]
fn forgets_the_connections_of_an_address_and_no_others() {
    in_netns(|| {
        run("ip", &["link", "set", "lo", "up"]);
        add_local_v6("fd00::1");
        // Connections are tracked only where a rule asks for their state.
        run(
            "nft",
            &[
                "add table inet t; add chain inet t o { type filter hook output priority 0; }; add rule inet t o ct state new counter",
            ],
        );
        let connect = |from: &str, to: &str| UdpSocket::bind(from).unwrap().send_to(b"x", to).unwrap();
        let receivers =
            ["127.0.0.1:7001", "127.0.0.2:7001", "[fd00::1]:7001"].map(|a| UdpSocket::bind(a).unwrap());
        connect("127.0.0.3:6000", "127.0.0.1:7001");
        connect("127.0.0.1:6000", "127.0.0.2:7001");
        connect("127.0.0.3:6001", "127.0.0.2:7001");
        connect("[fd00::1]:6000", "[fd00::1]:7001");
        let list = |family: &str| {
            run("conntrack", &["-L", "-f", family]).lines().filter(|l| l.contains("udp")).count()
        };
        assert_eq!((list("ipv4"), list("ipv6")), (3, 1));
        assert_eq!(delete_by_address(&["127.0.0.1".parse().unwrap()]).unwrap(), 2);
        assert_eq!((list("ipv4"), list("ipv6")), (1, 1));
        assert_eq!(count(&mut Socket::open(Protocol::Netfilter).unwrap()).unwrap(), Some(2));
        assert_eq!(delete_by_address(&["fd00::1".parse().unwrap()]).unwrap(), 1);
        assert_eq!(delete_by_address(&["fd00::1".parse().unwrap()]).unwrap(), 0);
        connect("[fd00::1]:6000", "[fd00::1]:7001");
        let both = ["127.0.0.2", "fd00::1"].map(|a| a.parse().unwrap());
        assert_eq!(delete_by_address(&both).unwrap(), 2);
        assert_eq!(count(&mut Socket::open(Protocol::Netfilter).unwrap()).unwrap(), Some(0));
        drop(receivers);
    });
}

proptest! {
    #[test]
    fn the_decoder_survives_anything(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, &HashSet::from(["0.0.0.0".parse().unwrap()]));
    }
}
