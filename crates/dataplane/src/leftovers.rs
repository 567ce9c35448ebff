//! What another Calico left in the kernel, in either of its modes: recognised, and removed once our own tables stand.
//!
//! Routes, neighbours and interfaces need no special treatment: our tables recognise and adopt them
//! ([`crate::tables::route::RouteOwnership`]). Here are the tables that we make otherwise. Until everything of ours is
//! in place they go on enforcing; that two rulesets are in force for a moment only drops what either drops.

use std::fmt;

use calico_net::Family;

use crate::apply::{Problem, Report};
use crate::kernel::Kernel;

/// Which of the two kernel interfaces an iptables program speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// x_tables: `iptables-legacy`.
    Legacy,
    /// nf_tables: `iptables-nft`.
    Nft,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// nf_tables tables by family (`ip`, `ip6`, `arp`) and name.
    pub nft_tables: Vec<(String, String)>,
    /// The output of `iptables-save`, by program.
    pub iptables: Vec<(Backend, Family, String)>,
    /// Names of all ipsets.
    pub ip_sets: Vec<String>,
}

/// One step of the removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftoverOp {
    /// Delete an nf_tables table.
    DeleteNftTable {
        /// `ip`, `ip6` or `arp`.
        family: String,
        /// Its name.
        name: String,
    },
    /// Feed this to `iptables-restore --noflush`.
    RestoreIptables {
        /// Which program.
        backend: Backend,
        /// Of which family.
        family: Family,
        /// Its input.
        input: String,
    },
    /// Destroy an ipset.
    DestroyIpSet(String),
}

/// Tables that Calico's nftables mode makes, and the one of every mode (spec 3 §6.5).
const NFT_TABLES: [(&str, &str); 3] = [("ip", "calico"), ("ip6", "calico"), ("arp", "calico-arp")];
/// Calico's ipsets, old names included (spec 3 §6.3).
const IP_SET_PREFIXES: [&str; 5] = ["cali40", "cali60", "cali4t", "cali6t", "felix-"];
const CHAIN_PREFIX: &str = "cali-";
/// The comment that Calico gives each of its rules.
const RULE_MARK: &str = "--comment \"cali:";

/// Whether an nf_tables table is another Calico's. Ours are `inet calico` and `arp calico`.
pub fn is_nft_leftover(family: &str, name: &str) -> bool {
    NFT_TABLES.contains(&(family, name))
}

