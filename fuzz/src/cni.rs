//! What runtimes and plugins say: network configurations, environments, results, frames, spooled requests.

use calico_cni::arguments::Arguments;
use calico_cni::netconf::{NetConf, requested_address};
use calico_cni::request::{PROTOCOL, Plugin, Request, Response, body_len, header};
use calico_cni::result::AddResult;
use calico_cni::spool;
use calico_cni::version::SpecVersion;
use calico_net::Family;
use serde_json::{Value, json};

use crate::{environment, text, texts};

/// A network configuration.
pub fn netconf(data: &[u8]) {
    let Ok((conf, version)) = NetConf::parse(data) else { return };
    assert_eq!(NetConf::from_value(conf.raw.clone()), Ok((conf.clone(), version)));
    let _ = (conf.assign(Family::V4), conf.assign(Family::V6), conf.queues(), conf.has_credentials());
    let _ = (conf.labels().count(), conf.handle("c\rd"), conf.spool(), conf.ipam_lock());
    let field = |name: &str| conf.raw.get(name).and_then(Value::as_str).map(str::to_owned);
    let _ = calico_store::config::Settings::from_netconf(&field).resolve();
}

/// The environment of a plugin.
pub fn arguments(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(arguments) = Arguments::parse(environment(text)) else { return };
    let written = serde_json::to_vec(&arguments).expect("arguments serialise");
    assert_eq!(serde_json::from_slice::<Arguments>(&written).ok(), Some(arguments.clone()));
    let _ = (arguments.pod(), requested_address(&arguments));
}

/// The result of a delegated plugin, in every version.
pub fn result(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    let Some(result) = AddResult::from_json(&value) else { return };
    for version in SpecVersion::ALL {
        let again = AddResult::from_json(&result.to_json(version)).expect("what was written is read");
        if version >= SpecVersion::V0_3_0 {
            assert_eq!((&again.ips, &again.routes), (&result.ips, &result.routes));
        }
    }
}

/// Both sides of the agent's socket: the header of a frame, and the bodies.
pub fn frame(data: &[u8]) {
    if let Some((head, body)) = data.split_first_chunk::<4>()
        && let Some(len) = body_len(*head)
    {
        assert_eq!(header(&vec![0; len]), Some(*head));
        bodies(body);
    }
    bodies(data);
}

fn bodies(body: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(body) {
        let written = serde_json::to_vec(&request).expect("requests serialise");
        assert_eq!(serde_json::from_slice::<Request>(&written).ok(), Some(request.clone()));
        let _ = NetConf::from_value(request.netconf);
    }
    if let Ok(response) = serde_json::from_slice::<Response>(body) {
        let written = serde_json::to_vec(&response).expect("responses serialise");
        assert_eq!(serde_json::from_slice::<Response>(&written).ok(), Some(response));
    }
}

/// A file of the spool, and the file that a request in it would be written to.
pub fn spool_file(data: &[u8]) {
    let dir = std::env::temp_dir().join(format!("calico-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    let file = dir.join("0-x-eth0.json");
    std::fs::write(&file, data).expect("a file in it");
    if let Some(request) = spool::read(&file).expect("a file that is there is read or set aside") {
        let _ = spool::list_of(&dir, &request.arguments).expect("the directory is listed");
        // Names with a slash lead elsewhere; the plugin's own arguments have none.
        if !request.arguments.container_id.contains(['/', '\0'])
            && !request.arguments.ifname.contains(['/', '\0'])
        {
            match spool::write(&dir, &request, 1) {
                Ok(written) => assert_eq!(spool::read(&written).expect("it is there"), Some(request)),
                Err(error) => assert!(matches!(error, spool::SpoolError::Io { .. }), "{error}"),
            }
        }
    }
    std::fs::remove_dir_all(&dir).expect("the directory is removed");
}

/// What the plugins themselves write.
pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "calico", "mtu": 1450, "nodename": "n",
        "datastore_type": "embedded", "datastore_path": "/x", "log_level": "info", "agent_socket": "/run/x.sock",
        "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "false", "ipv4_pools": ["10.0.0.0/16"]},
        "container_settings": {"allow_ip_forwarding": true}, "policy": {"type": "k8s"}, "num_queues": 2,
        "args": {"org.apache.mesos": {"network_info": {"labels": {"labels": [{"key": "a", "value": "b"}]}}}},
        "runtimeConfig": {"dns": {"servers": ["1.1.1.1"], "domain": "d", "searches": ["s"], "options": ["o"]}},
        "policy_setup_timeout_seconds": 5, "cni.dev/valid-attachments": [{"containerID": "c", "ifname": "eth0"}],
        "prevResult": {"ips": [{"address": "10.0.0.1/32"}]}});
    let environment = "CNI_COMMAND=DEL\nCNI_CONTAINERID=c1\nCNI_NETNS=/run/netns/x\nCNI_IFNAME=eth0\n\
        CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;IP=10.0.0.1\nCNI_PATH=/opt/cni/bin\n";
    let arguments = Arguments::parse(crate::environment(environment)).expect("these are arguments");
    let request = Request { protocol: PROTOCOL, plugin: Plugin::Network, arguments, netconf: conf.clone() };
    let body = serde_json::to_vec(&request).expect("requests serialise");
    let framed = [&header(&body).expect("it is short")[..], &body].concat();
    let answer = serde_json::to_vec(&Response::Done(Some(json!({})))).expect("responses serialise");
    let failed = json!({"failed": {"code": 11, "msg": "m", "details": "d"}}).to_string().into_bytes();
    let result = AddResult::from_json(&json!({"ips": [{"address": "10.0.0.1/26", "gateway": "169.254.1.1"},
        {"address": "fd00::1/122"}], "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0"}]}))
    .expect("this is a result");
    let results = SpecVersion::ALL.iter().map(|v| result.to_json(*v).to_string().into_bytes()).collect();
    vec![
        ("netconf", vec![conf.to_string().into_bytes()]),
        ("arguments", texts([environment, "CNI_COMMAND=VERSION\n"])),
        ("result", results),
        ("frame", vec![framed, body.clone(), answer, failed]),
        ("spool", vec![body]),
    ]
}
