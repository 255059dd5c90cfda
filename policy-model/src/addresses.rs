//! Whose address is it: longest prefix match over both families.
//!
//! INVARIANT: one table answers here and is what the kernel's copy is planned from.

use crate::cidr::Prefix;
use crate::identity::{Identity, Party};
use core::net::IpAddr;
use imbl::OrdMap;
use std::sync::Arc;

/// Who stands behind a prefix.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) party: Arc<Party>,
    /// Index into the snapshot's endpoints.
    pub(crate) endpoint: Option<usize>,
}

impl Owner {
    /// No pod that is known.
    pub(crate) fn nameless(identity: &Arc<Identity>) -> Self {
        Self { party: Arc::new(Party::nameless(Arc::clone(identity))), endpoint: None }
    }
}

/// Cheap to clone: clones share what does not differ.
#[derive(Clone, Debug)]
pub(crate) struct AddressTable {
    prefixes: OrdMap<Prefix, Owner>,
    /// The prefixes that hold more than one address, flattened.
    v4: Arc<Ranges>,
    v6: Arc<Ranges>,
    /// Who answers where no prefix does, and for IPv4-mapped addresses, which have no business on a wire.
    nobody: Owner,
}

/// Disjoint ranges: each reaches from its start to the next one's, and has the longest prefix that covers it.
#[derive(Debug, Default)]
struct Ranges {
    starts: Vec<u128>,
    prefixes: Vec<Option<Prefix>>,
}

impl AddressTable {
    pub(crate) fn new(prefixes: OrdMap<Prefix, Owner>, nobody: Owner) -> Self {
        let wide = || prefixes.keys().filter(|prefix| !prefix.is_host());
        let v4 = Arc::new(Ranges::new(wide().filter(|p| p.address().is_ipv4()), 32));
        let v6 = Arc::new(Ranges::new(wide().filter(|p| p.address().is_ipv6()), 128));
        Self { prefixes, v4, v6, nobody }
    }

    /// One address; the ranges stay.
    pub(crate) fn set(&mut self, address: IpAddr, owner: Owner) {
        let _before = self.prefixes.insert(Prefix::host(address), owner);
    }

    pub(crate) fn remove(&mut self, address: IpAddr) {
        let _before = self.prefixes.remove(&Prefix::host(address));
    }

    /// Of exactly this prefix.
    pub(crate) fn get(&self, prefix: &Prefix) -> Option<&Owner> {
        self.prefixes.get(prefix)
    }

    pub(crate) fn owner(&self, address: IpAddr) -> &Owner {
        let range = || match address {
            IpAddr::V4(v4) => self.v4.find(v4.to_bits().into()),
            IpAddr::V6(v6) => self.v6.find(v6.to_bits()),
        };
        if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return &self.nobody;
        }
        let own = self.prefixes.get(&Prefix::host(address));
        own.or_else(|| range().and_then(|prefix| self.prefixes.get(prefix))).unwrap_or(&self.nobody)
    }

    pub(crate) fn prefixes(&self) -> impl Iterator<Item = (Prefix, &Owner)> {
        self.prefixes.iter().map(|(prefix, owner)| (*prefix, owner))
    }
}

impl Ranges {
    /// `prefixes` in order of address and then length: a prefix comes before those inside it.
    fn new<'a>(prefixes: impl Iterator<Item = &'a Prefix>, bits: u8) -> Self {
        let mut ranges = Self::default();
        let mut open: Vec<(u128, Prefix)> = Vec::new();
        for prefix in prefixes {
            let (first, last) = bounds(prefix, bits);
            ranges.close(&mut open, first);
            ranges.start(first, Some(*prefix));
            open.push((last, *prefix));
        }
        ranges.close(&mut open, u128::MAX);
        ranges
    }

    /// Ends the open prefixes that lie wholly before `next`; what encloses them goes on.
    fn close(&mut self, open: &mut Vec<(u128, Prefix)>, next: u128) {
        while let Some((last, _)) = open.pop_if(|(last, _)| *last < next) {
            self.start(last.saturating_add(1), open.last().map(|(_, prefix)| *prefix));
        }
    }

    fn start(&mut self, at: u128, prefix: Option<Prefix>) {
        if self.starts.last() == Some(&at) {
            let _replaced = self.prefixes.pop();
        } else {
            self.starts.push(at);
        }
        self.prefixes.push(prefix);
    }

    fn find(&self, address: u128) -> Option<&Prefix> {
        let after = self.starts.partition_point(|start| *start <= address);
        self.prefixes.get(after.checked_sub(1)?).and_then(Option::as_ref)
    }
}

