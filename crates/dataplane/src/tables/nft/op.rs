//! What can be done to nf_tables, one operation per kernel object: the lines of an nftables plan.

use std::fmt;

use calico_rules::nft::{ChainKind, Data, Element, Rule, SetSpec, Table, Verdict};
use smol_str::SmolStr;

use super::identity::RuleId;

/// The kernel's name for a rule, unique in its table, never reused while the table lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleHandle(pub u64);

/// What no two elements of one set may share: the key, or an interval's first key.
pub fn element_key(element: &Element) -> &Data {
    match element {
        Element::Exact(key) | Element::Interval { first: key, .. } | Element::Verdict { key, .. } => key,
    }
}

/// Where a new rule goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// After the chain's last rule.
    Last,
    /// Right before this rule of the same chain.
    Before(RuleHandle),
}

/// One operation of a transaction. Each names one object, so that a refusal by the kernel names it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NftOp {
    /// Create the table if it is absent, and claim it.
    AddTable(Table),
    /// Delete the table and all that is in it.
    DeleteTable(Table),
    /// Create a chain, empty.
    AddChain {
        /// Its table.
        table: Table,
        /// Its name.
        chain: SmolStr,
        /// How it is entered.
        kind: ChainKind,
    },
    /// Delete all rules of a chain.
    FlushChain {
        /// Its table.
        table: Table,
        /// Its name.
        chain: SmolStr,
    },
    /// Delete a chain that nothing refers to any more.
    DeleteChain {
        /// Its table.
        table: Table,
        /// Its name.
        chain: SmolStr,
    },
    /// Create a set or map, empty.
    AddSet {
        /// Its table.
        table: Table,
        /// Its name.
        set: SmolStr,
        /// Its shape.
        spec: SetSpec,
    },
    /// Delete a set or map that nothing refers to any more.
    DeleteSet {
        /// Its table.
        table: Table,
        /// Its name.
        set: SmolStr,
    },
    /// Add elements; one that is there already stays.
    AddElements {
        /// The set's table.
        table: Table,
        /// The set's name.
        set: SmolStr,
        /// The new elements.
        elements: Vec<Element>,
    },
    /// Remove elements.
    DeleteElements {
        /// The set's table.
        table: Table,
        /// The set's name.
        set: SmolStr,
        /// The elements to remove.
        elements: Vec<Element>,
    },
    /// Add a rule.
    AddRule {
        /// The chain's table.
        table: Table,
        /// The chain's name.
        chain: SmolStr,
        /// Where in the chain.
        place: Place,
        /// The rule.
        rule: Rule,
        /// Its identity, written beside it so that a later process knows it again.
        id: RuleId,
    },
    /// Remove one rule.
    DeleteRule {
        /// The chain's table.
        table: Table,
        /// The chain's name.
        chain: SmolStr,
        /// Which.
        handle: RuleHandle,
    },
}

/// What an operation is about: the unit that is made to deny when the kernel refuses it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NftObject {
    /// A whole table.
    Table(Table),
    /// A chain and its rules.
    Chain(Table, SmolStr),
    /// A set and its elements.
    Set(Table, SmolStr),
}

impl NftOp {
    /// The object that the operation changes.
    pub fn object(&self) -> NftObject {
        match self {
            NftOp::AddTable(table) | NftOp::DeleteTable(table) => NftObject::Table(*table),
            NftOp::AddChain { table, chain, .. }
            | NftOp::FlushChain { table, chain }
            | NftOp::DeleteChain { table, chain }
            | NftOp::AddRule { table, chain, .. }
            | NftOp::DeleteRule { table, chain, .. } => NftObject::Chain(*table, chain.clone()),
            NftOp::AddSet { table, set, .. }
            | NftOp::DeleteSet { table, set }
            | NftOp::AddElements { table, set, .. }
            | NftOp::DeleteElements { table, set, .. } => NftObject::Set(*table, set.clone()),
        }
    }
}

/// `inet calico` or `arp calico`.
pub(crate) fn table_name(table: Table) -> &'static str {
    match table {
        Table::Inet => "inet calico",
        Table::Arp => "arp calico",
    }
}

impl fmt::Display for NftObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NftObject::Table(t) => write!(f, "table {}", table_name(*t)),
            NftObject::Chain(t, name) => write!(f, "chain {} {name}", table_name(*t)),
            NftObject::Set(t, name) => write!(f, "set {} {name}", table_name(*t)),
        }
    }
}

/// Keys print as hex: what they mean depends on the set.
fn write_hex(f: &mut fmt::Formatter<'_>, data: &[u8]) -> fmt::Result {
    data.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn write_element(f: &mut fmt::Formatter<'_>, element: &Element) -> fmt::Result {
    match element {
        Element::Exact(key) => write_hex(f, key),
        Element::Interval { first, last } => {
            write_hex(f, first)?;
            f.write_str("-")?;
            write_hex(f, last)
        }
        Element::Verdict { key, verdict } => {
            write_hex(f, key)?;
            match verdict {
                Verdict::Accept => f.write_str(": accept"),
                Verdict::Drop => f.write_str(": drop"),
                Verdict::Return => f.write_str(": return"),
                Verdict::Jump(chain) => write!(f, ": jump {chain}"),
                Verdict::Goto(chain) => write!(f, ": goto {chain}"),
            }
        }
    }
}

/// One line, in the manner of `nft` commands.
impl fmt::Display for NftOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, elements: &[Element]| {
            elements.iter().enumerate().try_for_each(|(i, element)| {
                f.write_str(if i == 0 { " { " } else { ", " })?;
                write_element(f, element)
            })?;
            f.write_str(" }")
        };
        match self {
            NftOp::AddTable(t) => write!(f, "add table {}", table_name(*t)),
            NftOp::DeleteTable(t) => write!(f, "delete table {}", table_name(*t)),
            NftOp::AddChain { table, chain, kind } => {
                write!(f, "add chain {} {chain}", table_name(*table))?;
                match kind {
                    ChainKind::Regular => Ok(()),
                    ChainKind::Base { hook, priority, chain_type } => {
                        write!(f, " {{ {chain_type:?} hook {hook:?} priority {priority} }}")
                    }
                }
            }
            NftOp::FlushChain { table, chain } => write!(f, "flush chain {} {chain}", table_name(*table)),
            NftOp::DeleteChain { table, chain } => write!(f, "delete chain {} {chain}", table_name(*table)),
            NftOp::AddSet { table, set, spec } => write!(
                f,
                "add {} {} {set} {:?}{}",
                if spec.verdict_map { "map" } else { "set" },
                table_name(*table),
                spec.key,
                if spec.interval { " interval" } else { "" }
            ),
            NftOp::DeleteSet { table, set } => write!(f, "delete set {} {set}", table_name(*table)),
            NftOp::AddElements { table, set, elements } => {
                write!(f, "add element {} {set}", table_name(*table))?;
                list(f, elements)
            }
            NftOp::DeleteElements { table, set, elements } => {
                write!(f, "delete element {} {set}", table_name(*table))?;
                list(f, elements)
            }
            NftOp::AddRule { table, chain, place, rule, id } => {
                match place {
                    Place::Last => write!(f, "add rule {} {chain}", table_name(*table))?,
                    Place::Before(at) => {
                        write!(f, "insert rule {} {chain} before {}", table_name(*table), at.0)?;
                    }
                }
                write!(f, " {id} {:?} {:?}", rule.comment, rule.exprs)
            }
            NftOp::DeleteRule { table, chain, handle } => {
                write!(f, "delete rule {} {chain} handle {}", table_name(*table), handle.0)
            }
        }
    }
}
