//! What the fuzz targets do, one function each, and the inputs that they start from.
//!
//! A target takes bytes as they may come from outside, decodes them, and asserts two things: nothing panics, and what
//! was decoded comes out the same when it is encoded and decoded again. Seeds are made by the project's own encoders
//! (the binary `seeds`).

#![allow(clippy::disallowed_methods, reason = "these are tests")]

pub mod api;
pub mod cni;
pub mod ipam;
pub mod kernel;
pub mod kubernetes;
pub mod net;
pub mod node;

/// The inputs that targets start from, by target.
pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    [
        api::seeds(),
        cni::seeds(),
        ipam::seeds(),
        kernel::seeds(),
        kubernetes::seeds(),
        net::seeds(),
        node::seeds(),
    ]
    .concat()
}

/// The first byte, which chooses among cases, and the rest.
fn choice(data: &[u8]) -> Option<(usize, &[u8])> {
    data.split_first().map(|(first, rest)| (usize::from(*first), rest))
}

/// The input as text.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Lines `NAME=VALUE` as an environment.
fn environment(text: &str) -> impl Fn(&str) -> Option<String> {
    let pairs: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    move |name| pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
}

/// Seeds from texts.
fn texts<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.iter().map(|t| t.as_bytes().to_vec()).collect()
}
