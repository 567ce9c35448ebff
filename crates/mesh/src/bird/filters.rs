//! The filters of one family: what is learned, installed, accepted from peers and announced to them.
//!
//! ```text
//! kernel ──learn──▶ BIRD ──export_internal, export_external──▶ peers
//! kernel ◀─program─ BIRD ◀─import────────────────────────────── peers
//! ```
//!
//! The metric of a kernel route travels between nodes as local preference: `local_pref = 2147483647 − metric`
//! (spec 6 §3.4). A metric below the ordinary one marks a route that must win at once, such as that of a workload
//! which has just moved: it is announced although its block covers it.

use std::fmt::Write as _;

use calico_net::{Cidr, Family};

use super::{add_community, line, suffix};
use crate::intent::{AGENT_CLUSTER_METRIC, BgpIntent, NextHopMode, Programmer, Session};

/// The sum of a route's metric and its local preference.
pub(super) const METRIC_AND_PREFERENCE: u32 = 2_147_483_647;

/// The device that the kernel's module `ipip` makes.
const IPIP_DEVICE: &str = "tunl0";

/// The `preference` of a route that must win; the daemon's own for static routes.
const ELEVATED_PREFERENCE: u32 = 200;

/// How many prefixes of a set are on one line.
const SET_ROW: usize = 6;

/// Appends the filters of a family.
pub(super) fn render_family(text: &mut String, intent: &BgpIntent, family: Family) {
    let suffix = suffix(family);
    let normal = intent.normal_priority.of(family);
    line(text, format_args!("\n# ---- {family}"));
    render_learn(text, suffix, normal);
    render_program(text, intent, family, normal);
    render_import(text, suffix, normal);
    render_export(text, intent, family, normal);
}

/// What is learned from the kernel: workloads' routes and foreign ones.
fn render_learn(text: &mut String, suffix: &str, normal: u32) {
    line(
        text,
        format_args!(
            "filter calico_learn_{suffix} {{
  # The kernel's blackholes are the agent's; the blocks are announced by calico_blocks_{suffix}.
  if dest != RTD_UNICAST then reject;
  # A route without a metric is an ordinary one, not one that must win.
  if !defined(krt_metric) || krt_metric = 0 then krt_metric = {normal};
  accept;
}}"
        ),
    );
}

/// What goes into the kernel.
fn render_program(text: &mut String, intent: &BgpIntent, family: Family, normal: u32) {
    line(text, format_args!("filter calico_program_{} {{", suffix(family)));
    for gateway in intent.gateways.iter().filter(|g| Family::of(g.peer) == family) {
        let (peer, bits) = (gateway.peer, family.bits());
        line(text, format_args!("  if source = RTS_STATIC && net = {peer}/{bits} then accept;"));
    }
    render_set(text, &intent.services.rejects, family, "reject; # kube-proxy answers for services");
    line(
        text,
        format_args!(
            "  if source != RTS_BGP then reject;
  krt_metric = {normal};
  if defined(bgp_local_pref) then krt_metric = {METRIC_AND_PREFERENCE} - bgp_local_pref;"
        ),
    );
    for pool in intent.pools_of(family) {
        let cidr = pool.cidr;
        match pool.programmed_by {
            Programmer::Speaker => {}
            Programmer::SpeakerTunnel(subnet) => {
                let beyond = subnet.map(|subnet| format!(" && !(bgp_next_hop ~ {subnet})"));
                let beyond = beyond.unwrap_or_default();
                line(
                    text,
                    format_args!(
                        "  if net ~ {cidr}{beyond} then {{ ifname = \"{IPIP_DEVICE}\"; onlink = true; \
                         gw = bgp_next_hop; }}"
                    ),
                );
            }
            Programmer::Agent => {
                line(text, format_args!("  if net ~ {cidr} then reject; # routed by the agent"));
            }
        }
    }
    text.push_str("  accept;\n}\n");
}

/// What is accepted from peers: everything.
fn render_import(text: &mut String, suffix: &str, normal: u32) {
    let normal_preference = METRIC_AND_PREFERENCE.saturating_sub(normal);
    line(
        text,
        format_args!(
            "function calico_accept_{suffix}() {{
  if defined(bgp_local_pref) && bgp_local_pref > {normal_preference} then preference = {ELEVATED_PREFERENCE};
  accept;
}}
filter calico_import_{suffix} {{ calico_accept_{suffix}(); }}"
        ),
    );
}

