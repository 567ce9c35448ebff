//! Bad input to a node that works otherwise: what is wrong, and the answer, word for word.

use calico_cni::arguments::Verb;
use serde_json::{Value, json};

use crate::world::{Container, conf, conf_with, on_host};

#[test]
fn wrong_input_is_named_and_leaves_nothing() {
    on_host(async |world| {
        let ipam = |members: Value| {
            let mut ipam = json!({"type": "calico-ipam"});
            ipam.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            conf_with(json!({"ipam": ipam}))
        };
        let cases = [
            (
                "",
                conf_with(json!({"dataplane_options": {"type": "grpc"}})),
                7,
                "invalid network configuration",
                "dataplane_options.type is \"grpc\"; there is no other dataplane; leave it out",
            ),
            (
                "",
                conf_with(json!({"ipam": {}})),
                7,
                "invalid network configuration",
                "ipam.type is \"\"; it must name a plugin such as calico-ipam or host-local",
            ),
            (
                "",
                conf_with(json!({"ipam": {"type": "../evil"}})),
                7,
                "invalid network configuration",
                "ipam.type is \"../evil\"; it must name a plugin such as calico-ipam or host-local",
            ),
            (
                "",
                conf_with(json!({"ipam": {"type": "none-such"}})),
                7,
                "IPAM plugin not found",
                "\"none-such\" is in no directory of CNI_PATH \"/usr/lib/cni\"",
            ),
            (
                "",
                ipam(json!({"ipv4_pools": ["none"]})),
                7,
                "invalid network configuration",
                "ipam.ipv4_pools has \"none\"; it must be the name or CIDR of an IPv4 pool",
            ),
            (
                "",
                ipam(json!({"ipv4_pools": ["pool6"]})),
                7,
                "invalid network configuration",
                "ipam.ipv4_pools has \"pool6\"; it must be the name or CIDR of an IPv4 pool",
            ),
            (
                "",
                ipam(json!({"assign_ipv6": "true", "ipv6_pools": ["10.65.0.0/24"]})),
                7,
                "invalid network configuration",
                "ipam.ipv6_pools has \"10.65.0.0/24\"; it must be the name or CIDR of an IPv6 pool",
            ),
            (
                "",
                ipam(json!({"ipv4_pools": ["10.99.0.0/16"]})),
                999,
                "cannot assign addresses",
                "the given pool (10.99.0.0/16) does not exist, or is not enabled",
            ),
            (
                "",
                ipam(json!({"assign_ipv4": "false"})),
                7,
                "invalid network configuration",
                "ipam.assign_ipv4 and ipam.assign_ipv6 are both \"false\"; a container needs an address",
            ),
            (
                "IP=nonsense",
                conf(),
                4,
                "invalid environment",
                "CNI_ARGS has IP=nonsense; it must be one IP address",
            ),
            (
                "IP=192.0.2.1",
                conf(),
                999,
                "cannot assign the address asked for",
                "192.0.2.1: The provided IP address is not in a configured pool",
            ),
            (
                "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=-x",
                conf(),
                4,
                "cannot name the endpoint",
                "the workload is \"-x\"; it must not be empty, begin or end with '-'",
            ),
            (
                "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=../x",
                conf(),
                4,
                "cannot name the endpoint",
                "the workload is \"../x\"; it must not be empty or have a '/' in it",
            ),
            (
                "",
                conf_with(json!({"mtu": 70000})),
                7,
                "invalid network configuration",
                "mtu is 70000; it must be from 68 to 65535, or 0 for automatic",
            ),
            (
                "",
                conf_with(json!({"num_queues": 5000})),
                7,
                "invalid network configuration",
                "num_queues is 5000; it must be at most 4096",
            ),
            (
                "",
                conf_with(json!({"name": ""})),
                7,
                "invalid network configuration",
                "name is \"\"; it must be letters, digits, '_', '.' or '-'",
            ),
            (
                "",
                conf_with(json!({"cniVersion": "1.2.0"})),
                1,
                "incompatible CNI version",
                "unsupported CNI version \"1.2.0\": this plugin speaks 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
            ),
            (
                "",
                json!([]),
                6,
                "cannot decode the network configuration",
                "invalid type: it is [], it must be a JSON object",
            ),
        ];
        let before = world.footprint().await;
        for (args, conf, code, msg, details) in cases {
            let container = Container { args: args.to_owned(), ..Container::new("c1") };
            let error = world.run(Verb::Add, &container, &conf).await.expect_err(details);
            assert_eq!((error.code, error.msg.as_str(), error.details.as_str()), (code, msg, details));
            assert_eq!(world.footprint().await, before, "{details}");
        }
    });
}
