//! The encoder against golden bytes, the decoders against anything, and both against the real kernel.

use calico_dataplane::tables::nft::{Element, NamedRule, NftOp, Place};
use calico_rules::nft::*;
use proptest::prelude::*;
use smallvec::smallvec;

use super::*;
use crate::testing::{in_netns, run, wait_for};

const NEW: Features = Features { persistent_owner: true, destroy: true };

fn add_rule(chain: &str, exprs: Vec<Expr>, comment: &str) -> NftOp {
    let NamedRule { id, rule } = Rule { exprs, comment: comment.into() }.into();
    NftOp::AddRule { table: Table::Inet, chain: chain.into(), place: Place::Last, rule, id }
}

fn set(name: &str, key: &[KeyField], interval: bool, verdict_map: bool) -> NftOp {
    let spec = SetSpec { key: key.iter().copied().collect(), interval, verdict_map };
    NftOp::AddSet { table: Table::Inet, set: name.into(), spec }
}

fn add_elements(name: &str, elements: Vec<Element>) -> NftOp {
    NftOp::AddElements { table: Table::Inet, set: name.into(), elements }
}

fn chain(name: &str, kind: ChainKind) -> NftOp {
    NftOp::AddChain { table: Table::Inet, chain: name.into(), kind }
}

/// A number in host order, as marks and connection states are.
fn host(number: u32) -> Data {
    Data::from_slice(&number.to_ne_bytes())
}

fn ifname(name: &str) -> Data {
    let mut data = Data::from_slice(name.as_bytes());
    data.resize(16, 0);
    data
}

fn nft(args: &[&str]) -> String {
    run("nft", args)
}

