//! From the selectors that users write in policies to the selectors that the calculation works with (spec 2 §4.5).
//!
//! Namespaces and service accounts lend their labels to endpoints under a prefix; this is where the user's
//! `namespaceSelector` and `serviceAccountSelector` become selectors over those prefixed labels.

use smol_str::SmolStr;

use crate::expr::{Expr, Test};
use crate::parser::ParseError;
use crate::selector::parse;

/// Before the labels that an endpoint has from its namespace.
pub const NAMESPACE_PREFIX: &str = "pcns.";
/// Before the labels that an endpoint has from its service account.
pub const SERVICE_ACCOUNT_PREFIX: &str = "pcsa.";
/// The label that holds an endpoint's namespace.
pub const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";
/// The label that holds an endpoint's service account.
pub const SERVICE_ACCOUNT_LABEL: &str = "projectcalico.org/serviceaccount";

const HAS_NAMESPACE: &str = "has(projectcalico.org/namespace)";
const HAS_SERVICE_ACCOUNT: &str = "has(projectcalico.org/serviceaccount)";

/// The canonical text of a selector with `prefix` before every label name.
///
/// # Errors
/// The text is no selector.
pub fn prefixed(text: &str, prefix: &str) -> Result<String, ParseError> {
    Ok(parse(text)?.prefixed(prefix).to_string())
}

/// `projectcalico.org/namespace == 'ns'`.
fn in_namespace(namespace: &str) -> String {
    format!("{NAMESPACE_LABEL} == '{namespace}'")
}

/// `(current) && added`, or `added` alone when there is nothing yet.
fn narrowed(current: &str, added: &str) -> String {
    if current.is_empty() { added.to_owned() } else { format!("({current}) && {added}") }
}

/// Whom a NetworkPolicy selects. An empty text stands for a field that is not set.
///
/// # Errors
/// The service account selector is no selector.
pub fn network_policy_subject(
    selector: &str,
    namespace: &str,
    service_account_selector: &str,
) -> Result<String, ParseError> {
    let mut subject = narrowed(selector, &in_namespace(namespace));
    if !service_account_selector.is_empty() {
        subject = narrowed(&subject, &prefixed(service_account_selector, SERVICE_ACCOUNT_PREFIX)?);
    }
    Ok(subject)
}

/// Whom a GlobalNetworkPolicy selects. An empty text stands for a field that is not set.
///
/// `all()` in a namespace selector means "in any namespace"; the replacement is textual and thus also strikes an
/// `all()` in `selector`, as Calico's does.
///
/// # Errors
/// The namespace or service account selector is no selector.
pub fn global_network_policy_subject(
    selector: &str,
    namespace_selector: &str,
    service_account_selector: &str,
) -> Result<String, ParseError> {
    let mut subject = selector.to_owned();
    if !namespace_selector.is_empty() {
        subject = narrowed(&subject, &prefixed(namespace_selector, NAMESPACE_PREFIX)?)
            .replace("all()", HAS_NAMESPACE);
    }
    if !service_account_selector.is_empty() {
        subject = narrowed(&subject, &prefixed(service_account_selector, SERVICE_ACCOUNT_PREFIX)?)
            .replace("all()", HAS_SERVICE_ACCOUNT);
    }
    Ok(subject)
}

/// The selecting fields of one side of a rule (`source` or `destination`). Empty means not set.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuleEntity<'a> {
    /// `selector`.
    pub selector: &'a str,
    /// `notSelector`: it is passed on unchanged, but its presence confines a namespaced policy's rule to the namespace.
    pub not_selector: &'a str,
    /// `namespaceSelector`.
    pub namespace_selector: &'a str,
    /// `serviceAccounts.selector`.
    pub service_account_selector: &'a str,
    /// `serviceAccounts.names`.
    pub service_account_names: &'a [SmolStr],
}

impl RuleEntity<'_> {
    /// The positive selector of this side in a policy of `policy_namespace` (`None` for a global policy). Empty when
    /// the side selects nobody in particular: a rule with only nets or ports.
    ///
    /// # Errors
    /// The namespace or service account selector is no selector. `selector` itself is not read here.
    pub fn resolve_selector(&self, policy_namespace: Option<&str>) -> Result<String, ParseError> {
        let namespace_part = if !self.namespace_selector.is_empty() {
            prefixed(self.namespace_selector, NAMESPACE_PREFIX)?
                .replace("all()", HAS_NAMESPACE)
                .replace("global()", &format!("!{HAS_NAMESPACE}"))
        } else {
            policy_namespace.map(in_namespace).unwrap_or_default()
        };
        let account_part = self.service_account_part()?;
        let own_part = match (account_part.is_empty(), self.selector.is_empty()) {
            (true, _) => self.selector.to_owned(),
            (false, true) => account_part,
            (false, false) => format!("({account_part}) && ({})", self.selector),
        };
        let selects =
            !own_part.is_empty() || !self.not_selector.is_empty() || !self.namespace_selector.is_empty();
        if namespace_part.is_empty() || !selects {
            return Ok(own_part);
        }
        if own_part.is_empty() {
            return Ok(namespace_part);
        }
        Ok(format!("({namespace_part}) && ({own_part})"))
    }

    /// Names and selector of service accounts as one selector: both must hold.
    fn service_account_part(&self) -> Result<String, ParseError> {
        let by_labels = match self.service_account_selector {
            "" => String::new(),
            selector => prefixed(selector, SERVICE_ACCOUNT_PREFIX)?,
        };
        if self.service_account_names.is_empty() {
            return Ok(by_labels);
        }
        let mut names = self.service_account_names.to_vec();
        names.sort_unstable();
        names.dedup();
        let by_name = Expr::Label(SERVICE_ACCOUNT_LABEL.into(), Test::In(names.into_boxed_slice()));
        if by_labels.is_empty() {
            return Ok(by_name.to_string());
        }
        Ok(format!("({by_labels}) && ({by_name})"))
    }
}

#[cfg(test)]
mod tests;
