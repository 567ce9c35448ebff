//! The shipped binary as CNI plugin: alone, through the agent's socket, without an agent, and under `cnitool`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests of processes and files, and a word where one is skipped"
)]

mod agent;
mod bad;
mod chain;
mod direct;
mod machine;
