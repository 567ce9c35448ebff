//! FelixConfiguration: every property is a row of the agent's table of options.

use calico_api::felix_config::{OptionRow, OptionType, TABLE};

use super::Group;
use super::schema::{
    Schema, atomic_list, boolean, duration, int_or_text, int64, integer, list, map_of, object, selector, text,
};

/// Options whose default is written into the object, so that a reader sees what is in force.
const FILLED_IN: [(&str, &str); 2] = [("nftablesMode", "Auto"), ("nftablesFlowTableOffload", "Disabled")];

/// Pairs that stand in an object, where the others are one text.
const CONNECTION_TIMEOUTS: &str = "bpfConntrackTimeouts";
const LOG_FILTERS: &str = "bpfLogFilters";

/// Longest text of an address.
const LONGEST_ADDRESS: u32 = 45;

pub fn configuration(_: Group) -> Schema {
    let mut rows: Vec<&OptionRow> = TABLE.iter().filter(|row| !row.resource.is_empty()).collect();
    rows.sort_by_key(|row| row.resource);
    let start = object([(
        "nodeSelector",
        selector(),
        "Nodes that the object is for; not in `default` and `node.…`, whose names say it.",
    )]);
    rows.into_iter()
        .fold(start, |spec, row| spec.property((row.resource, schema(row).about(&about(row)), "")))
        .rule(
            "!has(self.routeTableRange) || !has(self.routeTableRanges)",
            "routeTableRange is the old spelling of routeTableRanges: give routeTableRanges only",
        )
        .rule(address("natOutgoingAddress", 4), "natOutgoingAddress must be an IPv4 address")
        .rule(address("deviceRouteSourceAddress", 4), "deviceRouteSourceAddress must be an IPv4 address")
        .rule(
            address("deviceRouteSourceAddressIPv6", 6),
            "deviceRouteSourceAddressIPv6 must be an IPv6 address",
        )
}

/// The condition that needs the object's name.
pub fn object_rules(object: Schema) -> Schema {
    object.rule(
        "!has(self.spec) || !has(self.spec.nodeSelector) || \
         !(self.metadata.name == 'default' || self.metadata.name.startsWith('node.'))",
        "spec.nodeSelector: `default` is for every node and `node.…` for one; use another name",
    )
}

fn address(name: &str, family: u8) -> String {
    format!(
        "!has(self.{name}) || self.{name} == '' || (isIP(self.{name}) && ip(self.{name}).family() == {family})"
    )
}

fn about(row: &OptionRow) -> String {
    let mut text = row.text.to_owned();
    if let OptionType::OneOf(words) = row.kind {
        text += &format!(" One of {}.", words.join(", "));
    }
    if !row.default.is_empty() {
        text += &format!(" Default: {}.", row.default);
    }
    text
}

fn schema(row: &OptionRow) -> Schema {
    let schema = match row.kind {
        OptionType::Bool => boolean(),
        OptionType::Int(least, most) => {
            let mut number = integer();
            if least > i64::MIN {
                number = number.with("minimum", least);
            }
            if most < i64::MAX {
                number = number.with("maximum", most);
            }
            number
        }
        OptionType::Mask => int64().within(0, i64::from(u32::MAX)),
        OptionType::Seconds | OptionType::Millis => duration(),
        OptionType::OneOf(words) => text().pattern(&format!("^(?i)({})?$", words.join("|"))),
        // Empty text is an option that is not set.
        OptionType::Matching(pattern) => {
            text().pattern(&format!("^({})?$", pattern.trim_start_matches('^').trim_end_matches('$')))
        }
        OptionType::Ipv4 | OptionType::Ipv6 => text().longest(LONGEST_ADDRESS),
        OptionType::Cidrs | OptionType::InterfaceList => list(text()),
        OptionType::PortRanges => list(int_or_text()).at_most(7),
        OptionType::PortRange | OptionType::Dscp => int_or_text(),
        OptionType::HostPorts => list(
            object([
                ("protocol", text(), "tcp, udp or sctp."),
                ("port", integer(), "Number."),
                ("net", text(), "Only to and from these addresses."),
            ])
            .required(&["port"]),
        ),
        OptionType::TableRange => table_range().rule("self.max <= 250", "max must be 250 or less"),
        OptionType::TableRanges => list(table_range()),
        OptionType::KeyDurations => atomic_list(
            object([
                ("name", text(), "Part of the agent."),
                ("timeout", text(), "How long it may be silent."),
            ])
            .required(&["name", "timeout"]),
        ),
        OptionType::KeyValues if row.resource == CONNECTION_TIMEOUTS => connection_timeouts(),
        OptionType::KeyValues if row.resource == LOG_FILTERS => map_of(text()),
        OptionType::KeyValues => text().pattern("^([a-zA-Z0-9-_]+=[^=]*,)*([a-zA-Z0-9-_]+=[^=]*)?$"),
        OptionType::Text
        | OptionType::Regex
        | OptionType::Path
        | OptionType::ExistingPath
        | OptionType::Executable
        | OptionType::Endpoints
        | OptionType::Interfaces
        | OptionType::Region => text(),
    };
    match FILLED_IN.iter().find(|(name, _)| *name == row.resource) {
        Some((_, value)) => schema.default(value),
        None => schema,
    }
}

fn table_range() -> Schema {
    object([("min", integer(), "First routing table."), ("max", integer(), "Last routing table.")])
        .required(&["max", "min"])
        .rule("self.min >= 1", "min must be 1 or more")
        .rule("self.min <= self.max", "min must not be above max")
}

/// The timeouts of connections in the eBPF dataplane.
fn connection_timeouts() -> Schema {
    let timeout = || text().pattern(r"^((([0-9]*\.)?[0-9]+(us|ms|s|m|h))+|Auto)$");
    object([
        ("creationGracePeriod", timeout(), "A new connection is kept at least this long."),
        ("tcpSynSent", timeout(), "TCP before the answer."),
        ("tcpEstablished", timeout(), "TCP that is idle."),
        ("tcpFinsSeen", timeout(), "TCP that both sides closed."),
        ("tcpResetSeen", timeout(), "TCP that was reset."),
        ("udpTimeout", timeout(), "UDP."),
        ("icmpTimeout", timeout(), "ICMP."),
        ("genericTimeout", timeout(), "Other protocols."),
    ])
}
