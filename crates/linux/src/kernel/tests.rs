//! The real kernel keeps the contract that the fake one keeps.

use calico_calc::change::{Change, IpSetId, IpSetKind, Member};
use calico_dataplane::apply;
use calico_dataplane::contract::{CLAUSES, IPIP_CLAUSES, policy, policy_key, start, world};
use calico_dataplane::tables::tunnel::{self, TunnelKind};
use calico_net::Cidr;

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

#[test]
fn the_real_kernel_s_ipip_keeps_the_contract() {
    for (name, clause) in IPIP_CLAUSES {
        in_netns(|| {
            let device = tunnel::device(tunnel::Overlay::Ipip, Family::V4).unwrap();
            let made = Tunnel {
                name: device.clone(),
                kind: TunnelKind::Ipip,
                mac: None,
                mtu: 1480,
                up: true,
                checksum_offload: true,
            };
            let mut kernel = prepared();
            match kernel.apply_tunnel(&TunnelOp::Create(made)) {
                Ok(()) => kernel.apply_tunnel(&TunnelOp::Delete(device)).unwrap(),
                // What an operator reads on such a kernel.
                Err(error) => {
                    assert!(error.0.contains("module ipip") && error.0.contains("modprobe ipip"), "{error}");
                    println!("nothing more to ask here: {error}");
                    return;
                }
            }
            println!("{name}");
            clause(&mut kernel);
        });
    }
}

/// What one update sent to nf_tables: messages, bytes, sends.
fn cost(kernel: &mut RealKernel, update: impl FnOnce(&mut RealKernel)) -> (u64, u64, u64) {
    let before = kernel.traffic().0;
    update(kernel);
    let after = kernel.traffic().0;
    (after.messages - before.messages, after.bytes - before.bytes, after.sends - before.sends)
}

#[test]
fn an_edit_among_a_thousand_policies_costs_what_it_changes() {
    in_netns(|| {
        let mut kernel = prepared();
        let mut changes = world();
        changes.extend((0..1000).map(|n| Change::PolicyChanged(policy_key(&format!("p{n}")), policy("s:a"))));
        let (mut desired, report) = start(&mut kernel, changes);
        assert!(report.complete, "{report:?}");
        let mut longer = (*policy("s:a")).clone();
        let mut last = longer.ingress[0].clone();
        last.action = calico_calc::change::Action::Deny;
        last.source = calico_calc::change::Side::default();
        longer.ingress.push(last);
        let (messages, bytes, sends) = cost(&mut kernel, |kernel| {
            desired.update(Change::PolicyChanged(policy_key("p500"), longer.into()));
            let report = apply(&mut desired, kernel);
            assert!(report.complete, "{report:?}");
        });
        println!("one rule added to one policy of 1,000: {messages} messages, {bytes} bytes, {sends} sends");
        assert!(messages <= 20 && bytes < 5000 && sends <= 3);
    });
}

#[test]
fn a_member_of_a_set_of_100_000_is_one_element() {
    in_netns(|| {
        let mut kernel = prepared();
        let block: Cidr = "10.0.0.0/8".parse().unwrap();
        let id = IpSetId("s:big".into());
        let members = (0..100_000).map(|n| Member::Net(Cidr::host(block.nth(n).unwrap()))).collect();
        let added = Change::IpSetAdded { id: id.clone(), kind: IpSetKind::Net, members };
        let (mut desired, report) = start(&mut kernel, vec![added]);
        assert!(report.complete, "{report:?}");
        for (add, net) in [(true, "10.200.0.1/32"), (false, "10.200.0.1/32"), (true, "192.168.0.0/16")] {
            let member = vec![Member::Net(net.parse().unwrap())];
            let (added, removed) = if add { (member, vec![]) } else { (vec![], member) };
            let (messages, bytes, sends) = cost(&mut kernel, |kernel| {
                desired.update(Change::IpSetChanged { id: id.clone(), added, removed });
                let report = apply(&mut desired, kernel);
                assert_eq!((report.complete, report.nft_ops), (true, 1));
            });
            println!("{net}: {messages} messages, {bytes} bytes, {sends} sends");
            // The element between the two frames of a transaction.
            assert_eq!((messages, sends), (3, 1));
            assert!(bytes < 160);
        }
    });
}

#[test]
fn counters_survive_an_edit_elsewhere_in_the_chain() {
    in_netns(|| {
        let mut kernel = prepared();
        let (mut desired, _) = start(&mut kernel, world());
        let handles = |kernel: &mut RealKernel| -> std::collections::BTreeSet<u64> {
            let chains = kernel.read_nft().unwrap().remove(&Table::Inet).unwrap().chains;
            chains.values().flat_map(|c| c.rules.iter().map(|r| r.handle.0)).collect()
        };
        let before = handles(&mut kernel);
        let mut edited = (*policy("s:a")).clone();
        edited
            .ingress
            .insert(0, calico_calc::change::Rule { source: Default::default(), ..edited.ingress[0].clone() });
        desired.update(Change::PolicyChanged(policy_key("a"), edited.into()));
        assert!(apply(&mut desired, &mut kernel).complete);
        let after = handles(&mut kernel);
        let gone = before.difference(&after).count();
        println!("{} rules, {gone} replaced by inserting one in front", before.len());
        assert!(before.len() > 50 && gone <= 6, "{gone} of {}", before.len());
    });
}
