//! What tests of several crates share. Nothing here is linked into the product.

pub mod adversary;
pub mod mutation;
