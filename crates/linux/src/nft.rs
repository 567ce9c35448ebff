//! nf_tables over netlink: transactions on our tables, and reads of them.
//!
//! The socket owns the tables (where the kernel can): nobody else can change them, `nft flush ruleset` passes them by,
//! and when this process dies they stay and the next one claims them. So one [`NftSocket`] is kept for life.

mod constant;
pub(crate) mod decode;
mod encode;
mod expr;
pub(crate) mod set;

use std::collections::BTreeMap;

use calico_dataplane::tables::nft::{ActualChain, ActualNft, ActualRule, ActualTable, NftOp};
use calico_rules::nft::{Data, Table};
use nix::errno::Errno;
use rustc_hash::FxHashSet;
use smol_str::SmolStr;
use thiserror::Error;

pub use encode::{Batch, Features};

#[allow(clippy::wildcard_imports, reason = "a module of constants by the kernel's names")]
use self::constant::*;
use self::encode::{family, nfgenmsg};
use self::set::DumpedElement;
use crate::attr::Writer;
use crate::netlink::{ACK, CREATE, NetlinkError, Protocol, REQUEST, Refusal, Socket, Traffic};

/// Why a transaction did not take place. None of its operations did.
#[derive(Debug, Error)]
pub enum NftError {
    /// The socket failed.
    #[error("nf_tables: {0}")]
    Netlink(#[from] NetlinkError),
    /// The kernel refused an operation.
    #[error("nf_tables refused \"{op}\": {refusal}")]
    Refused {
        /// The first refused operation's place in the transaction.
        index: usize,
        /// That operation, in words.
        op: String,
        /// The kernel's reason.
        refusal: Refusal,
    },
    /// The kernel refused the transaction as a whole (no memory, no privilege).
    #[error("nf_tables refused the transaction: {0}")]
    RefusedWhole(Refusal),
    /// Another process owns our tables: another agent runs.
    #[error("table {table} belongs to another running process")]
    Owned {
        /// Which table.
        table: &'static str,
    },
}

/// Families of other programs' tables (`NFPROTO_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FamilyName {
    /// IPv4.
    Ip = NFPROTO_IPV4,
    /// IPv6.
    Ip6 = NFPROTO_IPV6,
    /// ARP.
    Arp = NFPROTO_ARP,
}

impl FamilyName {
    /// As `nft` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            FamilyName::Ip => "ip",
            FamilyName::Ip6 => "ip6",
            FamilyName::Arp => "arp",
        }
    }
}

/// How an operation prints in an error: sets may have 100,000 elements.
const OP_TEXT_LEN: usize = 200;

/// How often a set is read again while the kernel rearranges it: that takes milliseconds, a read of a large set some more.
const ELEMENT_ATTEMPTS: u32 = 100;

/// A socket for nf_tables.
#[derive(Debug)]
pub struct NftSocket {
    socket: Socket,
    features: Features,
}

impl NftSocket {
    /// Opens a socket in the calling thread's network namespace and probes the kernel.
    pub fn open() -> Result<NftSocket, NftError> {
        let mut socket = Socket::open(Protocol::Netfilter)?;
        let features = probe(&mut socket)?;
        Ok(NftSocket { socket, features })
    }

    /// What the kernel can do.
    pub fn features(&self) -> Features {
        self.features
    }

    /// What was sent so far.
    pub fn traffic(&self) -> Traffic {
        self.socket.traffic()
    }

    /// Applies all operations as one transaction, or none of them.
    pub fn apply(&mut self, ops: &[NftOp]) -> Result<(), NftError> {
        if ops.is_empty() {
            return Ok(());
        }
        let first = self.socket.reserve(0);
        let batch = Batch::encode(ops, self.features, first);
        self.socket.reserve(batch.writer().messages());
        let refusals = self.socket.transact(batch.writer(), batch.last_seq(), |_| {})?;
        let Some(refusal) = refusals.into_iter().min_by_key(|r| r.seq) else {
            return Ok(());
        };
        let Some(index) = batch.op_of(refusal.seq) else {
            return Err(NftError::RefusedWhole(refusal));
        };
        if refusal.errno == Errno::EPERM && matches!(ops[index], NftOp::AddTable(_)) {
            return Err(NftError::Owned { table: Table::NAME });
        }
        let mut op = ops[index].to_string();
        if let Some((end, _)) = op.char_indices().nth(OP_TEXT_LEN) {
            op.truncate(end);
            op.push('…');
        }
        Err(NftError::Refused { index, op, refusal })
    }

