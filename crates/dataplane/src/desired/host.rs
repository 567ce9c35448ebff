//! Host endpoints: which interface each one governs (spec 2 §5.3).

use std::collections::BTreeMap;

use calico_net::IfName;
use calico_rules::HostChains;

use super::Desired;
use super::contribution::Owner;

impl Desired {
    /// Renders the dispatch of all host endpoints. They are few and seldom change, so all at once.
    pub(super) fn render_hosts(&mut self) {
        let mut by_interface: BTreeMap<IfName, &HostChains> = BTreeMap::new();
        let mut any: Option<&HostChains> = None;
        // Endpoints come in the order of their names, and the first that means an interface has it, be it by the
        // interface's name or by an address. One that names an interface is never looked for by address.
        for (endpoint, chains) in self.host_endpoints.values() {
            let has = |name: &IfName| {
                self.addresses
                    .get(name)
                    .is_some_and(|a| endpoint.expected_ips.iter().any(|ip| a.contains(ip)))
            };
            match endpoint.interface.as_str() {
                "*" => any = any.or(Some(chains)),
                "" => {
                    let hosts = |name: &&IfName| !self.settings.routes.is_workload(name);
                    for name in self.links.keys().filter(hosts).filter(|name| has(name)) {
                        by_interface.entry(name.clone()).or_insert(chains);
                    }
                }
                // Before there is such an interface: one that comes (a tunnel that is dialled, say) must not be open until we
                // have heard of it. What cannot be the name of one is none.
                wanted => {
                    if let Ok(name) = wanted.parse() {
                        by_interface.entry(name).or_insert(chains);
                    }
                }
            }
        }
        let by_interface = by_interface.iter().map(|(name, chains)| (name, *chains));
        let fragment = calico_rules::host_dispatch(by_interface, any, &self.settings.rules);
        self.contribute(Owner::Hosts, fragment);
    }
}
