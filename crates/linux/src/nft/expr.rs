//! Expressions and verdicts to netlink attributes (linux/netfilter/nf_tables.h, `NFTA_EXPR_*` and each expression's own).

use calico_net::Family;
use calico_rules::nft::{CmpOp, CtKey, Expr, Fib, MetaKey, PayloadBase, Reg, Verdict};

#[allow(clippy::wildcard_imports, reason = "a module of constants by the kernel's names")]
use super::constant::*;
use crate::attr::Writer;

/// `NF_NAT_RANGE_PROTO_SPECIFIED`: ports are limited.
const PORTS_SPECIFIED: u32 = 2;

/// Writes one expression as a list element.
pub fn encode_expr(w: &mut Writer, expr: &Expr) {
    let mut element = |name: &str, data: &dyn Fn(&mut Writer)| {
        w.nest(NFTA_LIST_ELEM, |w| {
            w.text(NFTA_EXPR_NAME, name);
            w.nest(NFTA_EXPR_DATA, data);
        });
    };
    match expr {
        Expr::Meta { key, dreg } => element("meta", &|w| {
            w.be32(1, register(*dreg));
            w.be32(2, meta_key(*key));
        }),
        Expr::SetMark { sreg } => element("meta", &|w| {
            w.be32(2, meta_key(MetaKey::Mark));
            w.be32(3, register(*sreg));
        }),
        Expr::Payload { base, offset, len, dreg } => element("payload", &|w| {
            w.be32(1, register(*dreg));
            w.be32(2, payload_base(*base));
            w.be32(3, *offset);
            w.be32(4, *len);
        }),
        Expr::Cmp { op, sreg, data } => element("cmp", &|w| {
            w.be32(1, register(*sreg));
            w.be32(2, cmp_op(*op));
            value(w, 3, data);
        }),
        Expr::Range { invert, sreg, from, to } => element("range", &|w| {
            w.be32(1, register(*sreg));
            w.be32(2, u32::from(*invert));
            value(w, 3, from);
            value(w, 4, to);
        }),
        Expr::Bitwise { sreg, dreg, mask, xor } => element("bitwise", &|w| {
            w.be32(1, register(*sreg));
            w.be32(2, register(*dreg));
            w.be32(3, mask.len() as u32);
            value(w, 4, mask);
            value(w, 5, xor);
        }),
        Expr::Immediate { dreg, data } => element("immediate", &|w| {
            w.be32(1, register(*dreg));
            value(w, 2, data);
        }),
        Expr::Lookup { set, sreg, invert } => element("lookup", &|w| {
            w.text(1, set);
            w.be32(2, register(*sreg));
            if *invert {
                w.be32(5, 1);
            }
        }),
        Expr::VerdictMap { map, sreg } => element("lookup", &|w| {
            w.text(1, map);
            w.be32(2, register(*sreg));
            w.be32(3, NFT_REG_VERDICT);
        }),
        Expr::Ct { key, dreg } => element("ct", &|w| {
            w.be32(1, register(*dreg));
            w.be32(2, ct_key(*key));
        }),
        Expr::Fib { lookup, dreg } => element("fib", &|w| {
            let (result, flags) = fib(*lookup);
            w.be32(1, register(*dreg));
            w.be32(2, result);
            w.be32(3, flags);
        }),
        Expr::Counter => element("counter", &|_| {}),
        Expr::Limit { rate, per_secs, burst } => element("limit", &|w| {
            w.be64(1, *rate);
            w.be64(2, *per_secs);
            w.be32(3, *burst);
        }),
        Expr::Log { prefix, level } => element("log", &|w| {
            w.text(2, prefix);
            w.be32(5, *level);
        }),
        Expr::Nflog { prefix, group } => element("log", &|w| {
            w.be16(1, *group);
            w.text(2, prefix);
        }),
        Expr::NoTrack => w.nest(NFTA_LIST_ELEM, |w| w.text(NFTA_EXPR_NAME, "notrack")),
        Expr::Masquerade { ports } => element("masq", &|w| {
            if let Some((first, last)) = ports {
                w.be32(1, PORTS_SPECIFIED);
                w.be32(2, register(*first));
                w.be32(3, register(*last));
            }
        }),
        Expr::Snat { addr, family, ports } => element("nat", &|w| {
            w.be32(1, 0);
            w.be32(2, u32::from(nfproto(*family)));
            w.be32(3, register(*addr));
            w.be32(4, register(*addr));
            if let Some((first, last)) = ports {
                w.be32(5, register(*first));
                w.be32(6, register(*last));
            }
        }),
        // ICMPX: the kernel picks ICMP or ICMPv6 by the packet; code 1 is "port unreachable" of both.
        Expr::Reject => element("reject", &|w| {
            w.be32(1, 2);
            w.u8(2, 1);
        }),
        Expr::Verdict(verdict) => element("immediate", &|w| {
            w.be32(1, NFT_REG_VERDICT);
            encode_verdict(w, 2, verdict);
        }),
    }
}

/// Writes a verdict as the data attribute `kind`.
pub fn encode_verdict(w: &mut Writer, kind: u16, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Drop => (NF_DROP, None),
        Verdict::Return => (NFT_RETURN, None),
        Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
    };
    w.nest(kind, |w| {
        w.nest(NFTA_DATA_VERDICT, |w| {
            w.be32(NFTA_VERDICT_CODE, code);
            if let Some(chain) = chain {
                w.text(NFTA_VERDICT_CHAIN, chain);
            }
        });
    });
}

/// Writes constant bytes as the data attribute `kind`.
pub fn value(w: &mut Writer, kind: u16, data: &[u8]) {
    w.nest(kind, |w| w.attr(NFTA_DATA_VALUE, data));
}

fn register(reg: Reg) -> u32 {
    NFT_REG32_00 + u32::from(reg.0)
}

/// `NFPROTO_*` of an address family.
fn nfproto(family: Family) -> u8 {
    match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    }
}

/// `enum nft_meta_keys`.
fn meta_key(key: MetaKey) -> u32 {
    match key {
        MetaKey::Mark => 3,
        MetaKey::IifName => 6,
        MetaKey::OifName => 7,
        MetaKey::NfProto => 15,
        MetaKey::L4Proto => 16,
    }
}

/// `enum nft_payload_bases`.
fn payload_base(base: PayloadBase) -> u32 {
    match base {
        PayloadBase::Link => 0,
        PayloadBase::Network => 1,
        PayloadBase::Transport => 2,
    }
}

/// `enum nft_cmp_ops`.
fn cmp_op(op: CmpOp) -> u32 {
    match op {
        CmpOp::Eq => 0,
        CmpOp::Neq => 1,
        CmpOp::Lt => 2,
        CmpOp::Lte => 3,
        CmpOp::Gt => 4,
        CmpOp::Gte => 5,
    }
}

/// `enum nft_ct_keys`.
fn ct_key(key: CtKey) -> u32 {
    match key {
        CtKey::State => 0,
        CtKey::Status => 2,
    }
}

/// `enum nft_fib_result` and `enum nft_fib_flags`.
fn fib(lookup: Fib) -> (u32, u32) {
    const OIF: u32 = 1;
    const ADDRTYPE: u32 = 3;
    const SADDR: u32 = 1;
    const DADDR: u32 = 2;
    const MARK: u32 = 4;
    const IIF: u32 = 8;
    match lookup {
        Fib::ReversePath => (OIF, SADDR | MARK | IIF),
        Fib::DestinationType => (ADDRTYPE, DADDR),
        Fib::SourceType => (ADDRTYPE, SADDR),
    }
}
