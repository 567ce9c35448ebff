//! The selector language and the label index: which endpoints a policy, a rule or a resource speaks of.
//!
//! ```text
//! text ──parse──▶ Selector ──Display──▶ canonical text ──SHA-224──▶ uid (names the IP set)
//!                    │
//!                    ├─ matches(labels)          one set of labels, by strings
//!                    ├─ restrictions()           what every match must have, label by label
//!                    └─ index::Index             all endpoints against all selectors, incrementally
//! ```
//!
//! Pure: no clock, no files, no randomness. Behaviour is Calico's, as spec 2 §4 describes it.

#![forbid(unsafe_code)]

mod expr;
#[cfg(test)]
mod generated;
mod labels;
mod lexer;
mod parser;
mod restriction;
mod selector;
mod text;
mod uid;

pub mod index;
pub mod translation;

pub use expr::{Expr, Test};
pub use labels::Labels;
pub use parser::{MAX_NESTING, ParseError};
pub use restriction::Restriction;
pub use selector::{Selector, normalise, parse};
pub use uid::unique_id;
