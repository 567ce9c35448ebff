//! What tests of several crates share. Nothing here is linked into the product.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "servers of tests live in files, wait for conditions with a deadline, and say why they are not there"
)]

pub mod adversary;
pub mod api_server;
pub mod captured;
pub mod mutation;
