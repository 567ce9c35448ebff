//! Names of endpoint status files: what Felix writes and CNI plugins wait for (spec 3 §6.10, spec 5 §1.12).

/// The directory under `EndpointStatusPathPrefix`.
pub const DIRECTORY: &str = "endpoint-status";

/// Orchestrator, workload (`namespace/pod`) and endpoint, each escaped as a URL path segment, joined by one space.
pub fn name(orchestrator: &str, workload: &str, endpoint: &str) -> String {
    [orchestrator, workload, endpoint].map(escape_segment).join(" ")
}

/// RFC 3986 path segment: unreserved and the sub-delimiters that Calico leaves as they are.
fn escape_segment(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_escaped() {
        assert_eq!(name("k8s", "ns/pod", "eth0"), "k8s ns%2Fpod eth0");
        assert_eq!(name("cni", "a b", "e%"), "cni a%20b e%25");
    }
}
