//! Policy to packet rules: chain IR, its rendering to nftables, its evaluation.
//!
//! Pure. [`nft`] is the vocabulary of the output: what `dataplane` plans and `linux` encodes.

pub mod nft;
