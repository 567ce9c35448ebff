//! Node state to kernel tables: what the kernel should hold, and the plan that takes it there.
//!
//! Pure: the kernel is a trait. [`tables`] has one module per kernel table.
//!
//! ```text
//! calc::Change ──▶ Desired ──render──▶ tables ──plan──▶ Plan ──apply──▶ Kernel ──▶ Report
//! interfaces   ──▶    ▲                                                   │
//!                     └────────────────── resync: read, adopt ◀───────────┘
//! ```

#![forbid(unsafe_code)]

pub mod apply;
pub mod contract;
pub mod desired;
pub mod fake;
pub mod interval;
pub mod kernel;
pub mod leftovers;
pub mod plan;
pub mod tables;

pub use apply::{Problem, Report, apply, cleanup, has_drifted, resync};
pub use desired::{Desired, Settings, WorkloadState};
pub use fake::FakeKernel;
pub use kernel::{Kernel, KernelError, NftRefusal};
pub use plan::Plan;
