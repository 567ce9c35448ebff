//! Development tasks: tidy, generate.
fn main() {}
