//! What has to be so before anything is set up, and what is worth a warning.

use crate::error::Error;
use crate::sysctls;
use aya::util::KernelVersion;
use rustix::thread::CapabilitySet;
use std::path::Path;

/// Batched map reads on LRU maps, SK_LOOKUP, and programs that hold references to sockets.
const OLDEST_KERNEL: KernelVersion = KernelVersion::new(5, 10, 0);

/// Each with its name; any one of a line is enough.
const CAPABILITIES: &[(&str, CapabilitySet)] = &[
    ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
    ("CAP_NET_RAW", CapabilitySet::NET_RAW),
    ("CAP_BPF", CapabilitySet::BPF.union(CapabilitySet::SYS_ADMIN)),
    // For bpffs, and for opening maps by number.
    ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN),
];

/// Fails at the first thing without which nothing works.
pub(crate) fn required(object: &Path) -> Result<(), Error> {
    if !object.is_file() {
        return Err(Error::ObjectMissing(object.into()));
    }
    if KernelVersion::current().is_ok_and(|version| version < OLDEST_KERNEL) {
        return Err(Error::KernelTooOld);
    }
    let effective = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    match missing(effective) {
        None => Ok(()),
        Some(missing) => Err(Error::Privileges { missing }),
    }
}

fn missing(effective: CapabilitySet) -> Option<String> {
    let missing = CAPABILITIES.iter().filter(|(_, any_of)| !effective.intersects(*any_of));
    let names: Vec<&str> = missing.map(|(name, _)| *name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Settings of the node that break traffic and are not ours to change; a sentence for each. `unread`: why the programs don't
/// see which checksums are left to the device.
pub(crate) fn warnings(unread: Option<&str>) -> Vec<String> {
    let mut warnings: Vec<String> = unread.map(of_unread).into_iter().collect();
    let is = |name: &str, wanted: &str| sysctls::read(name).is_ok_and(|value| value == wanted);
    if is("net/ipv4/conf/all/src_valid_mark", "1") && !is("net/ipv4/conf/all/rp_filter", "0") {
        warnings.push(
            "net.ipv4.conf.all.src_valid_mark is 1 and net.ipv4.conf.all.rp_filter is on: replies to the proxy will be dropped; \
             set src_valid_mark to 0"
                .into(),
        );
    }
    for (name, family) in [("net/ipv4/ip_forward", "IPv4"), ("net/ipv6/conf/all/forwarding", "IPv6")] {
        if is(name, "0") {
            warnings.push(format!(
                "{} is 0: this node forwards no {family} between endpoints",
                name.replace('/', ".")
            ));
        }
    }
    warnings
}

fn of_unread(why: &str) -> String {
    format!(
        "this kernel does not let programs see a checksum that is left to the device ({why}): a pod with a raw socket can \
         have its packets rewritten after they were judged; use Linux 6.2 or newer with BTF"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_lacks_nothing_and_nobody_lacks_all() {
        assert_eq!(missing(CapabilitySet::all()), None);
        let all = "CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_SYS_ADMIN";
        assert_eq!(missing(CapabilitySet::empty()).as_deref(), Some(all));
        assert_eq!(missing(CapabilitySet::all() - CapabilitySet::NET_RAW).as_deref(), Some("CAP_NET_RAW"));
    }

    #[test]
    fn a_missing_object_is_the_first_thing_said() {
        let error = required(Path::new("/nonexistent/redirect.o")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/redirect.o"), "{error}");
    }
}
