//! Kinds of policy: rules, policies and their staged forms, tiers, and sets of addresses.

use serde_json::json;

use super::schema::{
    Schema, atomic_list, boolean, given, int_or_text, integer, list, map_of, number, object, on, selector,
    set, text, word,
};
use super::{Group, conditions, selectors};

/// The most rules of one direction.
const MOST_RULES: u32 = 1024;

fn entity() -> Schema {
    let nets = || set(text()).at_most(256);
    let ports = || atomic_list(int_or_text()).at_most(50);
    let accounts = object([
        ("names", set(text()), "Names of service accounts."),
        ("selector", text(), "Service accounts by their labels."),
    ]);
    let services = object([
        ("name", text().longest(253), "Name of the service."),
        ("namespace", text().longest(253), "Its namespace; that of the policy if not given."),
    ]);
    let mut side = object([
        ("nets", nets(), "CIDRs, one of which holds the address."),
        ("notNets", nets(), "CIDRs, none of which holds the address."),
        ("selector", selector(), "Endpoints and network sets with these labels."),
        ("notSelector", selector(), "Not those with these labels."),
        (
            "namespaceSelector",
            selector(),
            "Only in namespaces with these labels; `global()` for what has no namespace.",
        ),
        ("ports", ports(), "Ports, ranges such as 80:90, or names of ports."),
        ("notPorts", ports(), "Any port but these."),
        ("serviceAccounts", accounts, "Pods that run under these service accounts."),
        ("services", services, "The endpoints of a service."),
    ])
    .without_global("selector")
    .rule(
        "!has(self.services) || (has(self.services.name) && size(self.services.name) > 0)",
        "services needs the name of a service",
    )
    .rule(
        "!has(self.services) || !has(self.serviceAccounts)",
        "services and serviceAccounts exclude one another",
    );
    for other in ["namespaceSelector", "selector", "notSelector", "nets", "notNets"] {
        let message = format!("services and {other} exclude one another");
        side = side.rule(format!("!has(self.services) || !{}", given(other)), &message);
    }
    side
}

/// CEL: the member of a rule names ICMP of one family, by name or number.
fn is_icmp(member: &str, name: &str, number: u8) -> String {
    format!("(has(self.{member}) && (self.{member} == '{name}' || self.{member} == {number}))")
}

fn rules() -> Schema {
    let icmp = || {
        object([
            ("type", integer().within(0, 254), "ICMP type."),
            ("code", integer().within(0, 255), "ICMP code."),
        ])
        .rule("!has(self.code) || has(self.type)", "code needs type")
    };
    let path = object([
        ("exact", text().longest(1024), "The whole path."),
        ("prefix", text().longest(1024), "The beginning of the path."),
    ]);
    let http = object([
        ("methods", atomic_list(text()).at_most(20), "Methods, such as GET."),
        ("paths", atomic_list(path).at_most(20), "Paths."),
    ]);
    let mut rule = object([
        ("action", word(&["Allow", "Deny", "Log", "Pass"]), "What happens to packets that match."),
        ("ipVersion", integer().with("enum", [4, 6]), "IP version."),
        ("protocol", int_or_text(), "Protocol, by name or number."),
        ("notProtocol", int_or_text(), "Any protocol but this."),
        ("icmp", icmp(), "Type and code of ICMP; needs protocol ICMP or ICMPv6."),
        ("notICMP", icmp(), "Any ICMP but this."),
        ("source", entity(), "Where packets come from."),
        ("destination", entity(), "Where packets go to."),
        ("http", http, "HTTP requests."),
        (
            "metadata",
            object([("annotations", map_of(text()), "Notes of any kind.")]),
            "What is remembered with the rule and matches nothing.",
        ),
    ])
    .required(&["action"])
    .rule("!has(self.http) || self.action == 'Allow'", "http is only for rules that allow")
    .rule(
        "!has(self.http) || !has(self.protocol) || self.protocol == 'TCP' || self.protocol == 6",
        "http needs protocol TCP, or none",
    )
    .rule(
        "!has(self.destination) || !has(self.destination.services) || \
         !((has(self.destination.ports) && size(self.destination.ports) > 0) || \
         (has(self.destination.notPorts) && size(self.destination.notPorts) > 0))",
        "destination: a service brings its ports; leave ports and notPorts out",
    )
    .rule(
        format!(
            "!has(self.icmp) || {} || {}",
            is_icmp("protocol", "ICMP", 1),
            is_icmp("protocol", "ICMPv6", 58)
        ),
        "icmp needs protocol ICMP or ICMPv6",
    );
    for (member, name, protocol, version) in
        ["protocol", "notProtocol"].iter().flat_map(|m| [(m, "ICMP", 1, 4), (m, "ICMPv6", 58, 6)])
    {
        rule = rule.rule(
            format!(
                "!{} || !has(self.ipVersion) || self.ipVersion == {version}",
                is_icmp(member, name, protocol)
            ),
            &format!("{member} {name} is IPv{version}: ipVersion must be {version}"),
        );
    }
    atomic_list(rule).at_most(MOST_RULES)
}

