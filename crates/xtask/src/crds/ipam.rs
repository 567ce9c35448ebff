//! Kinds of addresses: pools, reservations, and the records of IPAM.

use serde_json::json;

use super::schema::{
    Schema, atomic_list, boolean, cidr, given, int32, int64, integer, list, map_of, moment, object, selector,
    set, text, word,
};
use super::{Group, conditions};

/// CEL: the pool is for load balancers, tunnels, …
fn used_for(what: &str) -> String {
    format!("(has(self.allowedUses) && self.allowedUses.exists(u, u == '{what}'))")
}

/// CEL: the pool has an encapsulation of this kind.
fn encapsulated(mode: &str) -> String {
    format!("({} && self.{mode} != 'Never')", given(mode))
}

pub fn pool(_: Group) -> Schema {
    let mode = || word(&["Never", "Always", "CrossSubnet"]);
    let fixed = "self == oldSelf";
    let no_overlap = |range: &str, first: &str| {
        format!("!cidr('{range}').containsIP(cidr(self.cidr).ip()) && !cidr(self.cidr).containsIP('{first}')")
    };
    object([
        (
            "cidr",
            cidr()
                .longest(48)
                .rule(fixed, "cidr of a pool does not change: make a new pool and move workloads"),
            "Range of the pool.",
        ),
        (
            "blockSize",
            integer().within(0, 128).rule(fixed, "blockSize of a pool does not change: make a new pool"),
            "Length of the prefixes that nodes take; 26 for IPv4 and 122 for IPv6 if not given.",
        ),
        ("ipipMode", mode(), "IP in IP between nodes."),
        ("vxlanMode", mode(), "VXLAN between nodes."),
        ("natOutgoing", boolean(), "Translate the source of packets that leave the pools."),
        ("disabled", boolean(), "Give out no more addresses."),
        ("disableBGPExport", boolean(), "Keep the pool's routes from BGP peers."),
        ("nodeSelector", selector().default("all()"), "Nodes that may take addresses."),
        ("namespaceSelector", selector(), "Namespaces whose workloads may take addresses."),
        (
            "allowedUses",
            set(word(&["Workload", "Tunnel", "LoadBalancer"])).at_most(10),
            "What addresses are for; workloads and tunnels if not given.",
        ),
        (
            "assignmentMode",
            word(&["Automatic", "Manual"]).default("Automatic"),
            "Whether workloads get addresses without asking for this pool.",
        ),
    ])
    .required(&["cidr"])
    .rule(
        "cidr(self.cidr) == cidr(self.cidr).masked()",
        "cidr has bits outside its prefix: write 10.0.0.0/8, not 10.0.0.1/8",
    )
    .rule(no_overlap("169.254.0.0/16", "169.254.0.0"), "cidr must stay outside 169.254.0.0/16 (link-local)")
    .rule(no_overlap("fe80::/10", "fe80::"), "cidr must stay outside fe80::/10 (link-local)")
    .rule(
        "!has(self.blockSize) || self.blockSize == 0 || (cidr(self.cidr).ip().family() == 4 \
         ? self.blockSize >= 20 && self.blockSize <= 32 : self.blockSize >= 116)",
        "blockSize must be 20 to 32 for IPv4, 116 to 128 for IPv6",
    )
    .rule(
        "(has(self.disabled) && self.disabled) || cidr(self.cidr).prefixLength() <= (has(self.blockSize) && \
         self.blockSize != 0 ? self.blockSize : cidr(self.cidr).ip().family() == 4 ? 26 : 122)",
        "cidr is smaller than one block: make the pool larger or blockSize longer",
    )
    .rule(
        format!("!({} && {})", encapsulated("ipipMode"), encapsulated("vxlanMode")),
        "ipipMode and vxlanMode exclude one another",
    )
    .rule(
        format!("cidr(self.cidr).ip().family() == 4 || !{}", encapsulated("ipipMode")),
        "ipipMode is for IPv4 pools: use vxlanMode for IPv6",
    )
    .without_global("nodeSelector")
    .without_global("namespaceSelector")
    .rule(
        format!("!{} || !{}", used_for("Tunnel"), given("namespaceSelector")),
        "a pool for tunnels has no namespaceSelector",
    )
    .rule(
        format!("!{0} || !({1} || {2})", used_for("LoadBalancer"), used_for("Workload"), used_for("Tunnel")),
        "a pool for LoadBalancer is for nothing else",
    )
    .rule(
        format!(
            "!{} || !({} || {})",
            used_for("LoadBalancer"),
            encapsulated("ipipMode"),
            encapsulated("vxlanMode")
        ),
        "a pool for LoadBalancer has neither ipipMode nor vxlanMode",
    )
    .rule(
        format!("!{} || !has(self.disableBGPExport) || !self.disableBGPExport", used_for("LoadBalancer")),
        "a pool for LoadBalancer is advertised: leave disableBGPExport out",
    )
    .rule(
        format!("!{} || self.nodeSelector == 'all()'", used_for("LoadBalancer")),
        "a pool for LoadBalancer belongs to no node: nodeSelector must be all()",
    )
}

