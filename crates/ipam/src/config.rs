//! IPAM's settings: what combinations make sense, and changing them (spec 5 §2.4). Reading never writes.
//!
//! The settings are also an IPAMConfiguration; a writer stores both forms in one commit.

use calico_api::IpamConfig;

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

/// Whether addresses can be assigned under stored settings. More is stored than [`check`] lets anybody write (by kubectl,
/// by other releases), and what still has one meaning must not stop every assignment of the cluster: a limit without
/// strict affinity holds too, since at the limit nothing is borrowed either (spec 5 §2.5).
///
/// # Errors
/// When no address could ever be had.
pub fn check_usable(config: &IpamConfig) -> Result<(), ConfigError> {
    match check(config) {
        Err(ConfigError::Nothing) => Err(ConfigError::Nothing),
        Ok(()) | Err(ConfigError::LimitWithoutStrict | ConfigError::Limit | ConfigError::Cooldown) => Ok(()),
    }
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

impl ConfigEdit {
    /// The settings after the edit.
    ///
    /// # Errors
    /// When they contradict themselves.
    pub fn apply(self, old: &IpamConfig) -> Result<IpamConfig, ConfigError> {
        let ConfigEdit { strict_affinity, auto_allocate_blocks, max_blocks_per_host, ip_cooldown_secs } =
            self;
        let new = IpamConfig {
            strict_affinity: strict_affinity.unwrap_or(old.strict_affinity),
            auto_allocate_blocks: auto_allocate_blocks.unwrap_or(old.auto_allocate_blocks),
            max_blocks_per_host: max_blocks_per_host.unwrap_or(old.max_blocks_per_host),
            ip_cooldown_seconds: ip_cooldown_secs.unwrap_or(old.ip_cooldown_seconds),
            ..old.clone()
        };
        check(&new).map(|()| new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_keeps_the_rest_and_refuses_contradictions() {
        let old = IpamConfig::default();
        let limit = ConfigEdit { max_blocks_per_host: Some(3), ..ConfigEdit::default() };
        assert_eq!(limit.apply(&old), Err(ConfigError::LimitWithoutStrict));
        let both = ConfigEdit { strict_affinity: Some(true), ..limit };
        let new = both.apply(&old).unwrap();
        assert_eq!((new.max_blocks_per_host, new.strict_affinity, new.auto_allocate_blocks), (3, true, true));
        let nothing = ConfigEdit { auto_allocate_blocks: Some(false), ..ConfigEdit::default() };
        assert_eq!(nothing.apply(&old), Err(ConfigError::Nothing));
    }
}
