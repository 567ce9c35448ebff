//! The real kernel keeps the contract that the fake one keeps.

use calico_dataplane::contract::CLAUSES;

use super::*;
use crate::netns::Netns;
use crate::rtnl::link::{LinkChange, VethEnd, VethPair};
use crate::testing::in_netns;

/// The kernel of this namespace, with `cali1` and `cali2` up.
fn prepared() -> RealKernel {
    let mut kernel = RealKernel::open(Sysctl::default()).unwrap();
    let netns = Netns::current().unwrap();
    let end = |name: &str| VethEnd { name: name.parse().unwrap(), mac: None };
    for n in 1..=2 {
        let (near, far) = (end(&format!("cali{n}")), end(&format!("peer{n}")));
        let pair = VethPair { near, far, mtu: 1500, queues: 1 };
        kernel.rtnl().create_veth(&pair, std::os::fd::AsFd::as_fd(&netns)).unwrap();
        for name in [&pair.far.name, &pair.near.name] {
            let up = LinkChange { up: Some(true), ..LinkChange::default() };
            kernel.rtnl().change_link(name, up).unwrap();
            kernel.rtnl().read_link(name).unwrap();
        }
    }
    kernel
}

#[test]
fn the_real_kernel_keeps_the_contract() {
    for (name, clause) in CLAUSES {
        in_netns(|| {
            println!("{name}");
            clause(&mut prepared());
        });
    }
}