pub fn pool_status(_: Group) -> Schema {
    object([("conditions", conditions(), "`Allocatable` is True where the pool gives out addresses.")])
}

pub fn reservation(_: Group) -> Schema {
    object([("reservedCIDRs", set(cidr()), "Addresses that are not given out; those in use stay.")])
}

pub fn configuration(group: Group) -> Schema {
    let (mut strict, mut auto, mut most) = (boolean(), boolean(), integer().within(0, i64::from(i32::MAX)));
    let mut cooldown = integer().within(0, 1200);
    if group == Group::V3 {
        strict = strict.default(false);
        auto = auto.default(true);
        most = int32().within(0, 1_000_000).default(0);
        cooldown = cooldown.with("format", "int32");
    }
    object([
        ("strictAffinity", strict, "A node takes addresses from its own blocks only."),
        ("autoAllocateBlocks", auto, "A node takes a further block where its own are full."),
        ("maxBlocksPerHost", most, "The most blocks of one node; 0 for no limit."),
        (
            "kubeVirtVMAddressPersistence",
            word(&["Enabled", "Disabled"]),
            "A virtual machine keeps its address when its pod is replaced.",
        ),
        ("ipCooldownSeconds", cooldown, "How long a released address rests before it is given out again."),
    ])
    .required(&["autoAllocateBlocks", "strictAffinity"])
}

pub fn block(group: Group) -> Schema {
    let attribute = object([
        ("handle_id", text(), "Handle that owns the address."),
        ("secondary", map_of(text()), "Who has it: pod, namespace, node."),
        ("alternateOwnerAttrs", map_of(text()), "Who had it, or will have it, during a migration."),
        ("releasedAt", moment(), "When it was released; it rests since then."),
    ]);
    let array = |item| if group == Group::V3 { atomic_list(item) } else { list(item) };
    let (mut range, mut affinity) = (text(), text());
    if group == Group::V3 {
        range = cidr();
        affinity = affinity.pattern("^(host|virtual):[a-zA-Z0-9._-]+$");
    }
    object([
        ("cidr", range, "Range of the block."),
        ("affinity", affinity, "Whose block it is: `host:` and the node's name."),
        ("affinityClaimTime", moment(), "When it was taken."),
        (
            "allocations",
            array(integer().nullable()),
            "For every address in order: null if free, or the index of its attributes.",
        ),
        ("attributes", array(attribute), "Who has the addresses."),
        ("unallocated", array(integer()), "Free addresses, in the order in which they will be given out."),
        ("sequenceNumber", int64().default(0), "Grows with every write."),
        ("sequenceNumberForAllocation", map_of(int64()), "Its value when an address was given out."),
        ("strictAffinity", boolean(), "Without meaning now; always written."),
        ("deleted", boolean(), "The block is about to be deleted."),
    ])
    .required(&["allocations", "attributes", "cidr", "strictAffinity", "unallocated"])
}

pub fn handle(_: Group) -> Schema {
    object([
        ("handleID", text(), "The handle."),
        ("block", map_of(integer()), "How many addresses it has in each block."),
        ("deleted", boolean(), "The handle is about to be deleted."),
    ])
    .required(&["block", "handleID"])
}

pub fn affinity(group: Group) -> Schema {
    let (mut range, mut state, mut deleted) = (text(), text(), text());
    if group == Group::V3 {
        range = cidr();
        state = word(&["", "confirmed", "pending", "pendingDeletion"]);
        deleted = boolean().default(false);
    }
    object([
        ("cidr", range, "Range of the block."),
        ("node", text(), "Whose block it is."),
        ("type", text(), "`host`, or `virtual` for what is no node."),
        (
            "state",
            state,
            "pending while the block is taken, then confirmed; pendingDeletion while it is given back.",
        ),
        // A string in v1: its first writers took it for one, and their objects are still there.
        ("deleted", deleted, "The affinity is about to be deleted."),
    ])
    .with("required", json!(["cidr", "deleted", "node", "state"]))
}
