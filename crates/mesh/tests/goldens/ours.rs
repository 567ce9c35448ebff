//! Our configuration of BIRD 2, statement by statement, and what of it Calico says with other statements.
//!
//! What has no counterpart there is expected as it is: that the kernel's blackholes are not learned, that only BGP's
//! routes are installed, that workloads' routes outside blocks are announced only if they are borrowed.

use crate::meaning::{Aggr, Ipam, Main, Rule, Session, Template};
use crate::text::{Cursor, Unknown, conjuncts, items, matches, tokens};
use crate::theirs::{alternatives, calls, community, ignored, outcome};

/// One family's part.
#[derive(Debug, Default)]
pub struct Ours {
    /// What `bird.cfg` would say. `listen` is that of the sessions.
    pub main: Main,
    /// What `bird_aggr.cfg` would say.
    pub aggr: Aggr,
    /// What `bird_ipam.cfg` would say, but for pools.
    pub ipam: Ipam,
    /// Pools whose routes are the agent's, and the subnet where they are not.
    pub agents: Vec<(String, Option<String>)>,
    /// Pools whose routes BIRD installs through the IPIP device, and the subnet where it does not need to.
    pub tunnels: Vec<(String, Option<String>)>,
    /// Addresses outside blocks that are announced one by one.
    pub borrowed: Vec<String>,
    /// What all sessions have in common.
    common: Session,
}

/// Reads both families.
pub fn read(text: &str) -> Result<[Ours; 2], Unknown> {
    let items = items(&tokens(text)?)?;
    let mut file = Cursor::new(&items);
    let mut both = [Ours::default(), Ours::default()];
    file.leaf("log <file> <size> <old> all")?;
    let router_id = file.leaf("router id <id>")?[0];
    file.leaf("graceful restart wait <s>")?;
    file.leaf("timeformat protocol iso short")?;
    let (_, mut device) = file.block("protocol device")?;
    device.leaf("scan time 2")?;
    let level = logging(&mut device);
    device.end()?;
    let (_, mut direct) = file.block("protocol direct")?;
    direct.leaf("ipv4")?;
    direct.leaf("ipv6")?;
    if logging(&mut direct) != level {
        return Err("device and direct log differently".to_owned());
    }
    let interfaces = direct.leaf("interface <*>")?[0];
    direct.end()?;
    for (ours, suffix) in both.iter_mut().zip(["v4", "v6"]) {
        ours.main.router_id = router_id.to_owned();
        ours.main.ignored_interfaces = ignored(interfaces)?;
        level.clone_into(&mut ours.main.logging);
        family(&mut file, ours, suffix)?;
    }
    let (_, mut template) = file.block("template bgp calico_peer")?;
    let bgp = if template.try_fixed("debug", &["states , events"]).is_some() {
        "normal"
    } else if template.try_leaf("debug all").is_some() {
        "debug"
    } else {
        "none"
    };
    if bgp != level {
        return Err("bgp and direct log differently".to_owned());
    }
    template.leaf("graceful restart on")?;
    let mut timers = template.leaf("connect delay time <s>")?;
    timers.extend(template.leaf("connect retry time <s>")?);
    timers.extend(template.leaf("error wait time <s> , <s>")?);
    template.end()?;
    let timers: Vec<String> = timers.iter().map(|s| (*s).to_owned()).collect();
    for ours in &mut both {
        // Our AS is that of each session.
        ours.main.template = Some(Template { local_as: String::new(), timers: timers.clone() });
    }
    while let Some((name, body)) = file.try_block("protocol bgp <name> from calico_peer") {
        let is_v4 = body_is_v4(body);
        let ours = if is_v4 { &mut both[0] } else { &mut both[1] };
        let session = session(name[0], body, ours, if is_v4 { "v4" } else { "v6" })?;
        ours.main.sessions.push(session);
    }
    file.end()?;
    for ours in &mut both {
        ours.main.sessions.sort_by(|a, b| a.name.cmp(&b.name));
        ours.aggr.blackholes.sort();
        ours.aggr.gateways.sort();
        ours.aggr.blocks.sort();
        ours.ipam.held_back.sort();
        ours.ipam.announced.sort();
        ours.ipam.rejected.sort();
    }
    Ok(both)
}

