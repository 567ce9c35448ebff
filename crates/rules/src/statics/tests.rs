//! Statics.
