//! Tokens of the plugins' own service account, which has fewer rights than the agent's (spec 5 §1.14).

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, sleep};

use crate::kubernetes::{Api, ApiError};

/// How long a token is asked to be good for.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest time between two renewals.
pub const LEAST: Duration = Duration::from_secs(5);

/// A service account, as it is mounted into a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Whose token the plugins get.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's own token.
    pub token: String,
    /// The authority of the API server's certificate, PEM.
    pub ca: Option<Vec<u8>>,
}

impl Account {
    /// Reads the mounted directory; `name` is the account to ask a token for.
    pub fn read(dir: &Path, name: &str) -> io::Result<Account> {
        let text = |file: &str| fs::read_to_string(dir.join(file)).map(|text| text.trim().to_owned());
        let ca = match fs::read(dir.join("ca.crt")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            ca => Some(ca?),
        };
        let namespace = text("namespace").unwrap_or_else(|_| "kube-system".to_owned());
        Ok(Account { name: name.to_owned(), namespace, token: text("token")?, ca })
    }
}

/// A token and its end.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token.
    pub text: String,
    /// When it ends; not known of a pod's own.
    pub expires: Option<SystemTime>,
}

impl std::fmt::Debug for Token {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// How long an installation waits for an API that is away. Whoever started it starts it again when it gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Wait before the API is asked again; doubled up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(15);

/// The API has not given a token in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no token for service account {account}, which the plugins use: the API was asked for {} s; is \
     KUBERNETES_SERVICE_HOST the address of an API server that this node reaches?",
    PATIENCE.as_secs()
)]
pub struct NoToken {
    /// Namespace and name.
    pub account: String,
    /// What came of the last attempt.
    #[source]
    pub last: ApiError,
}

/// Asks for the first token of the plugins' account, again and again for a while where the API is away: the pod's own
/// one has more rights than the plugins are to have. Only an API that refuses leaves that one.
pub async fn request(api: &dyn Api, account: &Account) -> Result<Token, NoToken> {
    let (end, mut wait) = (Instant::now() + PATIENCE, FIRST_RETRY);
    loop {
        match renew(api, account).await {
            Ok(token) => return Ok(token),
            Err(last) if Instant::now() + wait > end => {
                return Err(NoToken { account: format!("{}/{}", account.namespace, account.name), last });
            }
            Err(error) => tracing::warn!(%error, "no token for the plugins yet; the API is asked again"),
        }
        sleep(wait).await;
        wait = (wait * 2).min(LAST_RETRY);
    }
}

/// Asks for a token once: an API that is away is an error, for an older token may do meanwhile.
pub async fn renew(api: &dyn Api, account: &Account) -> Result<Token, ApiError> {
    match try_request(api, account).await {
        Err(error @ ApiError::Refused { .. }) => {
            let Account { namespace, name, .. } = account;
            tracing::warn!(%error, "no token for service account {namespace}/{name}; the pod's own is used");
            Ok(own(account))
        }
        answer => answer,
    }
}

fn own(account: &Account) -> Token {
    Token { text: account.token.clone(), expires: None }
}

async fn try_request(api: &dyn Api, account: &Account) -> Result<Token, ApiError> {
    let Account { name, namespace, .. } = account;
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [], "expirationSeconds": LIFE.as_secs()},
    });
    let answer = api.create(&path, body).await?;
    parse(&answer).ok_or_else(|| ApiError::Unavailable(format!("{path}: the answer has no token")))
}

fn parse(answer: &Value) -> Option<Token> {
    let status = &answer["status"];
    let text = status["token"].as_str().filter(|text| !text.is_empty())?.to_owned();
    let expires = status["expirationTimestamp"].as_str();
    let expires = expires.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok()).map(SystemTime::from);
    Some(Token { text, expires })
}

/// How long until the next renewal: a quarter of the life that is left, or the interval asked for; up to twice as long
/// by `jitter` from 0 to 1.
pub fn renewal(token: &Token, now: SystemTime, interval: Option<Duration>, jitter: f64) -> Duration {
    let left = token.expires.map_or(LIFE, |end| end.duration_since(now).unwrap_or_default());
    let base = interval.unwrap_or(left / 4).max(LEAST);
    base + base.mul_f64(jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_what_is_left_and_up_to_as_much_again() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let secs = Duration::from_secs;
        let check = |left: Option<u64>, interval: Option<u64>, jitter: f64, expected: u64| {
            let token = Token { text: "x".into(), expires: left.map(|left| now + secs(left)) };
            let found = renewal(&token, now, interval.map(secs), jitter);
            assert_eq!(found, secs(expected), "{left:?} {interval:?} {jitter}");
        };
        check(Some(86_400), None, 0.0, 21_600);
        check(Some(86_400), None, 1.0, 43_200);
        check(None, None, 0.5, 32_400);
        check(Some(3), None, 0.0, 5);
        check(Some(0), None, 1.0, 10);
        check(Some(86_400), Some(60), 0.5, 90);
        check(Some(86_400), Some(1), 0.0, 5);
    }

    #[test]
    fn the_answer_of_a_token_request() {
        let check = |answer: Value, expected: Option<(&str, Option<u64>)>| {
            let secs = |t: SystemTime| t.duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs();
            let found = parse(&answer);
            let found = found.as_ref().map(|t| (t.text.as_str(), t.expires.map(secs)));
            assert_eq!(found, expected, "{answer}");
        };
        check(
            json!({"status": {"token": "t", "expirationTimestamp": "2026-01-01T00:00:00Z"}}),
            Some(("t", Some(1_767_225_600))),
        );
        check(json!({"status": {"token": "t"}}), Some(("t", None)));
        check(json!({"status": {"token": ""}}), None);
        check(json!({"kind": "Status"}), None);
    }
}
