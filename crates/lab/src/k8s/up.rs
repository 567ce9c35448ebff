//! Building a cluster: everything that can start at once does; what must wait, waits for a condition.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::api::{has_condition, wait_for};
use super::args::{Cni, UpArgs};
use super::cluster::{CONTROL_PLANE, Cluster};
use super::network::{PODS, SERVICES};
use super::{images, node, pki, place, ptp, status};
use crate::fabric::step;
use crate::process::output;

/// Deadlines of a machine that does other things too: alone, each of these takes seconds.
const API_DEADLINE: Duration = Duration::from_secs(180);
const NODES_DEADLINE: Duration = Duration::from_secs(300);
const NAME_SERVICE_DEADLINE: Duration = Duration::from_secs(300);

/// The name service's manifest.
const COREDNS: &str = include_str!("../../k8s/coredns.yaml");
/// The programs that the binary of Kubernetes is called by.
const PROGRAMS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];

/// Says what was reached, and when.
struct Progress {
    start: Instant,
}

impl Progress {
    fn reached(&self, what: &str) {
        step(&format!("{:5.1} s  {what}", self.start.elapsed().as_secs_f64()));
    }
}

/// Calico's image, which is looked for before anything is built.
fn calico_image(args: &UpArgs) -> Result<PathBuf> {
    let image = args.image();
    images::check(&image).context("Calico's image: `make image` makes it, --image names another")?;
    Ok(image)
}

/// Builds a cluster and waits until it can be used.
pub fn build(dir: &Path, args: &UpArgs) -> Result<()> {
    let progress = Progress { start: Instant::now() };
    if dir.join("cluster.json").exists() || dir.join("state.json").exists() {
        bail!("a lab is already up in {}; `calico lab k8s down` removes it", dir.display());
    }
    let covered = ["/etc", "/opt", "/var/lib", "/var/log"];
    if let Some(parent) = covered.iter().find(|parent| dir.starts_with(parent)) {
        bail!("--dir {}: a node lays a layer over {parent}, so the lab must be elsewhere", dir.display());
    }
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        // `down` removes the directory and everything in it.
        bail!("--dir {}: there are files in it that are not a lab's", dir.display());
    }
    if args.cni == Cni::Calico && !args.manifest.is_file() {
        bail!("no manifest {}; give another with --manifest, or use --cni ptp", args.manifest.display());
    }
    let image = (args.cni == Cni::Calico).then(|| calico_image(args)).transpose()?;
    let parts = parts(args)?;
    let mut archives = images::build_all(&parts)?;
    archives.extend(image);
    let cluster = Cluster::new(dir, &parts, args)?;
    std::fs::create_dir_all(dir.join("bin")).with_context(|| format!("{}", dir.display()))?;
    // Before anything runs: what fails halfway can still be taken down.
    cluster.save()?;
    progress.reached("images");
    start(&cluster, args, &archives, &progress).inspect_err(|_| {
        eprintln!("logs are in {}/*/log; `calico lab k8s down` removes the lab", dir.display());
    })?;
    println!("{}", status::tables(&cluster)?);
    print_advice(&cluster);
    Ok(())
}

/// Where the programs of Kubernetes are, if they were built; and whether the machine has the others.
fn parts(args: &UpArgs) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in ["containerd", "containerd-shim-runc-v2", "ctr", "runc"] {
        if !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
            bail!("no {program} on this machine: `make k8s-setup` installs what nodes run");
        }
    }
    let parts = match (&args.parts, std::env::var_os("HOME")) {
        (Some(parts), _) => parts.clone(),
        (None, Some(home)) => Path::new(&home).join(".cache/calico-lab"),
        (None, None) => bail!("no HOME to find the programs of Kubernetes in: use --parts"),
    };
    for program in ["hyperkube", "coredns", "pause"] {
        let path = parts.join("bin").join(program);
        if !path.is_file() {
            bail!("no {}: `make k8s-parts` builds the programs of Kubernetes", path.display());
        }
    }
    Ok(parts)
}

fn start(cluster: &Cluster, args: &UpArgs, archives: &[PathBuf], progress: &Progress) -> Result<()> {
    lay_out(cluster)?;
    progress.reached("keys, certificates and configuration");
    for place in &cluster.places {
        place::spawn(cluster, place)?;
        place::wire(cluster, place)?;
    }
    progress.reached("places: control plane, client and nodes have their network");
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| load_everywhere(cluster, archives));
        let api = wait_for("the API server", API_DEADLINE, || cluster.get("/readyz").map(|_| None))
            .with_context(|| format!("see {}", cluster.log(CONTROL_PLANE, "kube-apiserver").display()));
        if api.is_ok() {
            std::fs::write(cluster.api_ready(), "")?;
            progress.reached("the API server answers");
        }
        let loaded = loading.join().map_err(|_| anyhow::anyhow!("loading images stopped"))?;
        api.and(loaded)
    })?;
    progress.reached("every node has its images");
    install(cluster, args)?;
    progress.reached("network and name service are applied");
    if args.cni == Cni::None {
        return Ok(());
    }
    wait_for("every node to be Ready", NODES_DEADLINE, || nodes_not_ready(cluster))?;
    progress.reached("every node is Ready");
    wait_for("the name service", NAME_SERVICE_DEADLINE, || {
        let deployment = cluster.get_json("/apis/apps/v1/namespaces/kube-system/deployments/coredns")?;
        let available = has_condition(&deployment, "Available");
        Ok((!available).then(|| deployment["status"].to_string()))
    })?;
    progress.reached("CoreDNS answers");
    Ok(())
}

