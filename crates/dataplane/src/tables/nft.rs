//! nf_tables: desired tables, chains, rules and sets, and the transaction that makes the kernel's equal to them.

pub mod actual;
pub mod identity;
pub mod op;

pub use actual::{ActualChain, ActualNft, ActualRule, ActualSet, ActualTable};
pub use identity::{NamedRule, RuleId};
pub use op::{Element, NftObject, NftOp, Place, RuleHandle};
