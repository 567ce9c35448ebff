//! Three ways to the same answer: the meaning of a policy written out naively, the evaluator on the IR, and an
//! interpreter of nf_tables expressions on packet bytes. They share no code, and must never differ.

mod arbitrary;
mod interpreter;
mod naive;
mod properties;
