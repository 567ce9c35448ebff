//! Kinds of the system itself: the cluster, host endpoints, and the controllers.

use super::Group;
use super::schema::{
    Schema, atomic_list, boolean, given, int_or_text, int32, integer, map_of, object, port, set, text, word,
};

pub fn cluster_information(_: Group) -> Schema {
    object([
        ("clusterGUID", text(), "Identity of the cluster."),
        ("clusterType", text(), "Kinds of the cluster, between commas."),
        ("calicoVersion", text(), "Version that runs."),
        ("datastoreReady", boolean(), "false while the datastore is locked."),
        ("variant", text(), "Variant of the product."),
    ])
}

pub fn host_endpoint(_: Group) -> Schema {
    let ports = object([
        ("name", text(), "Name for policies."),
        ("protocol", int_or_text(), "TCP, UDP or SCTP."),
        ("port", port(), "Number."),
    ])
    .required(&["name", "port", "protocol"]);
    object([
        ("node", text().longest(253), "Node of the interface."),
        ("interfaceName", text().longest(15), "The interface; `*` for all of the host."),
        (
            "expectedIPs",
            set(text()),
            "Addresses by which the interface is found, and which stand for it in policies.",
        ),
        ("profiles", set(text()), "Profiles that decide where no policy applies."),
        ("ports", atomic_list(ports), "Ports with names."),
    ])
    .rule(given("node"), "node must name the node of the interface")
    .rule(
        format!("{} || {}", given("interfaceName"), given("expectedIPs")),
        "interfaceName or expectedIPs must say which interface it is",
    )
}

fn on_or_off() -> Schema {
    word(&["Enabled", "Disabled"])
}

fn settings() -> Schema {
    let period = || {
        object([("reconcilerPeriod", text(), "Time between two comparisons of everything; 0s for never.")])
    };
    let template = object([
        ("generateName", text().longest(253), "Part of the name of what is made."),
        ("nodeSelector", text(), "Nodes for which it is made."),
        ("interfacePattern", text(), "Interfaces, as a regular expression."),
        ("interfaceCIDRs", set(text()), "Interfaces with an address in one of these."),
        ("labels", map_of(text()), "Labels of what is made."),
        ("annotations", map_of(text()), "Annotations of what is made."),
    ]);
    let host_endpoint = object([
        ("autoCreate", on_or_off(), "Keep a HostEndpoint for every node."),
        ("createDefaultHostEndpoint", text(), "Make the one for all interfaces, beside those of templates."),
        ("templates", atomic_list(template), "Further HostEndpoints for nodes."),
    ]);
    let node = period()
        .property(("syncLabels", on_or_off(), "Copy labels of Kubernetes' Nodes."))
        .property(("hostEndpoint", host_endpoint, "HostEndpoints of nodes."))
        .property((
            "leakGracePeriod",
            text(),
            "How long an address may belong to nobody before it is released.",
        ));
    let load_balancer = object([(
        "assignIPs",
        word(&["AllServices", "RequestedServicesOnly"]).default("AllServices"),
        "Which services of type LoadBalancer get addresses.",
    )]);
    let migration = object([(
        "policyNameMigrator",
        on_or_off().default("Enabled"),
        "Rename policies of older versions.",
    )]);
    let controllers = object([
        ("node", node, "Nodes and addresses."),
        ("policy", period(), "Kubernetes' policies in etcd."),
        ("workloadEndpoint", period(), "Pods in etcd."),
        ("serviceAccount", period(), "Service accounts in etcd."),
        ("namespace", period(), "Namespaces in etcd."),
        ("loadBalancer", load_balancer, "Addresses of services."),
        ("migration", migration, "Objects of older versions."),
    ]);
    object([
        (
            "logSeverityScreen",
            word(&["None", "Debug", "Info", "Warning", "Error", "Fatal", "Panic"]),
            "Least severity that is logged.",
        ),
        ("healthChecks", on_or_off().default("Enabled"), "Answer to probes."),
        ("etcdV3CompactionPeriod", text(), "Time between two compactions of etcd; 0 for never."),
        ("prometheusMetricsPort", integer().within(0, 65535), "Port of metrics; 0 for none."),
        ("debugProfilePort", int32().within(0, 65535), "Port of profiles; none if not given."),
        ("controllers", controllers, "Controllers that run: those that are named."),
    ])
    .required(&["controllers"])
}

pub fn controllers(_: Group) -> Schema {
    settings()
}

pub fn controllers_status(_: Group) -> Schema {
    object([
        ("runningConfig", settings(), "Settings in force."),
        ("environmentVars", map_of(text()), "Environment variables that were taken into account."),
    ])
}