/// Writes all files that programs read.
fn lay_out(cluster: &Cluster) -> Result<()> {
    let bin = cluster.dir.join("bin");
    let own = std::env::current_exe().context("own path")?;
    let links = PROGRAMS
        .iter()
        .map(|name| (*name, cluster.parts.join("bin/hyperkube")))
        .chain(["calico", "calicoctl"].map(|name| (name, own.clone())));
    for (name, target) in links {
        std::os::unix::fs::symlink(&target, bin.join(name))
            .with_context(|| format!("{name} in {}", bin.display()))?;
    }
    pki::write_all(cluster)?;
    write_kubectl(cluster, &own)?;
    for place in &cluster.places {
        std::fs::create_dir_all(cluster.place_dir(&place.name).join("log"))?;
    }
    cluster.nodes().try_for_each(|node| node::write_files(cluster, node))
}

/// A kubectl for scripts that ask for one program.
fn write_kubectl(cluster: &Cluster, own: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let path = cluster.dir.join("kubectl");
    let text = format!(
        "#!/bin/sh\nexec '{}' lab --dir '{}' k8s kubectl \"$@\"\n",
        own.display(),
        cluster.dir.display()
    );
    std::fs::write(&path, text)
        .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("{}", path.display()))
}

fn load_everywhere(cluster: &Cluster, archives: &[PathBuf]) -> Result<()> {
    std::thread::scope(|scope| {
        // All are started before the first is awaited.
        let threads: Vec<_> = cluster
            .nodes()
            .map(|node| {
                scope.spawn(move || {
                    place::load_images(cluster, &node.name, archives)?;
                    std::fs::write(node::images_loaded(cluster, &node.name), "").context("images-loaded")
                })
            })
            .collect();
        let results: Vec<Result<()>> = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("loading images stopped"))?)
            .collect();
        results.into_iter().collect()
    })
}

/// Applies the network and the name service, which waits until there is a network.
fn install(cluster: &Cluster, args: &UpArgs) -> Result<()> {
    apply(cluster, "kubeadm-config.yaml", &kubeadm_config(cluster))?;
    match args.cni {
        Cni::None => {}
        Cni::Ptp => ptp::install(cluster)?,
        Cni::Calico => {
            output(cluster.kubectl()?.args(["apply", "-f"]).arg(&args.manifest))?;
        }
    }
    apply(cluster, "coredns.yaml", COREDNS)
}

fn apply(cluster: &Cluster, name: &str, manifest: &str) -> Result<()> {
    let path = cluster.dir.join(name);
    std::fs::write(&path, manifest).with_context(|| name.to_owned())?;
    output(cluster.kubectl()?.args(["apply", "-f"]).arg(&path))?;
    Ok(())
}

/// Where clusters that kubeadm made say which ranges they have; networks make their first pool of it.
fn kubeadm_config(cluster: &Cluster) -> String {
    let (pods, services) = (cluster.families(PODS), cluster.families(SERVICES));
    let text = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworking:\n  dnsDomain: cluster.local\n  \
         podSubnet: {pods}\n  serviceSubnet: {services}\n"
    );
    let map = serde_json::json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kubeadm-config", "namespace": "kube-system"},
        "data": {"ClusterConfiguration": text},
    });
    map.to_string()
}

fn nodes_not_ready(cluster: &Cluster) -> Result<Option<String>> {
    let nodes = cluster.list("/api/v1/nodes")?;
    let ready = |name: &str| nodes.iter().any(|n| n["metadata"]["name"] == name && has_condition(n, "Ready"));
    let missing: Vec<&str> = cluster.nodes().map(|n| n.name.as_str()).filter(|name| !ready(name)).collect();
    Ok((!missing.is_empty()).then(|| format!("{} not Ready", missing.join(", "))))
}

fn print_advice(cluster: &Cluster) {
    let lab = if cluster.dir == Path::new(super::DEFAULT_DIR) {
        "calico lab".to_owned()
    } else {
        format!("calico lab --dir {}", cluster.dir.display())
    };
    println!(
        "{lab} k8s kubectl get pods -A       kubectl; {} does the same",
        cluster.dir.join("kubectl").display()
    );
    println!("{lab} k8s exec client curl …        from outside the cluster; also node1, …, control-plane");
    println!("{lab} k8s load IMAGE                gives every node an image");
    println!("{lab} k8s down                      removes everything");
}
