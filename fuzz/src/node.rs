//! What BIRD says on its control socket, and the environments of the node and its datastore.

use std::net::IpAddr;

use calico_mesh::birdc::{
    PeerKind, PeerName, Reply, ReplyDecoder, parse_protocols, parse_routes, parse_status,
};
use calico_node::autodetect::Method;
use calico_node::startup::settings;
use calico_store::config;

use crate::{environment, text, texts};

fn replies<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Reply> {
    let mut decoder = ReplyDecoder::new();
    let mut replies = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        replies.extend(std::iter::from_fn(|| decoder.pop()));
    }
    replies
}

/// Bytes of the control socket, cut in two ways.
pub fn birdc(data: &[u8]) {
    let whole = replies([data].into_iter());
    let cut = data.first().map_or(1, |b| usize::from(*b) % 7 + 1);
    assert_eq!(replies(data.chunks(cut)), whole);
    for reply in &whole {
        assert!(!reply.lines.is_empty());
        let _ = (reply.is_greeting(), reply.error(), parse_status(reply), parse_routes(reply));
        for protocol in parse_protocols(reply) {
            let _ = protocol.is_established();
            let Some(peer) = protocol.peer() else { continue };
            assert_eq!(peer_again(peer), Some(peer));
        }
        // What was read is written in the daemon's form and read again.
        let mut written = String::new();
        for (place, line) in reply.lines.iter().enumerate() {
            let separator = if place + 1 == reply.lines.len() { ' ' } else { '-' };
            written += &format!("{:04}{separator}{}\n", line.code, line.text);
        }
        let again = replies([written.as_bytes()].into_iter());
        if reply.lines.iter().all(|l| !l.text.ends_with('\r')) {
            assert_eq!(again, [reply.clone()]);
        }
    }
    if let Some(name) = text(data)
        && let Some(peer) = PeerName::parse(name)
    {
        assert_eq!(peer_again(peer), Some(peer));
    }
}

/// A mesh peer's name carries no port.
fn peer_again(peer: PeerName) -> Option<PeerName> {
    let again = PeerName::parse(&peer.to_string())?;
    Some(if peer.kind == PeerKind::Mesh { PeerName { port: peer.port, ..again } } else { again })
}

/// Where the datastore is: the environment, the agent's spelling of it, calicoctl's file, CNI's configuration.
pub fn datastore(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let lookup = environment(text);
    for settings in [
        config::Settings::from_environment(&lookup),
        config::Settings::from_felix_environment(&lookup),
        config::Settings::from_api_config(&lookup),
        config::Settings::from_netconf(&lookup),
    ] {
        if let Err(error) = settings.resolve() {
            assert!(!error.to_string().is_empty());
        }
        assert_eq!(settings.clone().or(settings.clone()), settings);
    }
}

/// The environment of a node's start.
pub fn node_settings(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let lookup = environment(text);
    let _ = settings::Settings::from_vars(&lookup);
    let _ = Method::parse(text);
    let name = settings::select_node_name(&lookup, Some(text), "Host");
    assert_eq!(name.trim(), name.as_str());
}

/// One of each.
pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let peer = |kind, addr: [u8; 4], port| PeerName { kind, addr: IpAddr::from(addr), port }.to_string();
    let names =
        [peer(PeerKind::Mesh, [10, 0, 0, 2], None), peer(PeerKind::Global, [10, 0, 0, 3], Some(1790))];
    let socket = format!(
        "0001 BIRD 2.0.12 ready.\n1000-BIRD 2.0.12\n1011-Router ID is 10.0.0.1\n Last reboot on 2026-01-01 00:00:00\n\
         0013 Daemon is up and running\n1002-{} BGP --- up 03:47:17 Established\n1006-  BGP state: Established\n\
           Neighbor address: 10.0.0.2\n   Channel ipv4\n     Routes: 1 imported, 3 exported\n\n0000 \n\
         1007-Table master4:\n 10.0.0.0/26 unicast [{} 03:47:17.448] * (100) [i]\n \tvia 10.0.0.2 on eth0\n0000 \n\
         9001 syntax error\n",
        names[0], names[1]
    );
    let store = [
        "DATASTORE_TYPE=etcdv3\nETCD_ENDPOINTS=https://a:2379,https://b:2379\nETCD_KEY_FILE=/k\nETCD_CERT_FILE=/c\n",
        "FELIX_DATASTORETYPE=embedded\nCALICO_DATASTORE_PATH=/x\n",
        "datastoreType=etcdv3\netcdEndpoints=http://a:1\netcdUsername=u\netcdPassword=p\n",
        "datastore_type=kubernetes\n",
        "ETCD_AUTHORITY=a:1\nETCD_SCHEME=https\n",
    ];
    let node = [
        "NODENAME=n\nIP=10.0.0.1/24\nIP6=none\nAS=64512\nCALICO_IPV4POOL_CIDR=10.0.0.0/16\nCALICO_IPV4POOL_IPIP=Always\n\
         CALICO_IPV4POOL_BLOCK_SIZE=26\nCALICO_IPV4POOL_NAT_OUTGOING=true\nCALICO_IPV4POOL_NODE_SELECTOR=all()\n",
        "IP=autodetect\nIP_AUTODETECTION_METHOD=interface=eth.*,en.*\nIP6_AUTODETECTION_METHOD=cidr=fd00::/8\n",
        "CALICO_NETWORKING_BACKEND=vxlan\nNO_DEFAULT_POOLS=true\nWAIT_FOR_DATASTORE=1\nCALICO_IPV6POOL_VXLAN=CrossSubnet\n",
        "skip-interface=docker.*",
    ];
    let mut birdc: Vec<Vec<u8>> = names.iter().map(|n| n.clone().into_bytes()).collect();
    birdc.push(socket.into_bytes());
    vec![("birdc", birdc), ("datastore", texts(store)), ("node_settings", texts(node))]
}