/// What is announced to peers: pools, with this node's blocks whole and nothing beneath them.
fn render_export(text: &mut String, intent: &BgpIntent, family: Family, normal: u32) {
    let suffix = suffix(family);
    line(
        text,
        format_args!(
            "# Before a session's own filters: they look at the preference that stands for the metric.
function calico_metric_{suffix}() {{
  if source = RTS_BGP && defined(bgp_local_pref) then krt_metric = {METRIC_AND_PREFERENCE} - bgp_local_pref;
  else {{
    if !defined(krt_metric) then krt_metric = {normal};
    bgp_local_pref = {METRIC_AND_PREFERENCE} - krt_metric;
  }}
}}
function calico_export_{suffix}(bool internal_peer) {{"
        ),
    );
    for pool in intent.pools_of(family).filter(|pool| !pool.export) {
        line(text, format_args!("  if net ~ {} then reject; # BGP export is disabled", pool.cidr));
    }
    text.push_str(
        "  # Other nodes learn of tunnels from the datastore; the eBPF dataplane's own routes concern nobody else.
  if defined(ifname) then {
    if internal_peer && ((ifname ~ \"*.cali\") || (ifname ~ \"*.calico\") || (ifname ~ \"tunl0\")) then reject;
    if ifname ~ \"bpf*.cali\" then reject;
  }\n",
    );
    // Those without a tunnel, between nodes of one subnet. Each node would announce the blocks of all its neighbours to
    // everybody: as many routes as nodes times nodes, and a block would outlive its node's announcement.
    line(
        text,
        format_args!(
            "  # The agent's routes to its neighbours' blocks: each node announces its own.
  if internal_peer && source = RTS_INHERIT && krt_metric = {AGENT_CLUSTER_METRIC} then reject;"
        ),
    );
    for advertisement in intent.advertisements.iter().filter(|a| a.cidr.family() == family) {
        let communities: Vec<String> = advertisement.communities.iter().map(add_community).collect();
        line(text, format_args!("  if net ~ {} then {{ {} }}", advertisement.cidr, communities.join(" ")));
    }
    for block in intent.blocks_of(family) {
        line(
            text,
            format_args!(
                "  if net = {block} then accept;
  if net ~ {block} then {{ if krt_metric < {normal} then accept; reject; }}"
            ),
        );
    }
    render_borrowed(text, intent, family, normal);
    render_set(text, &intent.services.reflected, family, "accept; # services of whoever announces them");
    render_foreign_services(text, intent, family);
    render_set(text, &intent.services.routes, family, "accept; # services");
    for pool in intent.pools_of(family).filter(|pool| pool.export) {
        line(text, format_args!("  if net ~ {} then accept;", pool.cidr));
    }
    text.push_str("  reject;\n}\n");
    for (side, internal) in [("internal", true), ("external", false)] {
        line(
            text,
            format_args!(
                "filter calico_export_{side}_{suffix} {{ calico_metric_{suffix}(); calico_export_{suffix}({internal}); }}"
            ),
        );
    }
}

/// Keeps what other nodes announce of services from external peers: it would lead them here, where kube-proxy may have
/// no endpoint of it. Not where some peer is told of next hops as they were heard.
fn render_foreign_services(text: &mut String, intent: &BgpIntent, family: Family) {
    let keeps = |session: &Session| !session.is_internal() && session.next_hop == NextHopMode::Keep;
    if !intent.sessions.iter().any(keeps) {
        let condition = "source = RTS_BGP && !internal_peer && ";
        render_set_if(text, condition, &intent.services.rejects, family, "reject; # others' services");
    }
}

/// A verdict on some prefixes and everything beneath them: one look-up, however many they are.
fn render_set(text: &mut String, cidrs: &[Cidr], family: Family, verdict: &str) {
    render_set_if(text, "", cidrs, family, verdict);
}

/// The same under a condition, which ends with `&& `.
fn render_set_if(text: &mut String, condition: &str, cidrs: &[Cidr], family: Family, verdict: &str) {
    let of_family: Vec<&Cidr> = cidrs.iter().filter(|cidr| cidr.family() == family).collect();
    for (n, row) in of_family.chunks(SET_ROW).enumerate() {
        match n {
            0 => write!(text, "  if {condition}net ~ [ ").expect("writing to a String cannot fail"),
            _ => text.push_str(",\n    "),
        }
        for (n, cidr) in row.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            let beneath = if cidr.is_host() { "" } else { "+" };
            write!(text, "{comma}{cidr}{beneath}").expect("writing to a String cannot fail");
        }
    }
    if !of_family.is_empty() {
        line(text, format_args!(" ] then {verdict}"));
    }
}

/// Lets a workload's route outside this node's blocks out only if its address is known to be borrowed: the route of a
/// new block's first workload is here before the block, and would be announced and soon withdrawn again.
///
/// It knows workloads by Calico's interface names, as the daemon's `direct` protocol does.
fn render_borrowed(text: &mut String, intent: &BgpIntent, family: Family, normal: u32) {
    let bits = family.bits();
    let borrowed: Vec<String> =
        intent.borrowed.iter().filter(|b| b.family() == family).map(ToString::to_string).collect();
    let verdict = if borrowed.is_empty() {
        "reject;".to_owned()
    } else {
        format!("if net ~ [ {} ] then accept; reject;", borrowed.join(", "))
    };
    line(
        text,
        format_args!(
            "  # Workloads outside this node's blocks: those that are known to have borrowed their addresses.
  if source = RTS_INHERIT && net.len = {bits} && krt_metric >= {normal} && ifname ~ \"cali*\" then {{
    {verdict}
  }}"
        ),
    );
}
