//! What the runtime passes in the environment: the verb, the container, CNI_ARGS.

use serde::{Deserialize, Serialize};

use crate::error::{CniError, Code};

/// What the runtime asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Verify an attachment.
    Check,
    /// Would ADD work now?
    Status,
    /// Remove what belongs to no valid attachment.
    Gc,
    /// Which versions?
    Version,
}

/// The parsed environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arguments {
    /// CNI_COMMAND.
    pub verb: Verb,
    /// CNI_CONTAINERID; empty for VERSION, STATUS and GC.
    pub container_id: String,
    /// CNI_NETNS; may be empty for DEL.
    pub netns: String,
    /// CNI_IFNAME.
    pub ifname: String,
    /// CNI_ARGS, unparsed: handed on to delegated plugins.
    pub args: String,
    /// CNI_PATH, where delegated plugins are.
    pub path: String,
}

impl Arguments {
    /// Parses the CNI_ variables, given a way to read one.
    pub fn parse(lookup: impl Fn(&str) -> Option<String>) -> Result<Arguments, CniError> {
        let get = |name: &str| lookup(name).unwrap_or_default();
        let invalid = |what: String| CniError::new(Code::InvalidEnvironment, "invalid environment", what);
        let verb = match get("CNI_COMMAND").as_str() {
            "ADD" => Verb::Add,
            "DEL" => Verb::Del,
            "CHECK" => Verb::Check,
            "STATUS" => Verb::Status,
            "GC" => Verb::Gc,
            "VERSION" => Verb::Version,
            other => {
                return Err(invalid(format!(
                    "CNI_COMMAND is {other:?}; it must be ADD, DEL, CHECK, STATUS, GC or VERSION"
                )));
            }
        };
        let arguments = Arguments {
            verb,
            container_id: get("CNI_CONTAINERID"),
            netns: get("CNI_NETNS"),
            ifname: get("CNI_IFNAME"),
            args: get("CNI_ARGS"),
            path: get("CNI_PATH"),
        };
        let attachment = matches!(verb, Verb::Add | Verb::Del | Verb::Check);
        if attachment && !is_container_id(&arguments.container_id) {
            return Err(invalid(format!(
                "CNI_CONTAINERID is {:?}; it must begin with a letter or digit, then letters, digits, '_', '.' or '-'",
                arguments.container_id
            )));
        }
        if attachment && arguments.ifname.parse::<calico_net::IfName>().is_err() {
            return Err(invalid(format!(
                "CNI_IFNAME is {:?}; it must be an interface name of 1 to 15 characters",
                arguments.ifname
            )));
        }
        if matches!(verb, Verb::Add | Verb::Check) && arguments.netns.is_empty() {
            return Err(invalid(
                "CNI_NETNS is missing; it is the path of the container's network namespace".into(),
            ));
        }
        Ok(arguments)
    }

    /// A verb that is about no container.
    pub fn of_verb(verb: Verb) -> Arguments {
        let none = String::new;
        Arguments { verb, container_id: none(), netns: none(), ifname: none(), args: none(), path: none() }
    }

    /// A value of CNI_ARGS (`K=V;K=V`); empty counts as absent.
    pub fn arg(&self, key: &str) -> Option<&str> {
        let value = self.args.split(';').filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == key)?.1;
        (!value.is_empty()).then_some(value)
    }

    /// Pod name and namespace: present together or the workload is no pod (spec 5 §1.3).
    pub fn pod(&self) -> Option<(&str, &str)> {
        Some((self.arg("K8S_POD_NAMESPACE")?, self.arg("K8S_POD_NAME")?))
    }
}

fn is_container_id(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Arguments, CniError> {
        Arguments::parse(|name| pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn says_which_variable_is_wrong() {
        for (pairs, expected) in [
            (&[][..], "CNI_COMMAND is \"\""),
            (&[("CNI_COMMAND", "add")], "CNI_COMMAND is \"add\""),
            (&[("CNI_COMMAND", "ADD")], "CNI_CONTAINERID is \"\""),
            (&[("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "../x")], "CNI_CONTAINERID is \"../x\""),
            (&[("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "x")], "CNI_IFNAME is \"\""),
            (
                &[("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "x"), ("CNI_IFNAME", "eth0")],
                "CNI_NETNS is missing",
            ),
        ] {
            let error = parse(pairs).expect_err("must be refused");
            assert_eq!(error.code, Code::InvalidEnvironment.number());
            assert!(error.details.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_pod_has_both_name_and_namespace() {
        let arguments = |args: &str| {
            parse(&[
                ("CNI_COMMAND", "DEL"),
                ("CNI_CONTAINERID", "c"),
                ("CNI_IFNAME", "eth0"),
                ("CNI_ARGS", args),
            ])
            .expect("valid")
        };
        assert_eq!(arguments("IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p").pod(), Some(("ns", "p")));
        assert_eq!(arguments("K8S_POD_NAMESPACE=;K8S_POD_NAME=p").pod(), None);
        assert_eq!(arguments("").pod(), None);
    }
}