/// One of each thing that the object model can say.
fn everything() -> Vec<NftOp> {
    let forward = ChainKind::Base { hook: Hook::Forward, priority: -5, chain_type: ChainType::Filter };
    let postrouting = ChainKind::Base { hook: Hook::Postrouting, priority: 110, chain_type: ChainType::Nat };
    let raw = ChainKind::Base { hook: Hook::Prerouting, priority: -300, chain_type: ChainType::Filter };
    let v4 = || {
        vec![
            Expr::Meta { key: MetaKey::NfProto, dreg: Reg(0) },
            Expr::Cmp { op: CmpOp::Eq, sreg: Reg(0), data: smallvec![2] },
            Expr::Payload { base: PayloadBase::Network, offset: 12, len: 4, dreg: Reg(0) },
        ]
    };
    let with = |mut head: Vec<Expr>, tail: Vec<Expr>| {
        head.extend(tail);
        head
    };
    vec![
        NftOp::AddTable(Table::Inet),
        NftOp::AddTable(Table::Arp),
        chain("filter-FORWARD", forward),
        chain("nat-POSTROUTING", postrouting),
        chain("raw-PREROUTING", raw),
        chain("policy", ChainKind::Regular),
        chain("endpoint", ChainKind::Regular),
        NftOp::AddChain {
            table: Table::Arp,
            chain: "output".into(),
            kind: ChainKind::Base { hook: Hook::ArpOutput, priority: 0, chain_type: ChainType::Filter },
        },
        set("hosts", &[KeyField::Ipv4Addr], false, false),
        set("nets", &[KeyField::Ipv4Addr], true, false),
        set("hosts6", &[KeyField::Ipv6Addr], false, false),
        set("ports", &[KeyField::Ipv4Addr, KeyField::InetProto, KeyField::InetService], false, false),
        set("dispatch", &[KeyField::IfName], false, true),
        add_elements("hosts", vec![Element::Exact(smallvec![10, 0, 0, 1])]),
        add_elements(
            "nets",
            vec![
                Element::Interval { first: smallvec![10, 1, 0, 0], last: smallvec![10, 1, 255, 255] },
                Element::Interval { first: smallvec![192, 0, 0, 0], last: smallvec![255, 255, 255, 255] },
            ],
        ),
        add_elements(
            "hosts6",
            vec![Element::Exact(smallvec![0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9])],
        ),
        add_elements("ports", vec![Element::Exact(smallvec![10, 0, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0])]),
        add_elements(
            "dispatch",
            vec![Element::Verdict { key: ifname("cali0123"), verdict: Verdict::Goto("endpoint".into()) }],
        ),
        add_rule(
            "filter-FORWARD",
            vec![
                Expr::Meta { key: MetaKey::IifName, dreg: Reg(0) },
                Expr::VerdictMap { map: "dispatch".into(), sreg: Reg(0) },
            ],
            "to endpoints",
        ),
        add_rule(
            "endpoint",
            vec![
                Expr::Ct { key: CtKey::State, dreg: Reg(0) },
                Expr::Bitwise { sreg: Reg(0), dreg: Reg(0), mask: host(6), xor: host(0) },
                Expr::Cmp { op: CmpOp::Neq, sreg: Reg(0), data: host(0) },
                Expr::Counter,
                Expr::Verdict(Verdict::Accept),
            ],
            "",
        ),
        add_rule("endpoint", vec![Expr::Verdict(Verdict::Jump("policy".into()))], "policy"),
        add_rule(
            "endpoint",
            vec![
                Expr::Limit { rate: 10, per_secs: 60, burst: 5 },
                Expr::Log { prefix: "calico-drop".into(), level: 5 },
                Expr::Nflog { prefix: "DPI|x".into(), group: 1 },
            ],
            "",
        ),
        add_rule("endpoint", vec![Expr::Reject], ""),
        add_rule(
            "policy",
            with(
                v4(),
                vec![
                    Expr::Lookup { set: "hosts".into(), sreg: Reg(0), invert: false },
                    Expr::Meta { key: MetaKey::Mark, dreg: Reg(0) },
                    Expr::Bitwise { sreg: Reg(0), dreg: Reg(0), mask: host(0xfffeffff), xor: host(0x10000) },
                    Expr::SetMark { sreg: Reg(0) },
                    Expr::Verdict(Verdict::Return),
                ],
            ),
            "allow",
        ),
        add_rule(
            "policy",
            with(
                v4(),
                vec![
                    Expr::Lookup { set: "nets".into(), sreg: Reg(0), invert: true },
                    Expr::Verdict(Verdict::Drop),
                ],
            ),
            "deny",
        ),
        add_rule(
            "policy",
            with(
                v4(),
                vec![
                    Expr::Meta { key: MetaKey::L4Proto, dreg: Reg(1) },
                    Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, dreg: Reg(2) },
                    Expr::Lookup { set: "ports".into(), sreg: Reg(0), invert: false },
                    Expr::Range { invert: false, sreg: Reg(2), from: smallvec![0, 80], to: smallvec![0, 90] },
                    Expr::Verdict(Verdict::Accept),
                ],
            ),
            "named port",
        ),
        add_rule(
            "raw-PREROUTING",
            vec![
                Expr::Fib { lookup: Fib::ReversePath, dreg: Reg(0) },
                Expr::Cmp { op: CmpOp::Eq, sreg: Reg(0), data: host(0) },
                Expr::NoTrack,
            ],
            "",
        ),
        add_rule(
            "nat-POSTROUTING",
            with(
                v4(),
                vec![
                    Expr::Fib { lookup: Fib::DestinationType, dreg: Reg(1) },
                    Expr::Cmp { op: CmpOp::Neq, sreg: Reg(1), data: host(2) },
                    Expr::Masquerade { ports: None },
                ],
            ),
            "",
        ),
        add_rule(
            "nat-POSTROUTING",
            with(
                v4(),
                vec![
                    Expr::Meta { key: MetaKey::L4Proto, dreg: Reg(4) },
                    Expr::Cmp { op: CmpOp::Eq, sreg: Reg(4), data: smallvec![6] },
                    Expr::Immediate { dreg: Reg(0), data: smallvec![192, 0, 2, 1] },
                    Expr::Immediate { dreg: Reg(1), data: smallvec![0x80, 0] },
                    Expr::Immediate { dreg: Reg(2), data: smallvec![0x90, 0] },
                    Expr::Snat {
                        addr: Reg(0),
                        family: calico_net::Family::V4,
                        ports: Some((Reg(1), Reg(2))),
                    },
                ],
            ),
            "",
        ),
    ]
}

#[test]
fn the_kernel_takes_everything_and_nft_prints_it() {
    in_netns(|| {
        let mut socket = NftSocket::open().unwrap();
        socket.apply(&everything()).unwrap();
        let listed = nft(&["list", "ruleset"]);
        for line in [
            "table inet calico {",
            "table arp calico {",
            "type filter hook forward priority filter - 5; policy accept;",
            "type nat hook postrouting priority srcnat + 10; policy accept;",
            "elements = { 10.0.0.1 }",
            "elements = { 10.1.0.0/16, 192.0.0.0/2 }",
            "elements = { fd00::9 }",
            "elements = { 10.0.0.1 . tcp . 80 }",
            "elements = { \"cali0123\" : goto endpoint }",
            "iifname vmap @dispatch comment \"cali:",
            " to endpoints\"",
            "counter packets 0 bytes 0 accept comment \"cali:",
            "jump policy",
            "log prefix \"calico-drop\" level notice log prefix \"DPI|x\" group 1",
            "reject comment",
            "ip saddr @hosts meta mark set meta mark | 0x00010000 return",
            "ip saddr != @nets drop",
            "masquerade",
            "snat ip to 192.0.2.1:32768-36864",
            "fib saddr . mark . iif oif",
        ] {
            assert!(listed.contains(line), "{line:?} is not in:\n{listed}");
        }
    });
}