    /// The number of the ruleset's generation: unchanged since the last own transaction means that nobody touched
    /// anything.
    pub fn read_generation(&mut self) -> Result<u32, NftError> {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | GETGEN;
        let found = self.socket.get(
            kind,
            |w| w.raw(&nfgenmsg(NFPROTO_UNSPEC, 0)),
            |m| decode::decode_generation(m.payload),
        )?;
        Ok(found.ok_or(NetlinkError::NoAnswer)?)
    }

    /// Reads all of our tables, and nobody else's contents.
    pub fn read(&mut self) -> Result<ActualNft, NftError> {
        let mut found = ActualNft::new();
        for table in [Table::Inet, Table::Arp] {
            let names =
                self.dump(table, GETTABLE, |_| {}, |p| decode::decode_table(p).map(|(name, _)| name))?;
            if names.iter().any(|name| name == Table::NAME) {
                found.insert(table, self.read_table(table)?);
            }
        }
        Ok(found)
    }

    fn read_table(&mut self, table: Table) -> Result<ActualTable, NftError> {
        let chains = self.dump(
            table,
            GETCHAIN,
            |w| w.text(NFTA_CHAIN_TABLE, Table::NAME),
            |p| decode::decode_chain(table, p),
        )?;
        let mut chains: BTreeMap<SmolStr, ActualChain> =
            chains.into_iter().map(|(name, kind)| (name, ActualChain { kind, rules: Vec::new() })).collect();
        let rules =
            self.dump(table, GETRULE, |w| w.text(NFTA_RULE_TABLE, Table::NAME), decode::decode_rule)?;
        for (chain, rule) in rules {
            if let Some(chain) = chains.get_mut(&chain) {
                chain.rules.push(rule);
            }
        }
        let sets = self.dump(table, GETSET, |w| w.text(NFTA_SET_TABLE, Table::NAME), decode::decode_set)?;
        let mut read = ActualTable { chains, sets: BTreeMap::new() };
        for (name, spec) in sets {
            let elements = self.read_elements(table, &name)?;
            read.sets.insert(name, set::assemble(spec, elements));
        }
        Ok(read)
    }

    /// Reads a set's elements. While the kernel grows a hash table (in the background, after a large load), a dump
    /// shows some elements twice and others not at all, without `NLM_F_DUMP_INTR`; so one that repeats itself is
    /// read again.
    fn read_elements(&mut self, table: Table, name: &str) -> Result<Vec<DumpedElement>, NftError> {
        for _ in 0..ELEMENT_ATTEMPTS {
            let messages = self.dump(
                table,
                GETSETELEM,
                |w| {
                    w.text(NFTA_SET_ELEM_LIST_TABLE, Table::NAME);
                    w.text(NFTA_SET_ELEM_LIST_SET, name);
                },
                |p| Some(set::decode_elements(p)),
            )?;
            let elements: Vec<DumpedElement> = messages.into_iter().flatten().collect();
            let distinct: FxHashSet<(&Data, bool)> = elements.iter().map(DumpedElement::identity).collect();
            if distinct.len() == elements.len() {
                return Ok(elements);
            }
        }
        Err(NetlinkError::Interrupted.into())
    }

    /// The names of everybody's tables of one family, nothing of their contents.
    pub fn read_table_names(&mut self, family: FamilyName) -> Result<Vec<SmolStr>, NftError> {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | GETTABLE;
        let body = |w: &mut Writer| w.raw(&nfgenmsg(family as u8, 0));
        let decode = |m: crate::attr::Message<'_>| decode::decode_table(m.payload).map(|(name, _)| name);
        Ok(self.socket.dump(kind, body, decode)?)
    }

