//! BGPConfiguration → [`ConfigFacts`]. What is wrong in it counts as not set: the rest of the cluster's settings stand.

use calico_api::{BGPConfigurationSpec, PrefixAdvertisement, Resource};
use calico_net::Cidr;
use rustc_hash::FxHashMap;

use super::peer::{Extensions, extensions, secret_ref, secs};
use super::{Texts, field};
use crate::intent::{Advertisement, Community, LogLevel};
use crate::world::{ConfigFacts, Programs};

pub(super) fn config_facts(config: Resource<BGPConfigurationSpec>, texts: &mut Texts) -> Option<ConfigFacts> {
    let spec = config.spec;
    let mut usable =
        |value: Result<_, String>| value.map_err(|text| texts.push(format!("{text}; it is ignored"))).ok();
    let mesh_password = usable(secret_ref("nodeMeshPassword", spec.node_mesh_password.as_ref())).flatten();
    let mesh = extensions(&config.metadata).unwrap_or_else(|text| {
        texts.push(format!("{text}; the mesh goes without what annotations ask for"));
        Extensions::default()
    });
    let mesh_restart_time_secs = spec.node_mesh_max_restart_time.and_then(|time| {
        secs("nodeMeshMaxRestartTime", time).map_err(|text| texts.push(format!("{text}; it is ignored"))).ok()
    });
    let log_level = match spec.log_severity_screen.to_ascii_lowercase().as_str() {
        "" => None,
        "none" => Some(LogLevel::Silent),
        "debug" | "trace" => Some(LogLevel::Debug),
        _ => Some(LogLevel::Normal),
    };
    let programs = spec.program_cluster_routes.as_deref().map(|word| {
        let is = |wanted: &str| word.eq_ignore_ascii_case(wanted);
        let off = is("Disabled");
        Programs { plain: !off && !is("EnabledIPIPOnly"), ipip: is("Enabled") || is("EnabledIPIPOnly") }
    });
    let advertisements = (!spec.prefix_advertisements.is_empty()).then(|| {
        let known: FxHashMap<&str, &str> =
            spec.communities.iter().map(|c| (c.name.as_str(), c.value.as_str())).collect();
        spec.prefix_advertisements.iter().filter_map(|a| advertisement(a, &known, texts)).collect()
    });
    Some(ConfigFacts {
        mesh_enabled: spec.node_to_node_mesh_enabled,
        asn: spec.as_number,
        listen_port: spec.listen_port.filter(|port| *port != 0),
        log_level,
        mesh_restart_time_secs,
        mesh_password,
        mesh_bfd: mesh.bfd,
        mesh_long_lived: mesh.long_lived,
        node_ip_only: spec.bind_mode.eq_ignore_ascii_case("NodeIP"),
        ignored_interfaces: spec.ignored_interfaces,
        advertisements,
        programs,
        normal_priority_v4: spec.ipv4_normal_route_priority.filter(|p| *p != 0),
        normal_priority_v6: spec.ipv6_normal_route_priority.filter(|p| *p != 0),
    })
}

fn advertisement(
    text: &PrefixAdvertisement,
    known: &FxHashMap<&str, &str>,
    texts: &mut Texts,
) -> Option<Advertisement> {
    let cidr = field("prefixAdvertisements", &text.cidr, str::parse::<Cidr>, texts)?;
    let communities: Vec<Community> = text
        .communities
        .iter()
        .filter_map(|word| {
            let value = known.get(word.as_str()).copied().unwrap_or(word);
            field("prefixAdvertisements", value, str::parse, texts)
        })
        .collect();
    (!communities.is_empty()).then_some(Advertisement { cidr, communities })
}
