//! From changes to tables, on the fake kernel.