fn logging(block: &mut Cursor<'_>) -> &'static str {
    if block.try_fixed("debug", &["states"]).is_some() {
        "normal"
    } else if block.try_leaf("debug all").is_some() {
        "debug"
    } else {
        "none"
    }
}

fn family(file: &mut Cursor<'_>, ours: &mut Ours, suffix: &str) -> Result<(), Unknown> {
    let Ours { main, aggr, ipam, agents, tunnels, borrowed, common } = ours;
    let unset = "if ! defined ( krt_metric ) || krt_metric = 0 then krt_metric = <n>";
    let leaves = ["if dest != RTD_UNICAST then reject", unset, "accept"];
    ipam.normal_metric = file.fixed(&format!("filter calico_learn_{suffix}"), &leaves)?[0].to_owned();
    let normal = ipam.normal_metric.clone();

    let (_, mut program) = file.block(&format!("filter calico_program_{suffix}"))?;
    let mut allowed = Vec::new();
    while let Some(c) = program.try_leaf("if source = RTS_STATIC && net = <peer> then accept") {
        allowed.push(c[0].to_owned());
    }
    if let Some(c) = program.try_leaf("if net ~ [ <*>").filter(|c| c[0].ends_with("] then reject")) {
        ipam.rejected = beneath(c[0], "reject")?;
    }
    program.leaf("if source != RTS_BGP then reject")?;
    program.leaf(&format!("krt_metric = {normal}"))?;
    program.leaf("if defined ( bgp_local_pref ) then krt_metric = 2147483647 - bgp_local_pref")?;
    let through = ["ifname = \"tunl0\"", "onlink = true", "gw = bgp_next_hop"];
    loop {
        if let Some(c) = program.try_leaf("if net ~ <cidr> && ! ( bgp_next_hop ~ <subnet> ) then reject") {
            agents.push((c[0].to_owned(), Some(c[1].to_owned())));
        } else if let Some(c) = program.try_leaf("if net ~ <cidr> then reject") {
            agents.push((c[0].to_owned(), None));
        } else if let Some(c) =
            program.try_fixed("if net ~ <cidr> && ! ( bgp_next_hop ~ <subnet> ) then", &through)
        {
            tunnels.push((c[0].to_owned(), Some(c[1].to_owned())));
        } else if let Some(c) = program.try_fixed("if net ~ <cidr> then", &through) {
            tunnels.push((c[0].to_owned(), None));
        } else {
            break;
        }
    }
    program.leaf("accept")?;
    program.end()?;

    let must_win = "if defined ( bgp_local_pref ) && bgp_local_pref > <n> then preference = <n>";
    let c = file.fixed(&format!("function calico_accept_{suffix} ( )"), &[must_win, "accept"])?;
    let elevated = (c[0].to_owned(), c[1].to_owned());
    file.fixed(&format!("filter calico_import_{suffix}"), &[&format!("calico_accept_{suffix} ( )")])?;

    let (_, mut metric) = file.block(&format!("function calico_metric_{suffix} ( )"))?;
    let learned =
        "if source = RTS_BGP && defined ( bgp_local_pref ) then krt_metric = 2147483647 - bgp_local_pref";
    metric.leaf(learned)?;
    let default = format!("if ! defined ( krt_metric ) then krt_metric = {normal}");
    metric.fixed("else", &[&default, "bgp_local_pref = 2147483647 - krt_metric"])?;
    metric.end()?;
    *common = Session { elevated, normal_metric: normal.clone(), ..Session::default() };

    let (_, mut export) = file.block(&format!("function calico_export_{suffix} ( bool internal_peer )"))?;
    while let Some(c) = export.try_leaf("if net ~ <cidr> then reject") {
        ipam.held_back.push(c[0].to_owned());
    }
    let (_, mut named) = export.block("if defined ( ifname ) then")?;
    let internal = named.leaf("if internal_peer && <*>")?[0];
    let names = internal.strip_suffix(" reject").ok_or("internal peers get something")?;
    ipam.internal_interfaces = alternatives(names)?;
    ipam.interfaces = named.leaf("if ifname ~ <name> then reject")?.iter().map(|s| (*s).into()).collect();
    named.end()?;
    export.leaf("if internal_peer && source = RTS_INHERIT && krt_metric = 1025 then reject")?;
    while let Some((c, mut inside)) = export.try_block("if net ~ <cidr> then") {
        let mut ahead = inside;
        if ahead.try_leaf("if krt_metric < <n> then accept").is_some() {
            return Err(format!("the block {} is announced only beneath", c[0]));
        }
        let mut communities = Vec::new();
        while !inside.is_at_end() {
            communities.push(community(&mut inside)?);
        }
        main.communities.push((c[0].to_owned(), communities));
    }
    while let Some(c) = export.try_leaf("if net = <block> then accept") {
        let block = c[0];
        let leaves = ["if krt_metric < <n> then accept", "reject"];
        let metric = export.fixed(&format!("if net ~ {block} then"), &leaves)?[0];
        aggr.blocks.push((block.to_owned(), metric.to_owned()));
    }
    let bits = if suffix == "v4" { 32 } else { 128 };
    let workloads = format!(
        "if source = RTS_INHERIT && net.len = {bits} && krt_metric > = {normal} && ifname ~ \"cali*\" then"
    );
    let (_, mut outside) = export.block(&workloads)?;
    if let Some(c) = outside.try_leaf("if net ~ [ <*>") {
        *borrowed = beneath(c[0], "accept")?;
    }
    outside.leaf("reject")?;
    outside.end()?;
    loop {
        if let Some(c) = export.try_leaf("if net ~ [ <*>").filter(|c| c[0].ends_with("] then accept")) {
            ipam.announced.extend(beneath(c[0], "accept")?);
        } else if let Some(c) = export.try_leaf("if source = RTS_BGP && ! internal_peer && net ~ [ <*>") {
            // Stricter than Calico: what others announce of services is not told to external peers.
            if beneath(c[0], "reject")? != ipam.rejected {
                return Err("other services are kept back than are never installed".to_owned());
            }
        } else if let Some(c) = export.try_leaf("if net ~ <cidr> then accept") {
            ipam.announced.push(c[0].to_owned());
        } else {
            break;
        }
    }
    export.leaf("reject")?;
    export.end()?;
    for (side, internal) in [("internal", true), ("external", false)] {
        let leaves =
            [format!("calico_metric_{suffix} ( )"), format!("calico_export_{suffix} ( {internal} )")];
        file.fixed(&format!("filter calico_export_{side}_{suffix}"), &[&leaves[0], &leaves[1]])?;
    }
    while let Some((c, body)) = file
        .try_block("function <name> ( )")
        .or_else(|| file.try_block("function <name> ( bool internal_peer )"))
    {
        if !c[0].starts_with('\'') {
            return Err(format!("the function {} is unknown", c[0]));
        }
        main.filters.insert(c[0].to_owned(), rules(body)?);
    }
    statics(file, aggr, &allowed, suffix)?;
    let (_, mut kernel) = file.block(&format!("protocol kernel calico_kernel_{suffix}"))?;
    for leaf in ["learn", "persist", "scan time 2", "merge paths on", "metric 0", "graceful restart"] {
        kernel.leaf(leaf)?;
    }
    let channel = format!("ip{suffix}");
    let (import, export) =
        (format!("import filter calico_learn_{suffix}"), format!("export filter calico_program_{suffix}"));
    kernel.fixed(&channel, &[&import, &export])?;
    kernel.end()?;
    Ok(())
}

fn statics(file: &mut Cursor<'_>, aggr: &mut Aggr, allowed: &[String], suffix: &str) -> Result<(), Unknown> {
    let channel = format!("ip{suffix}");
    let (_, mut blocks) = file.block(&format!("protocol static calico_blocks_{suffix}"))?;
    blocks.leaf(&channel)?;
    while let Some(c) = blocks.try_leaf("route <cidr> blackhole") {
        aggr.blackholes.push(c[0].to_owned());
    }
    blocks.end()?;
    if let Some((_, mut services)) = file.try_block(&format!("protocol static calico_services_{suffix}")) {
        services.leaf(&channel)?;
        while let Some(c) = services.try_leaf("route <cidr> blackhole") {
            aggr.blackholes.push(c[0].to_owned());
        }
        services.end()?;
    }
    if let Some((_, mut gateways)) = file.try_block(&format!("protocol static calico_gateways_{suffix}")) {
        gateways.leaf(&channel)?;
        while let Some(c) = gateways.try_leaf("route <peer> via <gateway>") {
            aggr.gateways.push((c[0].to_owned(), c[1].to_owned()));
        }
        gateways.end()?;
    }
    let routed: Vec<&String> = aggr.gateways.iter().map(|(peer, _)| peer).collect();
    if routed != allowed.iter().collect::<Vec<_>>() {
        return Err("other routes by gateways are installed than there are".to_owned());
    }
    Ok(())
}

/// The prefixes of `a , b ] then VERDICT`: each with all beneath it, or an address.
fn beneath(set: &str, verdict: &str) -> Result<Vec<String>, Unknown> {
    let list = set.strip_suffix(&format!(" ] then {verdict}")).ok_or("a set with another verdict")?;
    let read = |word: &str| match word.strip_suffix('+') {
        Some(prefix) => Ok(prefix.to_owned()),
        None if word.ends_with("/32") || word.ends_with("/128") => Ok(word.to_owned()),
        None => Err(format!("{word} without what is beneath it")),
    };
    list.split(" , ").map(read).collect()
}

fn rules(mut body: Cursor<'_>) -> Result<Vec<Rule>, Unknown> {
    let mut rules = Vec::new();
    while !body.is_at_end() {
        let Some((c, mut inside)) = body.try_block("if <*>") else {
            let (operations, verdict) = outcome(&mut body)?;
            rules.push(Rule { conditions: Vec::new(), operations, verdict });
            continue;
        };
        let condition = c[0].strip_suffix(" then").ok_or("a condition without its then")?;
        let conditions =
            conjuncts(condition).iter().map(|part| self::condition(part)).collect::<Result<_, _>>()?;
        let (operations, verdict) = outcome(&mut inside)?;
        inside.end()?;
        rules.push(Rule { conditions, operations, verdict });
    }
    Ok(rules)
}

fn condition(part: &str) -> Result<String, Unknown> {
    for operator in ["~", "=", "!~", "!="] {
        for pattern in [format!("net {operator} <cidr>"), format!("net {operator} [ <cidr> ]")] {
            if let Some(c) = matches(&pattern, part) {
                return Ok(format!("net {operator} {}", c[0]));
            }
        }
    }
    if matches("source = RTS_BGP", part).is_some() {
        return Ok("from peers".to_owned());
    }
    if let Some(c) = matches("defined ( ifname ) && ifname ~ <pattern>", part) {
        return Ok(format!("interface {}", c[0]));
    }
    if let Some(c) = matches("defined ( bgp_local_pref ) && bgp_local_pref = <n>", part) {
        return Ok(format!("preference {}", c[0]));
    }
    Err(format!("a condition that is not understood: {part}"))
}

/// Whether the neighbour's address is of IPv4.
fn body_is_v4(mut body: Cursor<'_>) -> bool {
    body.try_leaf("local <*>");
    body.try_leaf("neighbor <addr> port <port> as <as>").is_some_and(|c| !c[0].contains(':'))
}

/// The port of a neighbour that is waited for, of the one that is named instead.
fn waited_for(named: &str) -> Result<String, Unknown> {
    let named: u16 = named.parse().map_err(|_| format!("no port: {named}"))?;
    Ok((u16::MAX - named).to_string())
}

fn session(name: &str, mut body: Cursor<'_>, ours: &mut Ours, suffix: &str) -> Result<Session, Unknown> {
    let mut session = Session { name: name.to_owned(), ..ours.common.clone() };
    let port;
    if let Some(c) = body.try_leaf("local <addr> port <port> as <as>") {
        session.source = Some(c[0].to_owned());
        (port, session.local_as) = (c[1].to_owned(), c[2].to_owned());
    } else {
        let c = body.leaf("local port <port> as <as>")?;
        (port, session.local_as) = (c[0].to_owned(), c[1].to_owned());
    }
    let c = body.leaf("neighbor <addr> port <port> as <as>")?;
    (session.neighbor, session.port, session.remote_as) = (c[0].into(), c[1].into(), c[2].into());
    let bound = body.try_leaf("strict bind").and(session.source.clone());
    let listen = (bound, Some(port));
    if ours.main.listen.1.is_some() && ours.main.listen != listen {
        return Err("sessions listen in different places".to_owned());
    }
    ours.main.listen = listen;
    if body.try_leaf("multihop").is_some() {
        body.leaf("ttl security off")?;
    } else {
        session.hops = Some(body.leaf("multihop <hops>")?[0].to_owned());
        body.leaf("ttl security on")?;
    }
    if body.try_leaf("passive").is_some() {
        // Where Calico lets both ends of a session call, ours agree on one.
        session.passive = !name.starts_with("Node_");
        // Who waits names a port that is not the neighbour's, and uses none.
        session.port = waited_for(&session.port)?;
    }
    let mut option =
        |pattern: &str| body.try_leaf(pattern).map(|c| c.first().copied().unwrap_or("").to_owned());
    session.restart_time = option("graceful restart time <s>");
    session.keepalive = option("keepalive time <s>");
    if option("rr client").is_some() {
        session.cluster_id = Some(option("rr cluster id <id>").ok_or("a client without a cluster")?);
    }
    session.password = option("password <text>");
    session.allow_local_as = option("allow local as <n>");
    let (_, mut channel) = body.block(&format!("ip{suffix}"))?;
    body.end()?;
    channel.leaf("gateway recursive")?;
    channel.leaf("add paths on")?;
    // Graceful restart is the template's.
    session.switches = (true, true, true);
    session.next_hop = channel.try_leaf("next hop <mode>").map(|c| c[0].to_owned());
    if channel.try_leaf(&format!("import filter calico_import_{suffix}")).is_none() {
        let (_, mut import) = channel.block("import filter")?;
        session.import = calls(&mut import)?;
        import.leaf(&format!("calico_accept_{suffix} ( )"))?;
        import.end()?;
    }
    for (side, internal) in [("internal", true), ("external", false)] {
        if channel.try_leaf(&format!("export filter calico_export_{side}_{suffix}")).is_some() {
            session.internal = internal;
            channel.end()?;
            return Ok(session);
        }
    }
    let (_, mut export) = channel.block("export filter")?;
    channel.end()?;
    export.leaf(&format!("calico_metric_{suffix} ( )"))?;
    session.export = calls(&mut export)?;
    session.internal = export.leaf(&format!("calico_export_{suffix} ( <bool> )"))?[0] == "true";
    export.end()?;
    Ok(session)
}
