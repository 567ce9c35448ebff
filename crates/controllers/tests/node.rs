//! The whole role over a store: what nobody uses is released after its grace period, what is in use never, and what is
//! said of it.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test: it reads files, waits for conditions with a deadline, and stops at the first surprise"
)]

#[path = "node/api_server.rs"]
mod api_server;
#[path = "node/bench.rs"]
mod bench;
#[path = "node/embedded.rs"]
mod embedded;
