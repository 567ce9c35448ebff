//! Calico's configuration of its BIRD 1.6, statement by statement.

use crate::meaning::{Aggr, Form, Ipam, Main, Rule, Session, Template};
use crate::text::{Cursor, Unknown, conjuncts, items, matches, split_token, tokens};

/// Reads `bird.cfg` or `bird6.cfg`; `prefix` is `bird` or `bird6`.
pub fn read_main(text: &str, prefix: &str) -> Result<Main, Unknown> {
    let items = items(&tokens(text)?)?;
    let mut file = Cursor::new(&items);
    let mut main = Main::default();
    let (_, mut inside) = file.block("function apply_communities ( )")?;
    while let Some((cidr, mut added)) = inside.try_block("if ( net ~ <cidr> ) then") {
        let mut communities = Vec::new();
        while !added.is_at_end() {
            communities.push(community(&mut added)?);
        }
        main.communities.push((cidr[0].to_owned(), communities));
    }
    inside.end()?;
    file.fixed("template kernel kernel_template", &["learn", "persist", "scan time 2", "import all"])?;
    let (_, mut direct) = file.block("template direct direct_template")?;
    main.logging = logging(&mut direct, "states");
    let interfaces = direct.leaf("interface <*>")?;
    main.ignored_interfaces = ignored(interfaces[0])?;
    direct.end()?;
    file.leaf(&format!("include \"{prefix}_aggr.cfg\""))?;
    file.leaf(&format!("include \"{prefix}_ipam.cfg\""))?;
    main.router_id = file.leaf("router id <id>")?[0].to_owned();
    if let Some(c) = file.try_leaf("listen bgp address <addr> port <port>") {
        main.listen = (Some(c[0].to_owned()), Some(c[1].to_owned()));
    } else if let Some(c) = file.try_leaf("listen bgp address <addr>") {
        main.listen.0 = Some(c[0].to_owned());
    } else if let Some(c) = file.try_leaf("listen bgp port <port>") {
        main.listen.1 = Some(c[0].to_owned());
    }
    file.fixed(
        "protocol kernel from kernel_template",
        &["export filter calico_kernel_programming", "graceful restart", "merge paths on"],
    )?;
    let (_, mut device) = file.block("protocol device")?;
    if logging(&mut device, "states") != main.logging {
        return Err("device and direct log differently".to_owned());
    }
    device.leaf("scan time 2")?;
    device.end()?;
    file.fixed("protocol direct from direct_template", &[])?;
    // Without an address in the family there is nothing more.
    let Some((_, mut template)) = file.try_block("template bgp bgp_template") else {
        file.end()?;
        return Ok(main);
    };
    if logging(&mut template, "states , routes , filters , events") != main.logging {
        return Err("bgp and direct log differently".to_owned());
    }
    template.leaf("description \"Connection to BGP peer\"")?;
    let local_as = template.leaf("local as <as>")?[0].to_owned();
    template.leaf("gateway recursive")?;
    template.leaf("add paths on")?;
    template.leaf("graceful restart")?;
    let mut timers = template.leaf("connect delay time <s>")?;
    timers.extend(template.leaf("connect retry time <s>")?);
    timers.extend(template.leaf("error wait time <s> , <s>")?);
    template.end()?;
    let timers = timers.iter().map(|s| (*s).to_owned()).collect();
    main.template = Some(Template { local_as: local_as.clone(), timers });
    while let Some((name, body)) = file.try_block("function <name> ( )") {
        main.filters.insert(name[0].to_owned(), rules(body)?);
    }
    while let Some((name, body)) = file.try_block("protocol bgp <name> from bgp_template") {
        let mut session = session(name[0], body, &local_as)?;
        session.switches = (true, true, true);
        main.sessions.push(session);
    }
    file.end()?;
    main.sessions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(main)
}

fn logging(block: &mut Cursor<'_>, normal: &str) -> String {
    if block.try_fixed("debug", &[normal]).is_some() {
        "normal"
    } else if block.try_leaf("debug all").is_some() {
        "debug"
    } else {
        "none"
    }
    .to_owned()
}

