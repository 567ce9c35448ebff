//! Host endpoints: which interface each one governs (spec 2 §5.3).

use std::collections::BTreeMap;

use calico_net::IfName;
use calico_rules::HostChains;

use super::Desired;
use super::contribution::Owner;

impl Desired {
    /// Renders the dispatch of all host endpoints. They are few and seldom change, so all at once.
    pub(super) fn render_hosts(&mut self) {
        let mut by_interface: BTreeMap<&IfName, &HostChains> = BTreeMap::new();
        let mut any: Option<&HostChains> = None;
        // Endpoints come in the order of their names, and the first has it. A name of an interface is worth more than
        // an address.
        let named = self.host_endpoints.values().filter(|(e, _)| !e.interface.is_empty());
        for (endpoint, chains) in named {
            if endpoint.interface == "*" {
                any = any.or(Some(chains));
            } else if let Some((name, _)) =
                self.links.iter().find(|(name, _)| name.as_str() == endpoint.interface)
            {
                by_interface.entry(name).or_insert(chains);
            }
        }
        for (endpoint, chains) in self.host_endpoints.values().filter(|(e, _)| e.interface.is_empty()) {
            let has = |name: &IfName| {
                self.addresses
                    .get(name)
                    .is_some_and(|a| endpoint.expected_ips.iter().any(|ip| a.contains(ip)))
            };
            for name in self.links.keys().filter(|name| !self.settings.routes.is_workload(name)) {
                if has(name) {
                    by_interface.entry(name).or_insert(chains);
                }
            }
        }
        let fragment = calico_rules::host_dispatch(by_interface, any, &self.settings.rules);
        self.contribute(Owner::Hosts, fragment);
    }
}