#[test]
fn reads_back_what_it_wrote() {
    in_netns(|| {
        let mut socket = NftSocket::open().unwrap();
        assert!(socket.read().unwrap().is_empty());
        nft(&[
            "add table inet other; add chain inet other x; add table ip calico; add set ip calico y { type mark; }",
        ]);
        socket.apply(&everything()).unwrap();
        let actual = socket.read().unwrap();
        let inet = &actual[&Table::Inet];
        let mut chains = 0;
        let mut rules: BTreeMap<SmolStr, Vec<_>> = BTreeMap::new();
        for op in everything() {
            match op {
                NftOp::AddChain { table, chain, kind } => {
                    chains += 1;
                    assert_eq!(actual[&table].chains[&chain].kind, Some(kind));
                }
                NftOp::AddSet { set, spec, .. } => assert_eq!(inet.sets[&set].spec, Some(spec)),
                NftOp::AddElements { set, elements, .. } => assert_eq!(inet.sets[&set].elements, elements),
                NftOp::AddRule { chain, id, .. } => rules.entry(chain).or_default().push(Some(id)),
                _ => {}
            }
        }
        assert_eq!(inet.chains.len() + actual[&Table::Arp].chains.len(), chains);
        for (chain, ids) in rules {
            assert_eq!(inet.chains[&chain].rules.iter().map(|r| r.id).collect::<Vec<_>>(), ids);
            assert_eq!(socket.read_chain(Table::Inet, &chain).unwrap(), inet.chains[&chain].rules);
        }
        assert_eq!(socket.read_chain(Table::Inet, "absent").unwrap(), []);
    });
}

#[test]
fn rules_are_inserted_and_deleted_by_handle() {
    in_netns(|| {
        let mut socket = NftSocket::open().unwrap();
        let accept = || vec![Expr::Counter, Expr::Verdict(Verdict::Accept)];
        socket
            .apply(&[
                NftOp::AddTable(Table::Inet),
                chain("c", ChainKind::Regular),
                add_rule("c", accept(), "first"),
                add_rule("c", accept(), "last"),
            ])
            .unwrap();
        let before = socket.read_chain(Table::Inet, "c").unwrap();
        let mut insert = [add_rule("c", accept(), "second"), add_rule("c", accept(), "third")];
        for op in &mut insert {
            if let NftOp::AddRule { place, .. } = op {
                *place = Place::Before(before[1].handle);
            }
        }
        socket.apply(&insert).unwrap();
        socket
            .apply(&[NftOp::DeleteRule { table: Table::Inet, chain: "c".into(), handle: before[0].handle }])
            .unwrap();
        let listed = nft(&["list", "chain", "inet", "calico", "c"]);
        let order: Vec<_> =
            ["first", "second", "third", "last"].iter().map(|w| listed.find(&format!(" {w}\""))).collect();
        assert!(
            order[0].is_none() && order[1] < order[2] && order[2] < order[3] && order[1].is_some(),
            "{listed}"
        );
        assert_eq!(socket.read_chain(Table::Inet, "c").unwrap()[2], before[1]);
    });
}

#[test]
fn a_refusal_names_the_operation_and_nothing_happened() {
    in_netns(|| {
        let mut socket = NftSocket::open().unwrap();
        let mut ops = everything();
        ops.push(add_rule(
            "policy",
            vec![Expr::Lookup { set: "absent".into(), sreg: Reg(0), invert: false }],
            "",
        ));
        ops.push(chain("late", ChainKind::Regular));
        match socket.apply(&ops) {
            Err(NftError::Refused { index, op, refusal }) => {
                assert_eq!(index, ops.len() - 2);
                assert_eq!(refusal.errno, Errno::ENOENT);
                assert!(op.starts_with("add rule inet calico policy"), "{op}");
            }
            other => panic!("{other:?}"),
        }
        assert!(socket.read().unwrap().is_empty());
    });
}