fn bounds(prefix: &Prefix, bits: u8) -> (u128, u128) {
    let first = match prefix.address() {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let host_bits = u32::from(bits.saturating_sub(prefix.length()));
    let size = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |size| size.saturating_sub(1));
    (first, first | size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityId;
    use crate::labels::LabelSet;
    use proptest::prelude::*;

    #[test]
    fn the_longest_prefix_answers() {
        let table = table(&["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "10.255.0.0/16"]);
        for (address, expect) in [
            ("1.2.3.4", Some(0)),
            ("10.0.0.0", Some(1)),
            ("10.1.0.0", Some(2)),
            ("10.1.2.3", Some(3)),
            ("10.1.2.4", Some(2)),
            ("10.2.0.0", Some(1)),
            ("10.255.255.255", Some(4)),
            ("11.0.0.0", Some(0)),
            ("255.255.255.255", Some(0)),
        ] {
            assert_eq!(answer(&table, address), expect, "{address}");
        }
    }

    #[test]
    fn families_are_apart() {
        let table = table(&["0.0.0.0/0", "2001:db8::/32"]);
        assert_eq!(answer(&table, "2001:db8::1"), Some(1));
        assert_eq!(answer(&table, "2001:db9::1"), None);
        assert_eq!(answer(&table, "::"), None);
    }

    #[test]
    fn mapped_addresses_belong_to_nobody() {
        let table = table(&["0.0.0.0/0", "::/0"]);
        assert_eq!(answer(&table, "::ffff:10.0.0.1"), None);
        assert_eq!(answer(&table, "::10.0.0.1"), Some(1));
    }

    proptest! {
        #[test]
        fn same_as_looking_at_every_prefix(
            prefixes in proptest::collection::vec((0_u32..64, 24_u8..=32), 0..12),
            address in 0_u32..80,
        ) {
            let texts: Vec<String> = prefixes.iter().map(|(a, l)| format!("0.0.{}.{}/{l}", a / 4, a % 4 * 64)).collect();
            let table = table(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            let address = IpAddr::from([0, 0, u8::try_from(address / 4).unwrap(), u8::try_from(address % 4 * 64).unwrap()]);
            let naive = table.prefixes.keys().filter(|p| p.contains(address)).max_by_key(|p| p.length());
            let naive = naive.map(ToString::to_string);
            let found = answer(&table, &address.to_string()).and_then(|i| table.prefixes.keys().nth(i)).map(ToString::to_string);
            prop_assert_eq!(found, naive);
        }
    }

    fn table(prefixes: &[&str]) -> AddressTable {
        let sorted: std::collections::BTreeSet<Prefix> =
            prefixes.iter().map(|p| p.parse().unwrap()).collect();
        let owners = (0..).map(|index| Owner { endpoint: Some(index), ..owner(0) });
        AddressTable::new(sorted.into_iter().zip(owners).collect(), owner(u32::MAX))
    }

    fn owner(id: u32) -> Owner {
        let identity = Identity { id: IdentityId(id), labels: LabelSet::default() };
        Owner::nameless(&Arc::new(identity))
    }

    fn answer(table: &AddressTable, address: &str) -> Option<usize> {
        table.owner(address.parse().unwrap()).endpoint
    }
}
