//! How the agent's loop does, for whoever answers liveness and readiness requests.

use std::time::Instant;

use tokio::sync::watch;

/// The loop's condition at its last turn.
#[derive(Clone, Debug)]
pub struct Condition {
    /// When the loop last turned; a loop that hangs is not live.
    pub turned: Instant,
    /// The datastore was delivered whole once.
    pub in_sync: bool,
    /// The datastore is connected now.
    pub connected: bool,
    /// The first complete update after in-sync is done: the node enforces policy.
    pub ready: bool,
    /// Why it is not ready, or what is wrong although it is.
    pub detail: String,
}

/// Shared between the loop and those who ask.
#[derive(Clone, Debug)]
pub struct Health(watch::Sender<Condition>);

impl Default for Health {
    fn default() -> Health {
        Health(watch::Sender::new(Condition {
            turned: Instant::now(),
            in_sync: false,
            connected: false,
            ready: false,
            detail: "starting".to_owned(),
        }))
    }
}

impl Health {
    /// The condition now.
    pub fn condition(&self) -> Condition {
        self.0.borrow().clone()
    }

    /// Notes a turn of the loop.
    pub fn note(&self, change: impl FnOnce(&mut Condition)) {
        self.0.send_modify(|condition| {
            condition.turned = Instant::now();
            change(condition);
        });
    }
}
