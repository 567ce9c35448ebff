//! The verbs over a real datastore and a real kernel: an embedded store, namespaces for "host" and containers.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests of IO: files, and a word where one is skipped"
)]

mod add;
mod bad;
mod check;
mod del;
mod gc;
mod kube;
mod pods;
mod record;
mod upgrade;
mod world;
