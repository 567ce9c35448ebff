//! The one shipped binary: a pure dispatch on `argv[0]` and arguments.
fn main() {}
