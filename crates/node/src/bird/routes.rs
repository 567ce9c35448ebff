//! BIRD's routes in the kernel's main table, of which nobody else makes any.

use calico_dataplane::tables::route::{Route, RouteOp};
use calico_linux::rtnl::{Rtnl, RtnlError};
use calico_net::Family;

/// `RTPROT_BIRD`: all routes that BIRD 2 installs, and nobody else's (linux/rtnetlink.h).
const PROTOCOL_BIRD: u8 = 12;
/// The kernel's main table (linux/rtnetlink.h).
const MAIN_TABLE: u32 = 254;

/// Reads the routes of BIRD's, whichever BIRD's.
pub fn read_bird_routes() -> Result<Vec<Route>, RtnlError> {
    let mut rtnl = Rtnl::open()?;
    rtnl.read_links()?;
    let mut found = Vec::new();
    for family in Family::ALL {
        let routes = rtnl.read_routes(family, MAIN_TABLE)?;
        found.extend(routes.into_iter().filter(|route| route.protocol == PROTOCOL_BIRD));
    }
    Ok(found)
}

/// Removes routes. Returns what the kernel refused; that a route has gone already is no refusal.
pub fn remove_routes(routes: &[Route]) -> Result<Vec<RtnlError>, RtnlError> {
    let mut rtnl = Rtnl::open()?;
    rtnl.read_links()?;
    let ops: Vec<RouteOp> = routes.iter().cloned().map(RouteOp::Delete).collect();
    Ok(rtnl.apply_routes(&ops)?.into_iter().map(|(_, error)| error).collect())
}
