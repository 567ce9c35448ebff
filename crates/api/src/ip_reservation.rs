//! IPReservation: addresses that are never assigned by themselves (spec 1 §1.5).

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{NoStatus, Resource, Spec};

/// A reservation.
pub type IPReservation = Resource<IPReservationSpec>;

/// What an IPReservation says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IPReservationSpec {
    /// The ranges.
    #[serde(rename = "reservedCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub reserved_cidrs: Vec<SmolStr>,
}

impl Spec for IPReservationSpec {
    const KIND: Kind = Kind::IPReservation;
    type Status = NoStatus;
}