/// Whether an ipset is Calico's.
pub fn is_ip_set_leftover(name: &str) -> bool {
    IP_SET_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The steps that remove what was found: rules before the sets that they ask.
pub fn plan(found: &Leftovers) -> Vec<LeftoverOp> {
    let Leftovers { nft_tables, iptables, ip_sets } = found;
    let tables = nft_tables
        .iter()
        .filter(|(family, name)| is_nft_leftover(family, name))
        .map(|(family, name)| LeftoverOp::DeleteNftTable { family: family.clone(), name: name.clone() });
    let rules = iptables.iter().filter_map(|(backend, family, saved)| {
        let input = plan_iptables(saved)?;
        Some(LeftoverOp::RestoreIptables { backend: *backend, family: *family, input })
    });
    let sets = ip_sets.iter().filter(|name| is_ip_set_leftover(name)).cloned().map(LeftoverOp::DestroyIpSet);
    tables.chain(rules).chain(sets).collect()
}

/// The input of `iptables-restore --noflush` that removes Calico's chains, and its rules in others' chains, from what
/// `iptables-save` printed; `None` if there are none.
fn plan_iptables(saved: &str) -> Option<String> {
    let mut input = String::new();
    let (mut rules, mut chains): (Vec<String>, Vec<&str>) = (Vec::new(), Vec::new());
    for line in saved.lines() {
        if line.starts_with('*') {
            input.push_str(line);
            input.push('\n');
        } else if let Some(chain) = line.strip_prefix(':').and_then(|l| l.split(' ').next()) {
            chains.extend(chain.starts_with(CHAIN_PREFIX).then_some(chain));
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let foreign = !rule.starts_with(CHAIN_PREFIX);
            let leads = ["-j", "-g"].iter().any(|to| rule.contains(&format!("{to} {CHAIN_PREFIX}")));
            if foreign && (rule.contains(RULE_MARK) || leads) {
                rules.push(format!("-D {rule}\n"));
            }
        } else if line == "COMMIT" {
            if rules.is_empty() && chains.is_empty() {
                // Nothing of this table: take its head back.
                input.truncate(input.trim_end().rfind('\n').map_or(0, |end| end + 1));
                continue;
            }
            input.extend(rules.drain(..));
            // Naming a chain empties it; all are empty before the first goes.
            input.extend(chains.iter().map(|chain| format!(":{chain} - [0:0]\n")));
            input.extend(chains.drain(..).map(|chain| format!("-X {chain}\n")));
            input.push_str("COMMIT\n");
        }
    }
    (!input.is_empty()).then_some(input)
}

/// Removes what another Calico left, if everything of ours is in place. Returns what could not be removed.
pub fn remove(kernel: &mut dyn Kernel, report: &Report) -> Vec<Problem> {
    if !report.complete {
        return Vec::new();
    }
    let problem = |object: String, reason: String| Problem { object, reason };
    let found = match kernel.read_leftovers() {
        Ok(found) => found,
        Err(error) => return vec![problem("leftovers".into(), error.to_string())],
    };
    plan(&found)
        .into_iter()
        .filter_map(|op| {
            let error = kernel.apply_leftover(&op).err()?;
            Some(problem(op.to_string(), error.to_string()))
        })
        .collect()
}

impl fmt::Display for LeftoverOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeftoverOp::DeleteNftTable { family, name } => write!(f, "delete table {family} {name}"),
            LeftoverOp::RestoreIptables { backend, family, input } => {
                write!(f, "{family} iptables ({backend:?}): {} lines", input.lines().count())
            }
            LeftoverOp::DestroyIpSet(name) => write!(f, "ipset destroy {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iptables_keep_what_is_not_calicos() {
        let saved = "# Generated\n*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT ACCEPT [5:300]\n:KUBE-FORWARD - [0:0]\n\
            :cali-FORWARD - [0:0]\n:cali-from-wl-dispatch - [0:0]\n\
            -A INPUT -p tcp --dport 22 -j ACCEPT\n\
            -A FORWARD -m comment --comment \"cali:wUHhoiAYhphO9Mso\" -j cali-FORWARD\n\
            -A FORWARD -m comment --comment \"cali:S93hcgKJrXEqnTfs\" -m mark --mark 0x10000/0x10000 -j ACCEPT\n\
            -A FORWARD -j KUBE-FORWARD\n\
            -A cali-FORWARD -m comment --comment \"cali:x\" -j cali-from-wl-dispatch\nCOMMIT\n# Completed\n";
        assert_eq!(
            plan_iptables(saved).unwrap(),
            "*filter\n\
            -D FORWARD -m comment --comment \"cali:wUHhoiAYhphO9Mso\" -j cali-FORWARD\n\
            -D FORWARD -m comment --comment \"cali:S93hcgKJrXEqnTfs\" -m mark --mark 0x10000/0x10000 -j ACCEPT\n\
            :cali-FORWARD - [0:0]\n:cali-from-wl-dispatch - [0:0]\n\
            -X cali-FORWARD\n-X cali-from-wl-dispatch\nCOMMIT\n"
        );
        assert_eq!(plan_iptables("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DOCKER\nCOMMIT\n"), None);
        assert_eq!(plan_iptables(""), None);
    }

    #[test]
    fn nothing_of_ours_or_of_others_is_a_leftover() {
        let text = |pair: (&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        let found = Leftovers {
            nft_tables: [
                ("inet", "calico"),
                ("arp", "calico"),
                ("ip", "calico"),
                ("ip", "filter"),
                ("arp", "calico-arp"),
            ]
            .map(text)
            .into(),
            iptables: vec![],
            ip_sets: ["cali40s:abc", "cali60all-hosts-net", "KUBE-CLUSTER-IP", "california"]
                .map(String::from)
                .into(),
        };
        let ops: Vec<String> = plan(&found).iter().map(ToString::to_string).collect();
        assert_eq!(
            ops,
            [
                "delete table ip calico",
                "delete table arp calico-arp",
                "ipset destroy cali40s:abc",
                "ipset destroy cali60all-hosts-net",
            ]
        );
    }
}
