//! The CNI plugins `calico` and `calico-ipam`, and the agent's side of them.
//!
//! ```text
//!  runtime ──env, stdin──▶ plugin process ──Request + netns descriptor──▶ agent's server ─┐
//!                              │ (no agent configured)                                    ├─▶ attach / detach / check
//!                              └──────────────────────────────────────────────────────────┘    IPAM, veth, endpoint
//! ```

#![forbid(unsafe_code)]

pub mod arguments;
pub mod error;
pub mod netconf;
pub mod result;
pub mod version;
