//! From host-local to our own IPAM: what it gave is ours afterwards, also when the first try dies half-way.

use std::path::Path;
use std::time::Duration;

use calico_cni::upgrade::{self, Paths};
use serde_json::json;

use crate::world::{Container, NETWORK, NODE, World, conf_with, on_host};

fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

async fn is_ready(world: &World) -> bool {
    world.context.check_ready().await.is_ok()
}

#[test]
fn what_host_local_gave_is_taken_over() {
    on_host(async |world| {
        let paths = Paths {
            leases: world.dir.path().join("networks").join(NETWORK),
            binaries: world.dir.path().join("bin"),
            settling: Duration::ZERO,
        };
        assert!(!upgrade::is_needed(&paths).unwrap(), "no directory, nothing to do");
        for name in ["lock", "last_reserved_ip.0"] {
            write(&paths.leases.join(name), "");
        }
        assert!(!upgrade::is_needed(&paths).unwrap(), "a directory without addresses");
        for (address, container) in [("10.65.0.66", "c1\neth0"), ("10.65.0.67", "c2\r\neth0")] {
            write(&paths.leases.join(address), container);
        }
        for plugin in ["calico", "host-local", "portmap"] {
            write(&paths.binaries.join(plugin), "");
        }
        assert!(upgrade::is_needed(&paths).unwrap());
        world.kubernetes.put(&format!("/api/v1/nodes/{NODE}"), json!({"spec": {"podCIDR": "10.65.0.64/26"}}));

        // A file that cannot be read: it dies half-way, and nobody's ADD gets in between.
        std::fs::create_dir(paths.leases.join("10.65.0.68")).unwrap();
        upgrade::run(&world.context, &paths).await.unwrap_err();
        assert!(!is_ready(&world).await);
        std::fs::remove_dir(paths.leases.join("10.65.0.68")).unwrap();

        assert_eq!(upgrade::run(&world.context, &paths).await, Ok(2));
        assert!(is_ready(&world).await);
        let footprint = world.footprint().await;
        let handles: Vec<_> = footprint.handles.iter().map(|h| h.rsplit('/').next().unwrap()).collect();
        assert_eq!(
            handles,
            [format!("ipip-tunnel-addr-{NODE}"), format!("{NETWORK}.c1"), format!("{NETWORK}.c2")]
        );
        assert_eq!(footprint.assigned.len(), 3);
        assert!(!upgrade::is_needed(&paths).unwrap());
        let left = std::fs::read_dir(&paths.binaries).unwrap().map(|e| e.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["portmap"]);
        // From now on the containers' DELs are our IPAM's.
        let conf = conf_with(json!({"ipam": {"type": "calico-ipam"}}));
        world.del(&Container::new("c1"), &conf).await;
        assert_eq!(world.footprint().await.assigned.len(), 2);
    });
}