    /// Deletes another program's table and all that is in it; that it is gone already is success.
    pub fn delete_table(&mut self, family: FamilyName, name: &str) -> Result<(), NftError> {
        let first = self.socket.reserve(3);
        let mut w = Writer::new();
        let frame = |w: &mut Writer, kind: u16, seq: u32| {
            w.message(kind, REQUEST, seq, |w| w.raw(&nfgenmsg(NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES)));
        };
        frame(&mut w, NFNL_MSG_BATCH_BEGIN, first);
        w.message(NFNL_SUBSYS_NFTABLES << 8 | DELTABLE, REQUEST | ACK, first + 1, |w| {
            w.raw(&nfgenmsg(family as u8, 0));
            w.text(NFTA_TABLE_NAME, name);
        });
        frame(&mut w, NFNL_MSG_BATCH_END, first + 2);
        match self.socket.transact(&w, first + 1, |_| {})?.into_iter().find(|r| r.errno != Errno::ENOENT) {
            None => Ok(()),
            Some(refusal) => Err(NftError::RefusedWhole(refusal)),
        }
    }

    /// Reads the rules of one chain, for their handles.
    pub fn read_chain(&mut self, table: Table, chain: &str) -> Result<Vec<ActualRule>, NftError> {
        self.dump(
            table,
            GETRULE,
            |w| {
                w.text(NFTA_RULE_TABLE, Table::NAME);
                w.text(NFTA_RULE_CHAIN, chain);
            },
            |p| decode::decode_rule(p).filter(|(name, _)| name == chain).map(|(_, rule)| rule),
        )
    }

    fn dump<T>(
        &mut self,
        table: Table,
        kind: u16,
        body: impl Fn(&mut Writer),
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NftError> {
        let result = self.socket.dump(
            NFNL_SUBSYS_NFTABLES << 8 | kind,
            |w| {
                w.raw(&nfgenmsg(family(table), 0));
                body(w);
            },
            |message| decode(message.payload),
        );
        match result {
            // The table or chain is not there: nothing to read.
            Err(NetlinkError::Refused(refusal)) if refusal.errno == Errno::ENOENT => Ok(Vec::new()),
            other => Ok(other?),
        }
    }
}

/// Finds out what the kernel can do with transactions that change nothing.
fn probe(socket: &mut Socket) -> Result<Features, NftError> {
    // The name can not exist: `nft` allows no blank in names.
    const ABSENT: &str = "calico probe";
    let mut attempt =
        |kind: u16, flags: u16, table_flags: u32, abort: bool| -> Result<Vec<Refusal>, NftError> {
            let first = socket.reserve(4);
            let mut w = Writer::new();
            let frame = |w: &mut Writer, kind: u16, seq: u32| {
                w.message(kind, REQUEST, seq, |w| w.raw(&nfgenmsg(NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES)));
            };
            frame(&mut w, NFNL_MSG_BATCH_BEGIN, first);
            w.message(NFNL_SUBSYS_NFTABLES << 8 | kind, REQUEST | ACK | flags, first + 1, |w| {
                w.raw(&nfgenmsg(NFPROTO_INET, 0));
                w.text(NFTA_TABLE_NAME, ABSENT);
                w.be32(NFTA_TABLE_FLAGS, table_flags);
            });
            if abort {
                // Deleting a chain that does not exist refuses the whole batch: the table is never made.
                w.message(NFNL_SUBSYS_NFTABLES << 8 | DELCHAIN, REQUEST | ACK, first + 2, |w| {
                    w.raw(&nfgenmsg(NFPROTO_INET, 0));
                    w.text(NFTA_CHAIN_TABLE, ABSENT);
                    w.text(NFTA_CHAIN_NAME, ABSENT);
                });
            }
            frame(&mut w, NFNL_MSG_BATCH_END, first + 3);
            let last = if abort { first + 2 } else { first + 1 };
            let refusals = socket.transact(&w, last, |_| {})?;
            Ok(refusals.into_iter().filter(|r| r.seq <= first + 1).collect())
        };
    let destroy = attempt(DESTROYTABLE, 0, 0, false)?;
    if let Some(refusal) = destroy.iter().find(|r| r.errno == Errno::EPERM) {
        return Err(NftError::RefusedWhole(refusal.clone()));
    }
    let owner = attempt(NEWTABLE, CREATE, NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST, true)?;
    Ok(Features { destroy: destroy.is_empty(), persistent_owner: owner.is_empty() })
}

#[cfg(test)]
mod tests;
