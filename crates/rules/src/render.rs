//! Renderers: the same IR in the words of one kernel interface each.

pub mod nftables;
pub mod text;

pub use nftables::{render_chain, render_rule};
