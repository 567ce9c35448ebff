//! Endpoints and network sets as read from their resources: what sets need of all of them, and what this node needs
//! of its own.

use std::net::IpAddr;

use calico_api::kubernetes::endpoint_slice::{EndpointSliceSpec, SlicePort};
use calico_api::{EndpointPort, HostEndpoint, ResourceKey, WorkloadEndpoint, WorkloadPort};
use calico_net::{Cidr, IfName, Mac};
use smol_str::{SmolStr, format_smolstr};

use crate::change::WorkloadId;
use crate::members::{NamedPort, Nets};

/// What sets need of an endpoint or network set.
#[derive(Debug)]
pub(crate) struct Contributor {
    /// Addresses.
    pub(crate) nets: Nets,
    /// Named ports, sorted, each once.
    pub(crate) ports: Vec<NamedPort>,
}

/// An endpoint of this node, beside its policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    Workload(LocalWorkload),
    Host(LocalHost),
}

/// A workload endpoint of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalWorkload {
    pub(crate) id: WorkloadId,
    pub(crate) interface: IfName,
    pub(crate) mac: Option<Mac>,
    pub(crate) nets: Vec<Cidr>,
    pub(crate) allowed_sources: Vec<Cidr>,
}

/// A host endpoint of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalHost {
    pub(crate) interface: SmolStr,
    pub(crate) expected_ips: Vec<IpAddr>,
}

/// Why an endpoint or network set counts as absent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointError {
    /// A value has no meaning in its field.
    #[error("{field} {text:?} is not understood")]
    Value {
        /// The field.
        field: &'static str,
        /// The text.
        text: String,
    },
    /// Neither an interface nor an address.
    #[error("it has neither interfaceName nor expectedIPs")]
    Nowhere,
    /// It wants foreign source addresses, which the operator has not allowed.
    #[error("it has allowSpoofedSourcePrefixes, and WorkloadSourceSpoofing is not Any")]
    Spoofing,
}

fn value(field: &'static str, text: impl ToString) -> EndpointError {
    EndpointError::Value { field, text: text.to_string() }
}

/// Whether a workload endpoint may have the foreign source addresses that it wants.
pub(crate) fn check_spoofing(endpoint: &WorkloadEndpoint, allowed: bool) -> Result<(), EndpointError> {
    match endpoint.spec.allow_spoofed_source_prefixes.is_empty() || allowed {
        true => Ok(()),
        false => Err(EndpointError::Spoofing),
    }
}

/// What a workload endpoint contributes to sets. One without a proper interface counts as absent everywhere
/// (spec 3 §6.2).
pub(crate) fn read_workload(endpoint: &WorkloadEndpoint) -> Result<Contributor, EndpointError> {
    let spec = &endpoint.spec;
    interface(spec)?;
    mac(spec)?;
    let ports = spec.ports.iter().filter(|port| !port.name.is_empty());
    let ports = ports.map(|WorkloadPort { name, protocol, port, .. }| (name, protocol, *port));
    read_nets("allowedSpoofedSourcePrefixes", &spec.allow_spoofed_source_prefixes)?;
    Ok(Contributor {
        nets: Nets::new(read_nets("ipNetworks", &spec.ip_networks)?),
        ports: read_ports(ports)?,
    })
}

/// What this node needs of a workload endpoint of its own.
pub(crate) fn read_local_workload(
    key: &ResourceKey,
    endpoint: &WorkloadEndpoint,
) -> Result<LocalWorkload, EndpointError> {
    let spec = &endpoint.spec;
    let workload = match &*spec.orchestrator {
        "k8s" => &spec.pod,
        "cni" => &spec.container_id,
        "libnetwork" => &spec.orchestrator,
        _ => &spec.workload,
    };
    Ok(LocalWorkload {
        id: WorkloadId {
            orchestrator: spec.orchestrator.clone(),
            workload: format_smolstr!("{}/{workload}", key.namespace),
            endpoint: spec.endpoint.clone(),
        },
        interface: interface(spec)?,
        mac: mac(spec)?,
        nets: read_nets("ipNetworks", &spec.ip_networks)?,
        allowed_sources: read_nets("allowSpoofedSourcePrefixes", &spec.allow_spoofed_source_prefixes)?,
    })
}

fn interface(spec: &calico_api::WorkloadEndpointSpec) -> Result<IfName, EndpointError> {
    spec.interface_name.parse().map_err(|_| value("interfaceName", &spec.interface_name))
}

fn mac(spec: &calico_api::WorkloadEndpointSpec) -> Result<Option<Mac>, EndpointError> {
    let text = &spec.mac;
    (!text.is_empty()).then(|| text.parse().map_err(|_| value("mac", text))).transpose()
}

/// What a host endpoint contributes to sets, and what its own node needs of it.
pub(crate) fn read_host(endpoint: &HostEndpoint) -> Result<(Contributor, LocalHost), EndpointError> {
    let spec = &endpoint.spec;
    let expected_ips = spec
        .expected_ips
        .iter()
        .map(|text| text.parse().map_err(|_| value("expectedIPs", text)))
        .collect::<Result<Vec<IpAddr>, _>>()?;
    if expected_ips.is_empty() && spec.interface_name.is_empty() {
        return Err(EndpointError::Nowhere);
    }
    let ports = spec.ports.iter().map(|EndpointPort { name, protocol, port }| (name, protocol, *port));
    let nets = Nets::new(expected_ips.iter().copied().map(Cidr::host).collect());
    let contributor = Contributor { nets, ports: read_ports(ports)? };
    Ok((contributor, LocalHost { interface: spec.interface_name.clone(), expected_ips }))
}

/// What a network set contributes to sets.
pub(crate) fn read_set(nets: &[SmolStr]) -> Result<Contributor, EndpointError> {
    Ok(Contributor { nets: Nets::new(read_nets("nets", nets)?), ports: Vec::new() })
}

/// What a slice of a service's addresses contributes: each address with each port, whatever the ports are called.
pub(crate) fn read_slice(slice: &EndpointSliceSpec) -> Result<Contributor, EndpointError> {
    // Who announces a service is not policy's affair.
    let EndpointSliceSpec { service: _, address_type: _, ready_nodes: _, addresses, ports } = slice;
    let nameless = SmolStr::default();
    let ports = ports.iter().map(|SlicePort { name: _, protocol, port }| (&nameless, protocol, *port));
    Ok(Contributor { nets: Nets::new(read_nets("addresses", addresses)?), ports: read_ports(ports)? })
}

fn read_nets(field: &'static str, nets: &[SmolStr]) -> Result<Vec<Cidr>, EndpointError> {
    nets.iter().map(|net| net.parse().map_err(|_| value(field, net))).collect()
}

fn read_ports<'a>(
    ports: impl Iterator<Item = (&'a SmolStr, &'a calico_api::ProtocolForm, u16)>,
) -> Result<Vec<NamedPort>, EndpointError> {
    let read = |(name, protocol, port): (&SmolStr, &calico_api::ProtocolForm, u16)| {
        let protocol = protocol.resolve().map_err(|_| value("ports.protocol", protocol))?;
        Ok(NamedPort { name: name.as_str().into(), protocol, port })
    };
    let mut ports: Vec<NamedPort> = ports.map(read).collect::<Result<_, _>>()?;
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}
