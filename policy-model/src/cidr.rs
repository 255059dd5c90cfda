//! Address prefixes of both families.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// A prefix whose host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// Host bits are cleared. `None` where `length` is longer than the family's addresses.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if length <= 32 => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask_v4(length))),
            IpAddr::V6(v6) if length <= 128 => {
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask_v6(length)))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Some(Self { address, length })
    }

    /// The prefix that holds this address alone.
    pub fn host(address: IpAddr) -> Self {
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    pub(crate) fn is_host(&self) -> bool {
        *self == Self::host(self.address)
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn length(&self) -> u8 {
        self.length
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.length)
            .is_some_and(|p| p.address == self.address && p.address.is_ipv4() == address.is_ipv4())
    }

    /// Whether every address of `other` lies in `self`.
    pub fn covers(&self, other: &Prefix) -> bool {
        self.length <= other.length && self.contains(other.address)
    }
}

fn mask_v4(length: u8) -> u32 {
    u32::MAX.checked_shl(32_u32.saturating_sub(length.into())).unwrap_or(0)
}

fn mask_v6(length: u8) -> u128 {
    u128::MAX.checked_shl(128_u32.saturating_sub(length.into())).unwrap_or(0)
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// `10.0.0.0/8` or a bare address, which is a prefix of full length.
impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let Some((address, length)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_error| PrefixError::Address);
        };
        let address = address.parse().map_err(|_error| PrefixError::Address)?;
        let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        let length = length.parse().ok().filter(|_| digits).ok_or(PrefixError::Length)?;
        Self::new(address, length).ok_or(PrefixError::Length)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixError {
    Address,
    Length,
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "not an IPv4 or IPv6 address",
            Self::Length => "the prefix length is not a number that fits the address",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(prefix("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(prefix("2001:db8::1/32").to_string(), "2001:db8::/32");
        assert_eq!(prefix("10.1.2.3").to_string(), "10.1.2.3/32");
        assert_eq!(prefix("1.2.3.4/0").to_string(), "0.0.0.0/0");
        assert_eq!(prefix("::1/0").to_string(), "::/0");
    }

    #[test]
    fn families_never_answer_for_each_other() {
        assert!(!prefix("::/0").contains("10.0.0.1".parse().unwrap()));
        assert!(!prefix("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(!prefix("::/0").covers(&prefix("10.0.0.0/8")));
    }

    #[test]
    fn containment() {
        assert!(prefix("10.0.0.0/8").contains("10.255.0.1".parse().unwrap()));
        assert!(!prefix("10.0.0.0/8").contains("11.0.0.0".parse().unwrap()));
        assert!(prefix("10.0.0.0/8").covers(&prefix("10.1.0.0/16")));
        assert!(!prefix("10.1.0.0/16").covers(&prefix("10.0.0.0/8")));
    }

    #[test]
    fn what_is_refused() {
        for (text, error) in [
            ("", PrefixError::Address),
            ("10.0.0/8", PrefixError::Address),
            ("10.0.0.0/33", PrefixError::Length),
            ("::/129", PrefixError::Length),
            ("10.0.0.0/", PrefixError::Length),
            ("10.0.0.0/+8", PrefixError::Length),
        ] {
            assert_eq!(text.parse::<Prefix>(), Err(error), "{text}");
        }
    }
}
