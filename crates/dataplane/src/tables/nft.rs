//! nf_tables: desired tables, chains, rules and sets, and the transaction that makes the kernel's equal to them.

pub mod actual;
mod diff;
mod elements;
pub mod identity;
pub mod op;
pub mod ruleset;

pub use actual::{ActualChain, ActualNft, ActualRule, ActualSet, ActualTable};
pub use calico_rules::nft::Element;
pub use identity::{NamedRule, RuleId};
pub use op::{NftObject, NftOp, Place, RuleHandle, element_key};
pub use ruleset::{NftPlan, Ruleset, RulesetCounts};