/// What every policy of ours has.
fn policy(_: Group) -> Schema {
    object([
        ("tier", text().default("default"), "Tier of the policy."),
        ("order", number(), "Lower is earlier; without one, last."),
        ("selector", selector(), "Endpoints that the policy applies to."),
        ("serviceAccountSelector", selector(), "Only pods whose service account has these labels."),
        (
            "types",
            set(word(&["Ingress", "Egress"])).at_least(1).at_most(2),
            "Directions that the policy decides; by its rules if not given.",
        ),
        ("ingress", rules(), "Rules for what comes in; the first that matches counts."),
        ("egress", rules(), "Rules for what goes out; the first that matches counts."),
        (
            "performanceHints",
            set(word(&["AssumeNeededOnEveryNode"])),
            "Hints that change how fast the policy is applied, and nothing else.",
        ),
    ])
    .without_global("selector")
    .without_global("serviceAccountSelector")
}

pub fn network_policy(group: Group) -> Schema {
    policy(group)
}

pub fn global_network_policy(group: Group) -> Schema {
    policy(group)
        .property(("namespaceSelector", selector(), "Only endpoints in namespaces with these labels."))
        .property(("applyOnForward", boolean(), "Also for what a host forwards."))
        .property(("doNotTrack", boolean(), "Decide before connection tracking, and do not track."))
        .property(("preDNAT", boolean(), "Decide before destinations are translated."))
        .without_global("namespaceSelector")
        .rule(
            format!("!({} && {})", on("doNotTrack"), on("preDNAT")),
            "doNotTrack and preDNAT exclude one another",
        )
        .rule(
            format!("!({} && {})", on("preDNAT"), given("egress")),
            "preDNAT is for what comes in: leave egress out",
        )
        .rule(
            format!("!{} || !has(self.types) || !self.types.exists(t, t == 'Egress')", on("preDNAT")),
            "preDNAT is for what comes in: types may not name Egress",
        )
        .rule(
            format!("{} || !({} || {})", on("applyOnForward"), on("doNotTrack"), on("preDNAT")),
            "doNotTrack and preDNAT need applyOnForward",
        )
}

fn staged(schema: Schema) -> Schema {
    schema.property((
        "stagedAction",
        word(&["Set", "Delete", "Learn", "Ignore"]).default("Set"),
        "What enforcing it would do to the policy of the same name.",
    ))
}

pub fn staged_network_policy(group: Group) -> Schema {
    staged(network_policy(group))
}

pub fn staged_global_network_policy(group: Group) -> Schema {
    staged(global_network_policy(group))
}

pub fn staged_kubernetes_network_policy(_: Group) -> Schema {
    let peers = || {
        let block = object([
            ("cidr", text(), "Range of addresses."),
            ("except", atomic_list(text()), "Ranges inside it that are left out."),
        ])
        .required(&["cidr"]);
        atomic_list(object([
            ("ipBlock", block, "Addresses."),
            ("namespaceSelector", selectors(), "Namespaces by their labels."),
            ("podSelector", selectors(), "Pods by their labels."),
        ]))
    };
    let ports = || {
        atomic_list(object([
            ("protocol", text(), "TCP, UDP or SCTP."),
            ("port", int_or_text(), "Number or name."),
            ("endPort", super::schema::int32(), "Last port of a range."),
        ]))
    };
    let direction = |peer: &'static str| {
        atomic_list(object([
            (peer, peers(), "The other side; everybody if empty."),
            ("ports", ports(), "Ports; all if empty."),
        ]))
    };
    staged(object([
        ("podSelector", selectors(), "Pods that the policy applies to."),
        ("ingress", direction("from"), "What may come in."),
        ("egress", direction("to"), "What may go out."),
        ("policyTypes", set(text()).at_least(1).at_most(2), "Directions that the policy decides."),
    ]))
}

