//! What etcd's errors mean to a caller of the store.

use calico_store::Fault;
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

/// Sorts an error of the client.
pub(crate) fn fault(error: Error) -> Fault {
    let Error::GRpcStatus(status) = &error else {
        return match error {
            Error::InvalidArgs(_) | Error::InvalidUri(_) => Fault::Broken(error.into()),
            // Transport, I/O, a closed channel: the connection.
            _ => Fault::Unavailable(error.into()),
        };
    };
    match i32::from(status.code()) {
        code::PERMISSION_DENIED | code::UNAUTHENTICATED => Fault::Denied(error.into()),
        // etcd reports a wrong password, and a missing one, as invalid arguments.
        code::INVALID_ARGUMENT if is_about_login(status.message()) => Fault::Denied(error.into()),
        // "Authentication is not enabled": credentials for a server that wants none.
        code::FAILED_PRECONDITION if is_about_login(status.message()) => Fault::Denied(error.into()),
        code::INVALID_ARGUMENT
        | code::FAILED_PRECONDITION
        | code::OUT_OF_RANGE
        | code::UNIMPLEMENTED
        | code::DATA_LOSS => Fault::Broken(error.into()),
        // Unavailable, no leader, deadline, space exceeded, internal: time or an operator may mend them.
        _ => Fault::Unavailable(error.into()),
    }
}

fn is_about_login(message: &str) -> bool {
    ["authentication", "user name", "password"].iter().any(|word| message.contains(word))
}

/// Whether a request failed because the revision that it names has been compacted.
pub(crate) fn is_compacted(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else { return false };
    i32::from(status.code()) == code::OUT_OF_RANGE && status.message().contains("compacted")
}