/// The interfaces before `-"cali*", -"kube-ipvs*", "*"`.
pub fn ignored(list: &str) -> Result<Vec<String>, Unknown> {
    let rest =
        list.strip_suffix("- \"cali*\" , - \"kube-ipvs*\" , \"*\"").ok_or("other interfaces than ever")?;
    let mut names = Vec::new();
    let mut rest = rest.trim_end();
    while !rest.is_empty() {
        let c = matches("- <name> , <*>", rest).ok_or("interfaces that are not excluded")?;
        names.push(c[0].to_owned());
        rest = c[1];
    }
    Ok(names)
}

/// A statement that adds a community, as `(a , b)`.
pub fn community(block: &mut Cursor<'_>) -> Result<String, Unknown> {
    if let Some(c) = block.try_leaf("bgp_large_community.add ( ( <a> , <b> , <c> ) )") {
        return Ok(format!("({}, {}, {})", c[0], c[1], c[2]));
    }
    let c = block.leaf("bgp_community.add ( ( <a> , <b> ) )")?;
    Ok(format!("({}, {})", c[0], c[1]))
}

fn rules(mut body: Cursor<'_>) -> Result<Vec<Rule>, Unknown> {
    let mut rules = Vec::new();
    while !body.is_at_end() {
        let (conditions, mut inside) = match body.try_block("if <*>") {
            Some((c, inside)) => {
                let condition = c[0].strip_suffix(" then").ok_or("a condition without its then")?;
                // One pair of parentheses around the whole, one around each part.
                let [whole] = conjuncts(condition).try_into().map_err(|_| "a condition in no parentheses")?;
                (
                    conjuncts(&whole).iter().map(|part| self::condition(part)).collect::<Result<_, _>>()?,
                    inside,
                )
            }
            None => (Vec::new(), body),
        };
        let is_bare = conditions.is_empty();
        let (operations, verdict) = outcome(&mut inside)?;
        if is_bare {
            body = inside;
        } else {
            inside.end()?;
        }
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
    let guarded =
        |name: &str, rest: &str| matches(&format!("( defined ( {name} ) ) && ( {name} {rest} )"), part);
    if guarded("source", "~ [ RTS_BGP ]").is_some() {
        return Ok("from peers".to_owned());
    }
    if let Some(c) = guarded("ifname", "~ <pattern>") {
        return Ok(format!("interface {}", c[0]));
    }
    if let Some(c) = guarded("bgp_local_pref", "= <n>") {
        return Ok(format!("preference {}", c[0]));
    }
    Err(format!("a condition that is not understood: {part}"))
}

/// The statements of a rule up to its verdict.
pub fn outcome(block: &mut Cursor<'_>) -> Result<(Vec<String>, String), Unknown> {
    let mut operations = Vec::new();
    loop {
        for verdict in ["accept", "reject"] {
            if block.try_leaf(verdict).is_some() {
                return Ok((operations, verdict.to_owned()));
            }
        }
        operations.push(if let Some(c) = block.try_leaf("bgp_path.prepend ( <as> )") {
            format!("prepend {}", c[0])
        } else if let Some(c) = block.try_leaf("bgp_local_pref = <n>") {
            format!("preference {}", c[0])
        } else {
            format!("add {}", community(block)?)
        });
    }
}

fn session(name: &str, mut body: Cursor<'_>, local_as: &str) -> Result<Session, Unknown> {
    let mut session = Session { name: name.to_owned(), local_as: local_as.to_owned(), ..Session::default() };
    if let Some(c) = body.try_leaf("local as <as>") {
        session.local_as = c[0].to_owned();
    }
    let c = match body.try_leaf("neighbor <addr> port <port> as <as>") {
        Some(c) => c,
        None => {
            let c = body.leaf("neighbor <addr> as <as>")?;
            vec![c[0], "179", c[1]]
        }
    };
    (session.neighbor, session.port, session.remote_as) = (c[0].into(), c[1].into(), c[2].into());
    session.source = body.try_leaf("source address <addr>").map(|c| c[0].to_owned());
    if body.try_leaf("ttl security off").is_some() {
        body.leaf("multihop")?;
    } else {
        body.leaf("ttl security on")?;
        session.hops = Some(body.leaf("multihop <hops>")?[0].to_owned());
    }
    let (_, mut import) = body.block("import filter")?;
    session.import = calls(&mut import)?;
    let head = "if ( defined ( bgp_local_pref ) && ( bgp_local_pref > <n> ) ) then preference = <n>";
    let c = import.leaf(head)?;
    session.elevated = (c[0].to_owned(), c[1].to_owned());
    import.leaf("accept")?;
    import.end()?;
    let (_, mut export) = body.block("export filter")?;
    export.fixed(
        "if ( defined ( source ) && source = RTS_BGP && defined ( bgp_local_pref ) ) then",
        &["krt_metric = 2147483647 - bgp_local_pref"],
    )?;
    let (_, mut otherwise) = export.block("else")?;
    let c = otherwise.fixed("if ( ! defined ( krt_metric ) ) then", &["krt_metric = <n>"])?;
    session.normal_metric = c[0].to_owned();
    otherwise.leaf("bgp_local_pref = 2147483647 - krt_metric")?;
    otherwise.end()?;
    session.export = calls(&mut export)?;
    session.internal = match export.leaf("calico_export_to_bgp_peers ( <bool> )")?[0] {
        "true" => true,
        "false" => false,
        other => return Err(format!("{other} is neither true nor false")),
    };
    export.leaf("reject")?;
    export.end()?;
    session.passive = body.try_leaf("passive on").is_some();
    let mut option =
        |pattern: &str| body.try_leaf(pattern).map(|c| c.first().copied().unwrap_or("").to_owned());
    session.restart_time = option("graceful restart time <s>");
    session.keepalive = option("keepalive time <s>");
    if option("rr client").is_some() {
        session.cluster_id = Some(option("rr cluster id <id>").ok_or("a client without a cluster")?);
    }
    session.password = option("password <text>");
    session.next_hop = option("next hop keep").map(|_| "keep".to_owned());
    session.next_hop = option("next hop self").map(|_| "self".to_owned()).or(session.next_hop);
    session.allow_local_as = option("allow local as <n>");
    body.end()?;
    Ok(session)
}

/// Calls of BGPFilters' functions, which alone have quoted names.
pub fn calls(block: &mut Cursor<'_>) -> Result<Vec<String>, Unknown> {
    let mut calls = Vec::new();
    loop {
        let mut ahead = *block;
        let Some(c) = ahead.try_leaf("<name> ( <*>").filter(|c| c[0].starts_with('\'')) else {
            return Ok(calls);
        };
        let argument = c[1].strip_suffix(')').ok_or("a call without its end")?.trim();
        calls.push(format!("{}({argument})", c[0]));
        *block = ahead;
    }
}

/// Reads `bird_aggr.cfg` or `bird6_aggr.cfg`.
pub fn read_aggr(text: &str) -> Result<Aggr, Unknown> {
    let items = items(&tokens(text)?)?;
    let mut file = Cursor::new(&items);
    let mut aggr = Aggr::default();
    let (_, mut routes) = file.block("template static static_template")?;
    while !routes.is_at_end() {
        if let Some(c) = routes.try_leaf("route <cidr> via <gateway>") {
            aggr.gateways.push((c[0].to_owned(), c[1].to_owned()));
        } else {
            aggr.blackholes.push(routes.leaf("route <cidr> blackhole")?[0].to_owned());
        }
    }
    if aggr != Aggr::default() {
        file.fixed("protocol static from static_template", &[])?;
    }
    let (_, mut inside) = file.block("function calico_aggr ( )")?;
    while !inside.is_at_end() {
        let block = inside.fixed("if ( net = <block> ) then", &["accept"])?[0];
        let head = format!("if ( net ~ {block} && krt_metric < <n> ) then");
        let metric = inside.fixed(&head, &["accept"])?[0];
        inside.fixed(&format!("if ( net ~ {block} ) then"), &["reject"])?;
        aggr.blocks.push((block.to_owned(), metric.to_owned()));
    }
    file.end()?;
    aggr.blackholes.sort();
    aggr.gateways.sort();
    aggr.blocks.sort();
    Ok(aggr)
}

/// Reads `bird_ipam.cfg` or `bird6_ipam.cfg`.
pub fn read_ipam(text: &str) -> Result<Ipam, Unknown> {
    let items = items(&tokens(text)?)?;
    let mut file = Cursor::new(&items);
    let mut ipam = Ipam::default();
    let (_, mut local) = file.block("function reject_local_routes ( )")?;
    let (_, mut named) = local.block("if ( defined ( ifname ) ) then")?;
    ipam.interfaces =
        named.fixed("if ( ifname ~ <name> ) then", &["reject"])?.iter().map(|s| (*s).into()).collect();
    named.end()?;
    local.end()?;
    let (_, mut export) = file.block("function calico_export_to_bgp_peers ( bool internal_peer )")?;
    while let Some(c) = export.try_fixed("if ( net ~ <cidr> ) then", &["reject"]) {
        ipam.held_back.push(c[0].to_owned());
    }
    let (_, mut internal) = export.block("if ( internal_peer ) then")?;
    let (_, mut named) = internal.block("if ( defined ( ifname ) ) then")?;
    let condition = named.fixed("if <*>", &["reject"])?[0];
    named.end()?;
    internal.end()?;
    ipam.internal_interfaces = alternatives(condition)?;
    for call in ["reject_local_routes ( )", "apply_communities ( )", "calico_aggr ( )"] {
        export.leaf(call)?;
    }
    while let Some(c) = export.try_fixed("if ( net ~ <cidr> ) then", &["accept"]) {
        ipam.announced.push(c[0].to_owned());
    }
    export.end()?;
    let (_, mut kernel) = file.block("filter calico_kernel_programming")?;
    file.end()?;
    while let Some(c) = kernel.try_fixed("if ( net ~ <cidr> ) then", &["reject"]) {
        ipam.rejected.push(c[0].to_owned());
    }
    let head = "if ( defined ( source ) && ( source = RTS_BGP ) && ! defined ( krt_metric ) ) then";
    let (_, mut learned) = kernel.block(head)?;
    ipam.normal_metric = learned.leaf("krt_metric = <n>")?[0].to_owned();
    learned.fixed("if ( defined ( bgp_local_pref ) ) then", &["krt_metric = 2147483647 - bgp_local_pref"])?;
    learned.fixed(&format!("if ( krt_metric < {} ) then", ipam.normal_metric), &["preference = 200"])?;
    learned.end()?;
    while let Some((c, mut inside)) = kernel.try_block("if ( net ~ <cidr> ) then") {
        ipam.pools.push((c[0].to_owned(), form(&mut inside)?));
        inside.end()?;
    }
    kernel.leaf("accept")?;
    kernel.end()?;
    for list in [&mut ipam.held_back, &mut ipam.announced, &mut ipam.rejected] {
        list.sort();
    }
    ipam.pools.sort();
    Ok(ipam)
}

fn form(inside: &mut Cursor<'_>) -> Result<Form, Unknown> {
    if inside.try_leaf("reject").is_some() {
        return Ok(Form::Reject);
    }
    let near = "if ( defined ( bgp_next_hop ) && ( bgp_next_hop ~ <subnet> ) ) then krt_tunnel = \"\"";
    let form = if inside.try_leaf("krt_tunnel = \"tunl0\"").is_some() {
        Form::Tunnel
    } else if let Some(c) = inside.try_leaf(near) {
        inside.leaf("else krt_tunnel = \"tunl0\"")?;
        Form::CrossSubnet(c[0].to_owned())
    } else {
        Form::Accept
    };
    inside.leaf("accept")?;
    Ok(form)
}

/// The names of `((ifname ~ "a") || (ifname ~ "b"))`, `then` at its end.
pub fn alternatives(condition: &str) -> Result<Vec<String>, Unknown> {
    let inner = condition
        .strip_prefix("( ")
        .and_then(|c| c.strip_suffix(" ) then"))
        .ok_or("names of interfaces in no parentheses")?;
    let mut names = Vec::new();
    let mut rest = inner;
    loop {
        let c = matches("( ifname ~ <name> ) <*>", rest).ok_or("no name of an interface")?;
        names.push(c[0].to_owned());
        match split_token(c[1]) {
            None => return Ok(names),
            Some(("||", after)) => rest = after,
            Some((other, _)) => return Err(format!("{other} between names of interfaces")),
        }
    }
}
