//! The container's network namespace as the runtime handed it over: is it one, and is it not our own?

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{fstat, fstatfs, stat};

use crate::arguments::Arguments;
use crate::error::{CniError, Code};

/// The file system of namespaces, `NSFS_MAGIC` of linux/magic.h.
const NSFS_MAGIC: i128 = 0x6e73_6673;

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// Another namespace than ours.
    Apart,
    /// The namespace that we are in ourselves: work there would hit the host's interfaces.
    Own,
    /// No namespace: an ordinary file is what stays in /run/netns when a namespace was unmounted.
    None,
}

impl Sandbox {
    /// Looks at a descriptor.
    pub fn of(netns: impl AsFd) -> rustix::io::Result<Sandbox> {
        let netns = netns.as_fd();
        if i128::from(fstatfs(netns)?.f_type) != NSFS_MAGIC {
            return Ok(Sandbox::None);
        }
        let (theirs, ours) = (fstat(netns)?, stat("/proc/thread-self/ns/net")?);
        let same = (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino);
        Ok(if same { Sandbox::Own } else { Sandbox::Apart })
    }
}

/// The namespace for ADD and CHECK, which cannot do without.
pub fn required(netns: Option<OwnedFd>, arguments: &Arguments) -> Result<OwnedFd, CniError> {
    let path = &arguments.netns;
    let environment = |what: String| {
        CniError::new(
            Code::InvalidEnvironment,
            "no network namespace",
            format!("CNI_NETNS is {path:?}; {what}"),
        )
    };
    let netns = netns.ok_or_else(|| environment("it cannot be opened".to_owned()))?;
    match Sandbox::of(&netns) {
        Ok(Sandbox::Apart) => Ok(netns),
        Ok(Sandbox::None) => Err(environment("it is not a network namespace".to_owned())),
        Ok(Sandbox::Own) => {
            let details = format!("CNI_NETNS is {path:?}; it is the host's own, a container needs another");
            Err(CniError::new(Code::InvalidNetns, "invalid network namespace", details))
        }
        Err(error) => Err(environment(format!("it cannot be examined: {error}"))),
    }
}

/// The namespace for DEL: one that is gone, or was never a container's, holds nothing to remove.
pub fn if_usable(netns: Option<OwnedFd>) -> Option<OwnedFd> {
    netns.filter(|fd| matches!(Sandbox::of(fd), Ok(Sandbox::Apart)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn files_and_our_own_namespace_are_told_apart() {
        let open = |path: &str| File::open(path).expect("opens");
        assert_eq!(Sandbox::of(open("/proc/thread-self/ns/net")), Ok(Sandbox::Own));
        assert_eq!(Sandbox::of(tempfile::tempfile().expect("temporary file")), Ok(Sandbox::None));
        assert_eq!(Sandbox::of(open("/proc/self/status")), Ok(Sandbox::None));
    }
}
