//! Values that count and values that do not.

use super::*;

fn from(pairs: &[(&str, &str)]) -> Result<Settings, SettingError> {
    let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    Settings::from_vars(&find)
}

#[test]
fn nothing_set() {
    let settings = from(&[]).unwrap();
    assert_eq!(settings.backend, Backend::Bird);
    assert_eq!((settings.v4.source, settings.v6.source), (AddressSource::Unset, AddressSource::Unset));
    let v4 = settings.v4_pool.unwrap();
    assert_eq!((v4.cidr, v4.block_size, v4.nat_outgoing), (None, 26, true));
    let v6 = settings.v6_pool.unwrap();
    assert_eq!((v6.block_size, v6.nat_outgoing, v6.node_selector.as_str()), (122, false, "all()"));
}

#[test]
fn everything_set() {
    let settings = from(&[
        ("WAIT_FOR_DATASTORE", "true"),
        ("CALICO_NETWORKING_BACKEND", "vxlan"),
        ("IP", "10.0.0.1"),
        ("IP6", "fd00::1/64"),
        ("IP_AUTODETECTION_METHOD", "cidr=10.0.0.0/8"),
        ("AS", "1.10"),
        ("CALICO_K8S_NODE_REF", "k"),
        ("DISABLE_NODE_IP_CHECK", "true"),
        ("CLUSTER_TYPE", "lab"),
        ("CALICO_IPV4POOL_CIDR", "10.244.0.0/16"),
        ("CALICO_IPV4POOL_IPIP", "off"),
        ("CALICO_IPV4POOL_VXLAN", "cross-subnet"),
        ("CALICO_IPV4POOL_NAT_OUTGOING", "false"),
        ("CALICO_IPV4POOL_NODE_SELECTOR", "has(x)"),
        ("CALICO_IPV6POOL_CIDR", "none"),
    ])
    .unwrap();
    assert!(settings.wait_for_datastore && settings.skip_conflict_check);
    assert_eq!(settings.backend, Backend::Vxlan);
    assert_eq!(settings.v4.source, AddressSource::Given("10.0.0.1".parse().unwrap(), None));
    assert_eq!(settings.v6.source, AddressSource::Given("fd00::1".parse().unwrap(), Some(64)));
    assert_eq!((settings.asn, settings.k8s_node.as_deref()), (Some(Asn(65546)), Some("k")));
    let pool = settings.v4_pool.unwrap();
    assert_eq!(pool.vxlan, calico_api::EncapMode::CrossSubnet);
    assert_eq!((pool.nat_outgoing, pool.node_selector.as_str()), (false, "has(x)"));
    assert_eq!(settings.v6_pool, None);
    assert_eq!(from(&[("NO_DEFAULT_POOLS", "true")]).unwrap().v4_pool, None);
}

#[test]
fn kubeadm_fills_what_the_environment_leaves_open() {
    let kubeadm = Kubeadm { pods: vec!["10.244.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()] };
    let check = |pairs: &[(&str, &str)], expected: [Option<&str>; 2], cluster_type: &str| {
        let mut settings = from(pairs).unwrap();
        settings.follow(&kubeadm);
        let cidr = |pool: Option<PoolSettings>| pool.and_then(|pool| pool.cidr).map(|cidr| cidr.to_string());
        assert_eq!([cidr(settings.v4_pool), cidr(settings.v6_pool)], expected.map(|c| c.map(str::to_owned)));
        assert_eq!(settings.cluster_type, cluster_type);
    };
    check(&[], [Some("10.244.0.0/16"), Some("fd00::/48")], "kubeadm");
    check(
        &[("CALICO_IPV4POOL_CIDR", "10.1.0.0/16"), ("CLUSTER_TYPE", "k8s,bgp")],
        [Some("10.1.0.0/16"), Some("fd00::/48")],
        "k8s,bgp,kubeadm",
    );
    check(&[("CALICO_IPV6POOL_CIDR", "none")], [Some("10.244.0.0/16"), None], "kubeadm");
    check(&[("NO_DEFAULT_POOLS", "true")], [None, None], "kubeadm");

    let mut settings = from(&[]).unwrap();
    settings.follow(&Kubeadm { pods: vec!["10.244.0.0/28".parse().unwrap()] });
    assert_eq!(settings.v4_pool.unwrap().cidr, None);
}

#[test]
fn errors_name_the_variable() {
    for (name, value) in [
        ("WAIT_FOR_DATASTORE", "maybe"),
        ("CALICO_NETWORKING_BACKEND", "gobgp"),
        ("IP", "fd00::1"),
        ("IP", "ten"),
        ("IP6", "10.0.0.1"),
        ("IP_AUTODETECTION_METHOD", "guess"),
        ("IP6_AUTODETECTION_METHOD", "interface=["),
        ("AS", "x"),
        ("CALICO_IPV4POOL_CIDR", "10.0.0.1/16"),
        ("CALICO_IPV4POOL_CIDR", "fd00::/64"),
        ("CALICO_IPV4POOL_BLOCK_SIZE", "19"),
        ("CALICO_IPV4POOL_IPIP", "sometimes"),
        ("CALICO_IPV4POOL_VXLAN", "sometimes"),
        ("CALICO_IPV4POOL_NODE_SELECTOR", "a =="),
        ("CALICO_IPV6POOL_BLOCK_SIZE", "64"),
    ] {
        assert_eq!(from(&[(name, value)]).unwrap_err().variable, name, "{value}");
    }
    let both = [("CALICO_IPV4POOL_IPIP", "Always"), ("CALICO_IPV4POOL_VXLAN", "CrossSubnet")];
    assert_eq!(
        from(&both).unwrap_err().to_string(),
        "CALICO_IPV4POOL_IPIP: it excludes CALICO_IPV4POOL_VXLAN: set one of them to Never"
    );
    let small = [("CALICO_IPV4POOL_CIDR", "10.0.0.0/27")];
    assert!(from(&small).unwrap_err().problem.contains("one block"));
}

#[test]
fn names() {
    let vars = |name: &str| match name {
        "NODENAME" => Some("Given".to_owned()),
        "HOSTNAME" => Some("Host".to_owned()),
        _ => None,
    };
    let host = |name: &str| (name == "HOSTNAME").then(|| "Host".to_owned());
    assert_eq!(select_node_name(&vars, Some("file"), "sys"), "Given");
    assert_eq!(select_node_name(&host, Some("file\n"), "sys"), "file");
    assert_eq!(select_node_name(&host, Some(" "), "sys"), "host");
    assert_eq!(select_node_name(&|_| None, None, "Sys"), "sys");
}
