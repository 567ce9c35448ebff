//! Operations to one batch of netlink messages, and the way back from a refusal to the operation.

use calico_dataplane::tables::nft::{Element, NftOp, Place, RuleId};
use calico_rules::nft::{ChainKind, ChainType, Hook, Rule, Table};

#[allow(clippy::wildcard_imports, reason = "a module of constants by the kernel's names")]
use super::constant::*;
use super::expr::encode_expr;
use super::set::{encode_elements, encode_set};
use crate::attr::Writer;
use crate::netlink::{ACK, APPEND, CREATE, REQUEST};

/// What the running kernel can do; probed, never guessed from its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Tables can be owned by a socket and outlive it (`NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST`, 6.9).
    pub persistent_owner: bool,
    /// Deletes that do not mind absence (`NFT_MSG_DESTROY*`, 6.3).
    pub destroy: bool,
}

/// A batch ready to be sent.
#[derive(Debug, Default)]
pub struct Batch {
    writer: Writer,
    first_seq: u32,
    /// For every message but the framing, in order: which operation it belongs to.
    op_of_message: Vec<u32>,
    last_message: usize,
}

impl Batch {
    /// Encodes operations into one batch. Sequence numbers start at `first_seq`: the opening frame has it, then each
    /// message has the next one.
    pub fn encode(ops: &[NftOp], features: Features, first_seq: u32) -> Batch {
        let mut batch = Batch { first_seq, ..Batch::default() };
        batch.frame(NFNL_MSG_BATCH_BEGIN);
        for (index, op) in ops.iter().enumerate() {
            batch.op(index as u32, op, features);
        }
        // One acknowledgement for all: when the last message is through, so are those before it.
        let last = batch.last_message;
        batch.writer.add_flag(last, ACK);
        batch.frame(NFNL_MSG_BATCH_END);
        batch
    }

    /// The encoded messages.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Sequence number of the message whose acknowledgement ends the exchange.
    pub fn last_seq(&self) -> u32 {
        self.first_seq + self.op_of_message.len() as u32
    }

    /// The operation that the message with this sequence number belongs to; `None` for the frame.
    pub fn op_of(&self, seq: u32) -> Option<usize> {
        let message = seq.checked_sub(self.first_seq + 1)?;
        self.op_of_message.get(message as usize).map(|op| *op as usize)
    }

    fn frame(&mut self, kind: u16) {
        let seq = self.first_seq + self.writer.messages();
        self.writer.message(kind, REQUEST, seq, |w| w.raw(&nfgenmsg(NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES)));
    }

    fn message(&mut self, op: u32, kind: u16, flags: u16, table: Table, body: impl FnOnce(&mut Writer)) {
        self.last_message = self.writer.bytes().len();
        let seq = self.first_seq + self.writer.messages();
        self.writer.message(NFNL_SUBSYS_NFTABLES << 8 | kind, REQUEST | flags, seq, |w| {
            w.raw(&nfgenmsg(family(table), 0));
            body(w);
        });
        self.op_of_message.push(op);
    }

