//! What every [`Kernel`] must do, run on the fake one and on the real one alike.
//!
//! Each function is one test; it panics where the kernel does not do what the dataplane counts on.
