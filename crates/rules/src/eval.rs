//! The evaluator: what the IR does to a packet, and why.