    fn op(&mut self, index: u32, op: &NftOp, features: Features) {
        let delete = |plain: u16, destroy: u16| if features.destroy { destroy } else { plain };
        match op {
            NftOp::AddTable(table) => self.message(index, NEWTABLE, CREATE, *table, |w| {
                w.text(NFTA_TABLE_NAME, Table::NAME);
                let owner = NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST;
                w.be32(NFTA_TABLE_FLAGS, if features.persistent_owner { owner } else { 0 });
            }),
            NftOp::DeleteTable(table) => {
                self.message(index, delete(DELTABLE, DESTROYTABLE), 0, *table, |w| {
                    w.text(NFTA_TABLE_NAME, Table::NAME);
                });
            }
            NftOp::AddChain { table, chain, kind } => self.message(index, NEWCHAIN, CREATE, *table, |w| {
                w.text(NFTA_CHAIN_TABLE, Table::NAME);
                w.text(NFTA_CHAIN_NAME, chain);
                encode_chain_kind(w, *kind);
            }),
            // A rule deletion that names no rule deletes all of the chain's.
            NftOp::FlushChain { table, chain } => self.message(index, DELRULE, 0, *table, |w| {
                w.text(NFTA_RULE_TABLE, Table::NAME);
                w.text(NFTA_RULE_CHAIN, chain);
            }),
            NftOp::DeleteChain { table, chain } => {
                self.message(index, delete(DELCHAIN, DESTROYCHAIN), 0, *table, |w| {
                    w.text(NFTA_CHAIN_TABLE, Table::NAME);
                    w.text(NFTA_CHAIN_NAME, chain);
                });
            }
            NftOp::AddSet { table, set, spec } => self.message(index, NEWSET, CREATE, *table, |w| {
                w.text(NFTA_SET_TABLE, Table::NAME);
                w.text(NFTA_SET_NAME, set);
                encode_set(w, spec, index + 1);
            }),
            NftOp::DeleteSet { table, set } => {
                self.message(index, delete(DELSET, DESTROYSET), 0, *table, |w| {
                    w.text(NFTA_SET_TABLE, Table::NAME);
                    w.text(NFTA_SET_NAME, set);
                });
            }
            NftOp::AddElements { table, set, elements } => {
                self.elements(index, NEWSETELEM, CREATE, *table, set, elements);
            }
            NftOp::DeleteElements { table, set, elements } => {
                self.elements(index, delete(DELSETELEM, DESTROYSETELEM), 0, *table, set, elements);
            }
            NftOp::AddRule { table, chain, place, rule, id } => {
                let flags = match place {
                    Place::Last => CREATE | APPEND,
                    Place::Before(_) => CREATE,
                };
                self.message(index, NEWRULE, flags, *table, |w| {
                    w.text(NFTA_RULE_TABLE, Table::NAME);
                    w.text(NFTA_RULE_CHAIN, chain);
                    encode_rule(w, rule, id);
                    if let Place::Before(at) = place {
                        w.be64(NFTA_RULE_POSITION, at.0);
                    }
                });
            }
            NftOp::DeleteRule { table, chain, handle } => {
                self.message(index, delete(DELRULE, DESTROYRULE), 0, *table, |w| {
                    w.text(NFTA_RULE_TABLE, Table::NAME);
                    w.text(NFTA_RULE_CHAIN, chain);
                    w.be64(NFTA_RULE_HANDLE, handle.0);
                });
            }
        }
    }

    /// As many messages as the 16-bit length of the element list makes necessary.
    fn elements(&mut self, op: u32, kind: u16, flags: u16, table: Table, set: &str, elements: &[Element]) {
        let mut left = elements;
        while !left.is_empty() {
            let mut rest = left;
            self.message(op, kind, flags, table, |w| {
                w.text(NFTA_SET_ELEM_LIST_TABLE, Table::NAME);
                w.text(NFTA_SET_ELEM_LIST_SET, set);
                rest = encode_elements(w, left);
            });
            left = rest;
        }
    }
}

/// `struct nfgenmsg`: family, version 0, resource id in network order.
pub fn nfgenmsg(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// The netfilter family of a table.
pub fn family(table: Table) -> u8 {
    match table {
        Table::Inet => NFPROTO_INET,
        Table::Arp => NFPROTO_ARP,
    }
}

/// `enum nf_inet_hooks` and `NF_ARP_*`.
pub(super) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting | Hook::ArpInput => 0,
        Hook::Input | Hook::ArpOutput => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

/// `NFTA_CHAIN_TYPE`.
pub(super) fn chain_type(kind: ChainType) -> &'static str {
    match kind {
        ChainType::Filter => "filter",
        ChainType::Nat => "nat",
        ChainType::Route => "route",
    }
}

fn encode_chain_kind(w: &mut Writer, kind: ChainKind) {
    if let ChainKind::Base { hook, priority, chain_type: kind } = kind {
        w.nest(NFTA_CHAIN_HOOK, |w| {
            w.be32(NFTA_HOOK_HOOKNUM, hook_number(hook));
            w.be32(NFTA_HOOK_PRIORITY, priority as u32);
        });
        w.be32(NFTA_CHAIN_POLICY, NF_ACCEPT);
        w.text(NFTA_CHAIN_TYPE, chain_type(kind));
    }
}

fn encode_rule(w: &mut Writer, rule: &Rule, id: &RuleId) {
    w.nest(NFTA_RULE_EXPRESSIONS, |w| {
        for expr in &rule.exprs {
            encode_expr(w, expr);
        }
    });
    // The comment ends with a zero byte, as libnftnl writes it; type, length and text fit the kernel's 256 bytes.
    let mut text = id.comment(rule);
    let mut end = text.len().min(usize::from(u8::MAX) - 3);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    let mut userdata = Vec::with_capacity(text.len() + 3);
    userdata.extend_from_slice(&[UDATA_RULE_COMMENT, text.len() as u8 + 1]);
    userdata.extend_from_slice(text.as_bytes());
    userdata.push(0);
    w.attr(NFTA_RULE_USERDATA, &userdata);
}
