//! What etcd's errors mean to a caller of the store.

use std::error::Error as _;

use calico_store::{Cause, Fault};
use etcd_client::Error;

/// gRPC status codes, by their numbers in the gRPC specification.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNIMPLEMENTED: i32 = 12;
    pub(super) const DATA_LOSS: i32 = 15;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// Sorts an error of the client. `who` is said before the reason, where nobody else says whom it is about.
pub(crate) fn fault(who: Option<&str>, error: &Error) -> Fault {
    let cause = || -> Cause {
        match who {
            Some(endpoints) => format!("etcd at {endpoints}: {}", reason(error)).into(),
            None => reason(error).into(),
        }
    };
    let Error::GRpcStatus(status) = error else {
        return match error {
            Error::InvalidArgs(_) | Error::InvalidUri(_) => Fault::Broken(cause()),
            // Transport, I/O, a closed channel: the connection.
            _ => Fault::Unavailable(cause()),
        };
    };
    match i32::from(status.code()) {
        code::PERMISSION_DENIED | code::UNAUTHENTICATED => Fault::Denied(cause()),
        // etcd reports a wrong password, and a missing one, as invalid arguments.
        code::INVALID_ARGUMENT if is_about_login(status.message()) => Fault::Denied(cause()),
        // "Authentication is not enabled": credentials for a server that wants none.
        code::FAILED_PRECONDITION if is_about_login(status.message()) => Fault::Denied(cause()),
        code::INVALID_ARGUMENT
        | code::FAILED_PRECONDITION
        | code::OUT_OF_RANGE
        | code::UNIMPLEMENTED
        | code::DATA_LOSS => Fault::Broken(cause()),
        // Unavailable, no leader, deadline, space exceeded, internal: time or an operator may mend them.
        _ => Fault::Unavailable(cause()),
    }
}

/// Why, in the words of whoever found out: below the client and gRPC, which only hand it up, each in words of its own.
fn reason(error: &Error) -> String {
    match error {
        Error::GRpcStatus(status) => match status.source() {
            Some(source) => deepest(source).to_string(),
            None => status.message().to_owned(),
        },
        Error::TransportError(error) => deepest(error).to_string(),
        other => other.to_string(),
    }
}

fn deepest<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

fn is_about_login(message: &str) -> bool {
    ["authentication", "user name", "password"].iter().any(|word| message.contains(word))
}

/// Whether a request failed because the revision that it names has been compacted.
pub(crate) fn is_compacted(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else { return false };
    i32::from(status.code()) == code::OUT_OF_RANGE && status.message().contains("compacted")
}
