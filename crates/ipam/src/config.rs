//! IPAM's settings: what combinations make sense, and changing them (spec 5 §2.4). Reading never writes.

use calico_api::{Expect, IpamConfig, Key, Write, encode_record};
use std::sync::Arc;

use crate::known::{Known, Record};
use crate::machine::{Act, Change, Contended, Decision, Halt, Operation};

/// The longest rest of a released address, seconds.
pub const MAX_COOLDOWN_SECS: u32 = 1200;
/// The highest limit of blocks per host.
pub const MAX_BLOCKS_PER_HOST: u32 = 1_000_000;

/// Settings that contradict themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No node could ever get an address beyond its present blocks.
    #[error("strictAffinity and autoAllocateBlocks cannot both be off")]
    Nothing,
    /// Borrowing would go around the limit.
    #[error("maxBlocksPerHost can only be set if strictAffinity is enabled")]
    LimitWithoutStrict,
    /// Out of range.
    #[error("maxBlocksPerHost must be at most {MAX_BLOCKS_PER_HOST}")]
    Limit,
    /// Out of range.
    #[error("ipCooldownSeconds must be at most {MAX_COOLDOWN_SECS}")]
    Cooldown,
}

/// Why the settings were not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetConfigError {
    /// They contradict themselves.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// Too many conflicts.
    #[error(transparent)]
    Contended(#[from] Contended),
}

/// Whether settings make sense.
pub fn check(config: &IpamConfig) -> Result<(), ConfigError> {
    if !config.strict_affinity && !config.auto_allocate_blocks {
        Err(ConfigError::Nothing)
    } else if config.max_blocks_per_host > MAX_BLOCKS_PER_HOST {
        Err(ConfigError::Limit)
    } else if config.max_blocks_per_host > 0 && !config.strict_affinity {
        Err(ConfigError::LimitWithoutStrict)
    } else if config.ip_cooldown_seconds > MAX_COOLDOWN_SECS {
        Err(ConfigError::Cooldown)
    } else {
        Ok(())
    }
}

/// Some settings to change; the others stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigEdit {
    /// Nodes use only blocks of their own.
    pub strict_affinity: Option<bool>,
    /// Claim new blocks when the own ones are full.
    pub auto_allocate_blocks: Option<bool>,
    /// Most blocks of one node; 0 for no limit.
    pub max_blocks_per_host: Option<u32>,
    /// Seconds that a released address rests.
    pub ip_cooldown_secs: Option<u32>,
}

/// Changes the settings. The outcome is what holds then.
#[derive(Clone, Debug)]
pub struct SetConfig {
    edit: ConfigEdit,
}

impl SetConfig {
    /// The operation.
    pub fn new(edit: ConfigEdit) -> SetConfig {
        SetConfig { edit }
    }
}

impl Operation for SetConfig {
    type Outcome = IpamConfig;
    type Error = SetConfigError;

    fn decide(&mut self, known: &Known) -> Decision<IpamConfig, SetConfigError> {
        known.require([Key::IpamConfig], [])?;
        if known.has_hints() {
            return Err(Halt::Refresh);
        }
        let old = known.config();
        let ConfigEdit { strict_affinity, auto_allocate_blocks, max_blocks_per_host, ip_cooldown_secs } =
            self.edit;
        let new = IpamConfig {
            strict_affinity: strict_affinity.unwrap_or(old.strict_affinity),
            auto_allocate_blocks: auto_allocate_blocks.unwrap_or(old.auto_allocate_blocks),
            max_blocks_per_host: max_blocks_per_host.unwrap_or(old.max_blocks_per_host),
            ip_cooldown_seconds: ip_cooldown_secs.unwrap_or(old.ip_cooldown_seconds),
            ..old.clone()
        };
        check(&new).map_err(|e| Halt::Fail(e.into()))?;
        if new == old {
            return Ok(Act::Done(new));
        }
        let expect = known.record(&Key::IpamConfig).map_or(Expect::Absent, |(_, r)| Expect::At(r.clone()));
        let write = Write::Put { key: Key::IpamConfig, value: encode_record(&new), expect, ttl_secs: None };
        Ok(Act::Commit(vec![Change { write, record: Some(Arc::new(Record::Config(new))) }]))
    }
}
