//! Who takes part in the policy story, and who reaches whom after each step. The demo, the tutorial's table and its drawing
//! are made of this.

/// A pod with a page, behind a service of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// Sees everything.
    ManagementUi,
    /// Comes from another namespace.
    Client,
    /// What clients are meant to use.
    Frontend,
    /// What only the frontend is meant to use.
    Backend,
}

impl Actor {
    /// All, in the order of tables.
    pub const ALL: [Actor; 4] = [Actor::ManagementUi, Actor::Client, Actor::Frontend, Actor::Backend];

    /// The name of its deployment and of its service.
    pub fn name(self) -> &'static str {
        match self {
            Actor::ManagementUi => "management-ui",
            Actor::Client => "client",
            Actor::Frontend => "frontend",
            Actor::Backend => "backend",
        }
    }

    /// Its namespace.
    pub fn namespace(self) -> &'static str {
        match self {
            Actor::ManagementUi => "management-ui",
            Actor::Client => "client",
            Actor::Frontend | Actor::Backend => "stars",
        }
    }
}

use Actor::{Backend, Client, Frontend, ManagementUi};

/// A step: what is applied, and who reaches whom then.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What it is about.
    pub title: &'static str,
    /// The file in `deploy/policy-demo`.
    pub file: &'static str,
    /// What is in it.
    pub manifest: &'static str,
    /// From whom to whom; nobody else reaches anybody.
    pub reach: &'static [(Actor, Actor)],
}

macro_rules! step {
    ($title:literal, $file:literal, $reach:expr) => {
        Step {
            title: $title,
            file: $file,
            manifest: include_str!(concat!("../../../../../deploy/policy-demo/", $file)),
            reach: $reach,
        }
    };
}

/// The story.
pub const STORY: [Step; 7] = [
    step!(
        "everything is open",
        "0-pods.yaml",
        &[
            (ManagementUi, Client),
            (ManagementUi, Frontend),
            (ManagementUi, Backend),
            (Client, ManagementUi),
            (Client, Frontend),
            (Client, Backend),
            (Frontend, ManagementUi),
            (Frontend, Client),
            (Frontend, Backend),
            (Backend, ManagementUi),
            (Backend, Client),
            (Backend, Frontend),
        ]
    ),
    step!(
        "default deny",
        "1-default-deny.yaml",
        &[(Client, ManagementUi), (Frontend, ManagementUi), (Backend, ManagementUi)]
    ),
    step!(
        "allow the user interface",
        "2-allow-ui.yaml",
        &[
            (ManagementUi, Client),
            (ManagementUi, Frontend),
            (ManagementUi, Backend),
            (Client, ManagementUi),
            (Frontend, ManagementUi),
            (Backend, ManagementUi),
        ]
    ),
    step!(
        "allow the frontend to the backend",
        "3-allow-frontend.yaml",
        &[
            (ManagementUi, Client),
            (ManagementUi, Frontend),
            (ManagementUi, Backend),
            (Client, ManagementUi),
            (Frontend, ManagementUi),
            (Frontend, Backend),
            (Backend, ManagementUi),
        ]
    ),
    step!(
        "allow clients to the frontend",
        "4-allow-client.yaml",
        &[
            (ManagementUi, Client),
            (ManagementUi, Frontend),
            (ManagementUi, Backend),
            (Client, ManagementUi),
            (Client, Frontend),
            (Frontend, ManagementUi),
            (Frontend, Backend),
            (Backend, ManagementUi),
        ]
    ),
    step!(
        "limit what clients reach: no names",
        "5-limit-egress.yaml",
        &[
            (ManagementUi, Client),
            (ManagementUi, Frontend),
            (ManagementUi, Backend),
            (Frontend, ManagementUi),
            (Frontend, Backend),
            (Backend, ManagementUi),
        ]
    ),
    step!(
        "allow clients to resolve names",
        "6-allow-dns.yaml",
        &[
            (ManagementUi, Client),
            (ManagementUi, Frontend),
            (ManagementUi, Backend),
            (Client, Frontend),
            (Frontend, ManagementUi),
            (Frontend, Backend),
            (Backend, ManagementUi),
        ]
    ),
];

/// Every pair, in the order of tables.
pub fn pairs() -> impl Iterator<Item = (Actor, Actor)> {
    Actor::ALL
        .into_iter()
        .flat_map(|from| Actor::ALL.into_iter().filter(move |to| *to != from).map(move |to| (from, to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_is_named_once_and_nobody_asks_itself() {
        for step in STORY {
            assert!(step.reach.is_sorted_by(|a, b| a < b), "{}: in order, once each", step.title);
            assert!(step.reach.iter().all(|(from, to)| from != to), "{}", step.title);
        }
        assert_eq!(STORY[0].reach, pairs().collect::<Vec<_>>());
    }
}
