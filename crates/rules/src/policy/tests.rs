//! Policies to chains.
