//! Leaving a node: everything of ours goes from the kernel, and what another Calico left with it.
//!
//! What is removed is found by reading before and after, so the outcome is what the kernel shows and not what was
//! asked of it. Veths stay: they belong to their containers.

use std::collections::BTreeSet;
use std::path::Path;

use calico_api::felix_config::{Setting, resolve};
use calico_api::status_file;
use calico_dataplane::tables::nft::NftOp;
use calico_dataplane::{Kernel, KernelError, NftRefusal, Problem, Settings, leftovers};
use calico_linux::RealKernel;
use calico_linux::sysctl::Sysctl;
use calico_rules::mark::MarkError;
use calico_rules::nft::Table;

use crate::settings::dataplane_settings;

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// The kernel could not be read.
    #[error("cannot read the kernel")]
    Kernel(#[from] KernelError),
    /// Our tables cannot be claimed: the agent runs, and would put everything back.
    #[error("the agent still runs: {0}")]
    AgentRuns(NftRefusal),
    /// The mark mask has too few bits.
    #[error("NftablesMarkMask")]
    Marks(#[from] MarkError),
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is gone now.
    pub removed: Vec<String>,
    /// What should be gone and is not.
    pub problems: Vec<Problem>,
}

/// Removes tables, tunnel devices, routes, neighbours and status files of ours. `local` are the options of file and environment: they
/// say which interfaces and routes are ours.
pub fn cleanup(local: Vec<Setting>, sysctl: Sysctl) -> Result<Outcome, CleanupError> {
    let config = resolve(local).config;
    let settings = dataplane_settings(&config, String::new())?;
    let mut kernel = RealKernel::open(sysctl)?;
    let before = survey(&settings, &mut kernel)?;
    claim(&before, &mut kernel)?;

    let mut outcome = Outcome::default();
    let status = Path::new(&config.endpoint_status_path_prefix).join(status_file::DIRECTORY);
    // Closed early: whoever waits for a file must not find one of an endpoint that has no route any more.
    match std::fs::remove_dir_all(&status) {
        Ok(()) => outcome.removed.push(format!("directory {}", status.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            outcome.problems.push(Problem { object: status.display().to_string(), reason: error.to_string() })
        }
    }
    outcome.problems.extend(calico_dataplane::cleanup(&settings, &mut kernel));
    let complete = calico_dataplane::Report { complete: true, ..Default::default() };
    outcome.problems.extend(leftovers::remove(&mut kernel, &complete));

    let after = survey(&settings, &mut kernel)?;
    outcome.removed.extend(before.names.difference(&after.names).cloned());
    let stays = |object: &String| Problem { object: object.clone(), reason: "it is still there".to_owned() };
    outcome.problems.extend(after.names.iter().map(stays));
    Ok(outcome)
}

/// What there is of ours.
struct Survey {
    tables: Vec<Table>,
    names: BTreeSet<String>,
}

fn survey(settings: &Settings, kernel: &mut dyn Kernel) -> Result<Survey, KernelError> {
    let ownership = &settings.routes;
    // Interfaces first: routes and neighbours name them by number.
    kernel.read_links()?;
    let tables: Vec<Table> = kernel.read_nft()?.into_keys().collect();
    let mut names: BTreeSet<String> =
        tables.iter().map(|t| NftOp::AddTable(*t).object().to_string()).collect();
    let routes = kernel.read_routes()?.into_iter().filter(|r| ownership.is_ours(r));
    names.extend(routes.map(|route| format!("route {route}")));
    let neighbours = kernel.read_neighbours()?.into_iter();
    let neighbours = neighbours.filter(|n| n.permanent && ownership.is_workload(&n.key.device));
    names.extend(neighbours.map(|n| format!("neighbour {} dev {}", n.key.address, n.key.device)));
    names.extend(kernel.read_tunnels()?.into_iter().map(|tunnel| format!("device {}", tunnel.name)));
    names.extend(
        leftovers::plan(&kernel.read_leftovers()?).iter().map(|op| format!("another Calico's: {op}")),
    );
    Ok(Survey { tables, names })
}

/// Claims the tables without changing them: refused while another process owns them.
fn claim(survey: &Survey, kernel: &mut dyn Kernel) -> Result<(), CleanupError> {
    let claims: Vec<NftOp> = survey.tables.iter().map(|table| NftOp::AddTable(*table)).collect();
    kernel.apply_nft(&claims).map_err(CleanupError::AgentRuns)
}