#[test]
fn large_sets_are_one_send_and_read_back_whole() {
    in_netns(|| {
        let mut socket = NftSocket::open().unwrap();
        let members: Vec<_> = (0..100_000u32)
            .map(|n| Element::Exact(Data::from_slice(&(0x0a00_0000 + n).to_be_bytes())))
            .collect();
        let before = socket.traffic();
        socket
            .apply(&[
                NftOp::AddTable(Table::Inet),
                set("big", &[KeyField::Ipv4Addr], false, false),
                add_elements("big", members.clone()),
            ])
            .unwrap();
        assert_eq!(socket.traffic().sends - before.sends, 1);
        let mut read = socket.read().unwrap()[&Table::Inet].sets["big"].elements.clone();
        read.sort_unstable();
        assert!(read == members);
        let before = socket.traffic();
        socket.apply(&[add_elements("big", vec![Element::Exact(smallvec![9, 9, 9, 9])])]).unwrap();
        let after = socket.traffic();
        assert_eq!((after.sends - before.sends, after.messages - before.messages), (1, 3));
        assert!(after.bytes - before.bytes < 120, "{} bytes", after.bytes - before.bytes);
    });
}

#[test]
fn an_owned_table_survives_flush_and_its_process() {
    in_netns(|| {
        let mut first = NftSocket::open().unwrap();
        if !first.features().persistent_owner {
            println!("skipped: this kernel has no NFT_TABLE_F_PERSIST");
            return;
        }
        first.apply(&[NftOp::AddTable(Table::Inet), chain("c", ChainKind::Regular)]).unwrap();
        first.apply(&[NftOp::AddTable(Table::Inet)]).unwrap();
        nft(&["flush", "ruleset"]);
        let mut second = NftSocket::open().unwrap();
        assert_eq!(second.read().unwrap()[&Table::Inet].chains.len(), 1);
        assert!(matches!(second.apply(&[NftOp::AddTable(Table::Inet)]), Err(NftError::Owned { .. })));
        drop(first);
        // Another test's child process holds a copy of the socket from its fork until its exec.
        let claim = [NftOp::AddTable(Table::Inet), chain("d", ChainKind::Regular)];
        wait_for("the claim", || second.apply(&claim).is_ok());
        assert_eq!(second.read().unwrap()[&Table::Inet].chains.len(), 2);
        second.apply(&[NftOp::DeleteTable(Table::Inet), NftOp::DeleteTable(Table::Arp)]).unwrap();
        assert!(second.read().unwrap().is_empty());
    });
}

#[test]
fn the_generation_moves_with_every_transaction() {
    in_netns(|| {
        let mut socket = NftSocket::open().unwrap();
        socket.apply(&[NftOp::AddTable(Table::Inet)]).unwrap();
        let own = socket.read_generation().unwrap();
        assert_eq!(socket.read_generation().unwrap(), own);
        nft(&["add", "table", "ip", "other"]);
        assert_eq!(socket.read_generation().unwrap(), own + 1);
    });
}

/// A chain and a rule byte by byte, so that a change of the encoding is seen and meant.
#[test]
fn golden_bytes() {
    let ops = [
        chain("c", ChainKind::Regular),
        NftOp::DeleteChain { table: Table::Arp, chain: "d".into() },
        add_elements(
            "s",
            vec![Element::Interval { first: smallvec![10, 0, 0, 0], last: smallvec![10, 255, 255, 255] }],
        ),
    ];
    let batch = Batch::encode(&ops, NEW, 1);
    let hex: Vec<String> = crate::attr::Messages(batch.writer().bytes())
        .map(|m| {
            let payload: String = m.payload.iter().map(|b| format!("{b:02x}")).collect();
            format!("{:04x} {:04x} {} {payload}", m.kind, m.flags, m.seq)
        })
        .collect();
    assert_eq!(
        hex,
        [
            "0010 0001 1 0000000a",
            "0a03 0401 2 010000000b00010063616c69636f00000600030063000000",
            "0a1b 0001 3 030000000b00010063616c69636f00000600030064000000",
            "0a0c 0405 4 010000000b00010063616c69636f000006000200730000002c0003801\
         00001800c000180080001000a000000180001800c000180080001000b0000000800030000000001",
            "0011 0001 5 0000000a",
        ]
    );
}

proptest! {
    #[test]
    fn decoders_survive_anything(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode::decode_table(&bytes);
        let _ = decode::decode_chain(Table::Inet, &bytes);
        let _ = decode::decode_rule(&bytes);
        let _ = decode::decode_generation(&bytes);
        let _ = decode::decode_set(&bytes);
        let spec = SetSpec { key: smallvec![KeyField::Ipv4Addr], interval: true, verdict_map: false };
        let _ = set::assemble(Some(spec), set::decode_elements(&bytes));
    }
}