pub fn tier(_: Group) -> Schema {
    object([
        ("order", number(), "Lower is earlier; without one, last."),
        (
            "defaultAction",
            word(&["Pass", "Deny"]).default("Deny"),
            "What happens to packets of endpoints that the tier applies to, and no rule of it decides.",
        ),
    ])
}

/// The tiers that always exist, and what they must be.
pub fn tier_rules(object: Schema) -> Schema {
    [("kube-admin", 1_000, "Pass"), ("default", 1_000_000, "Deny"), ("kube-baseline", 10_000_000, "Pass")]
        .into_iter()
        .fold(object, |object, (name, order, action)| {
            object
                .rule(
                    format!(
                        "self.metadata.name != '{name}' || (has(self.spec.defaultAction) && self.spec.defaultAction == \
                         '{action}')"
                    ),
                    &format!("the defaultAction of tier {name} is {action}"),
                )
                .rule(
                    format!("self.metadata.name != '{name}' || (has(self.spec.order) && self.spec.order == {order}.0)"),
                    &format!("the order of tier {name} is {order}"),
                )
        })
}

pub fn tier_status(_: Group) -> Schema {
    object([("conditions", conditions(), "`Ready` is True where the tier works.")])
}

pub fn network_set(_: Group) -> Schema {
    object([("nets", set(text()), "CIDRs and addresses; policy finds them by the labels of this object.")])
}

pub fn cluster_network_policy(_: Group) -> Schema {
    let int32 = super::schema::int32;
    let pods = || {
        object([
            ("namespaceSelector", selectors(), "Namespaces by their labels."),
            ("podSelector", selectors(), "Pods by their labels."),
        ])
        .required(&["podSelector"])
    };
    let group =
        || [("namespaces", selectors(), "Every pod of these namespaces."), ("pods", pods(), "These pods.")];
    let protocol = || {
        let port = || int32().within(1, 65535);
        let range = object([("start", port(), "First port."), ("end", port(), "Last port.")])
            .required(&["end", "start"])
            .rule("self.start < self.end", "start must be below end");
        let ports = object([("number", port(), "One port."), ("range", range, "Ports in a row.")]).just_one();
        object([("destinationPort", ports, "Ports of the destination.")]).with("minProperties", 1)
    };
    let direction = |side: &'static str, peer: Schema| {
        let protocols = object([
            ("tcp", protocol(), "TCP."),
            ("udp", protocol(), "UDP."),
            ("sctp", protocol(), "SCTP."),
            ("destinationNamedPort", text(), "A port of the destination by its name."),
        ])
        .just_one();
        list(
            object([
                ("name", text().longest(100), "Name of the rule."),
                ("action", word(&["Accept", "Deny", "Pass"]), "What happens to packets that match."),
                (side, list(peer.just_one()).at_least(1).at_most(25), "The other side."),
                (
                    "protocols",
                    list(protocols).at_least(1).at_most(25),
                    "Protocols and ports; all if not given.",
                ),
            ])
            .required(&["action", side]),
        )
        .at_most(25)
    };
    let network = text().longest(43).rule("isCIDR(self)", "must be a CIDR, such as 10.0.0.0/8");
    let networks = set(network).at_least(1).at_most(25);
    object([
        ("tier", word(&["Admin", "Baseline"]), "Before the policies of namespaces, or after them."),
        ("priority", int32().within(0, 1000), "Lower is earlier."),
        ("subject", object(group()).just_one(), "What the policy applies to."),
        (
            "ingress",
            direction("from", object(group())),
            "Rules for what comes in; the first that matches counts.",
        ),
        (
            "egress",
            direction("to", object(group()).property(("networks", networks, "Ranges of addresses."))),
            "Rules for what goes out; the first that matches counts.",
        ),
    ])
    .required(&["priority", "subject", "tier"])
}

pub fn cluster_network_policy_status(_: Group) -> Schema {
    object([("conditions", conditions(), "What became of the policy.")])
        .with("required", json!(["conditions"]))
}
