//! The real kernel keeps the contract that the fake one keeps.
