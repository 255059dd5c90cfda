//! Members and functions of types put together here, of this kernel, and of bytes that are no types.

use super::*;
use proptest::prelude::*;

/// Puts types together as the kernel does.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

const BIT_FIELDS: u32 = 1 << 31;

impl Builder {
    fn new() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let offset = self.strings.len().try_into().unwrap();
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        offset
    }

    fn add(&mut self, name: &str, info: u32, word: u32, rest: &[u32]) -> u32 {
        let name = self.name(name);
        self.types.extend([name, info, word].iter().chain(rest).flat_map(|word| word.to_ne_bytes()));
        self.count += 1;
        self.count
    }

    /// (name, type, offset in bits).
    fn composite(&mut self, name: &str, kind: u32, flags: u32, members: &[(&str, u32, u32)]) -> u32 {
        let rest: Vec<u32> =
            members.iter().flat_map(|(name, number, offset)| [self.name(name), *number, *offset]).collect();
        let count = u32::try_from(members.len()).unwrap();
        self.add(name, kind << 24 | count | flags, 64, &rest)
    }

    fn bytes(&self) -> Vec<u8> {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let mut bytes = Vec::from(MAGIC.to_ne_bytes());
        bytes.extend([1, 0]);
        let header = [24, 0, len(&self.types), len(&self.types), len(&self.strings)];
        bytes.extend(header.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes
    }
}

/// A function beside a structure with a bit field in an anonymous union in an anonymous structure behind a `const`.
fn sample() -> Vec<u8> {
    let mut builder = Builder::new();
    let int = builder.add("int", kind::INT << 24, 4, &[0x20]);
    let _function = builder.add("named", kind::FUNCTION << 24, int, &[]);
    let union = builder.composite(
        "",
        kind::UNION,
        BIT_FIELDS,
        &[("word", int, 0), ("bits", int, 3 << 24 | 5), ("tail", int, 16)],
    );
    let inner = builder.composite("", kind::STRUCT, 0, &[("before", int, 0), ("", union, 32)]);
    let constant = builder.add("", kind::CONST << 24, inner, &[]);
    let _outer = builder.composite("named", kind::STRUCT, 0, &[("first", int, 0), ("", constant, 64)]);
    builder.bytes()
}

#[track_caller]
fn check(member: &str, expect: Option<(u32, u32, u32)>) {
    let bytes = sample();
    let expect = expect.map(|(byte, shift, bits)| Place { byte, shift, bits });
    assert_eq!(Btf::parse(&bytes).unwrap().member("named", member), expect);
}

#[test]
fn members_are_found_through_anonymous_ones() {
    check("first", Some((0, 0, 0)));
    check("before", Some((8, 0, 0)));
    check("word", Some((12, 0, 0)));
    check("tail", Some((14, 0, 0)));
}

#[test]
fn a_bit_field_has_its_shift_and_size() {
    check("bits", Some((12, 5, 3)));
}

#[test]
fn the_beginning_of_a_name_is_another_name() {
    check("wor", None);
    check("words", None);
    check("", None);
}

#[test]
fn a_function_and_a_structure_of_one_name_are_told_apart() {
    let bytes = sample();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.function("named"), Some(2));
    assert_eq!(btf.function("int"), None);
    assert_eq!((btf.size("named"), btf.size("int")), (Some(64), None));
}

#[test]
fn a_structure_inside_of_itself_ends() {
    let mut builder = Builder::new();
    let members: Vec<(&str, u32, u32)> = vec![("", 1, 0); 1000];
    let _itself = builder.composite("loop", kind::STRUCT, 0, &members);
    let alias = builder.add("alias", kind::TYPEDEF << 24, 2, &[]);
    let _other = builder.composite("other", kind::STRUCT, 0, &[("", alias, 0)]);
    let bytes = builder.bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.member("loop", "x"), None);
    assert_eq!(btf.member("other", "x"), None);
}

#[test]
fn offsets_that_overflow_are_no_place() {
    let mut builder = Builder::new();
    let inner = builder.composite("", kind::STRUCT, 0, &[("far", 0, u32::MAX)]);
    let _outer = builder.composite("outer", kind::STRUCT, 0, &[("", inner, 1)]);
    assert_eq!(Btf::parse(&builder.bytes()).unwrap().member("outer", "far"), None);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = sample();
    for len in 0..bytes.len() {
        assert!(Btf::parse(&bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn an_unknown_kind_is_refused() {
    for kind in [0, 20, 31] {
        let mut builder = Builder::new();
        let _odd = builder.add("odd", kind << 24, 0, &[]);
        assert_eq!(Btf::parse(&builder.bytes()).unwrap_err(), Malformed::Type, "kind {kind}");
    }
}

#[test]
fn the_running_kernel_is_read() {
    // Not every kernel describes its types.
    let Ok(bytes) = std::fs::read(KERNEL) else { return };
    let btf = Btf::parse(&bytes).unwrap();
    let [head, data] = ["head", "data"].map(|name| btf.member("sk_buff", name).unwrap());
    assert_eq!((data.byte - head.byte, head.shift, head.bits), (8, 0, 0));
    let [start, offset] = ["csum_start", "csum_offset"].map(|name| btf.member("sk_buff", name).unwrap());
    assert_eq!(offset.byte - start.byte, 2);
    assert_eq!(btf.member("sk_buff", "ip_summed").unwrap().bits, 2);
    assert!(btf.member("net_device", "ifindex").is_some());
    assert!(btf.function("kfree_skb_list_reason").is_some());
    assert_eq!(btf.function("sk_buff"), None);
}

proptest! {
    #[test]
    fn hostile_bytes_are_refused_or_read(change in proptest::collection::vec((0_usize..512, any::<u8>()), 1..8)) {
        let mut bytes = sample();
        for (place, value) in change {
            let place = place % bytes.len();
            bytes[place] = value;
        }
        if let Ok(btf) = Btf::parse(&bytes) {
            for name in ["named", "", "int"] {
                let _place = btf.member(name, "bits");
                let _number = btf.function(name);
            }
        }
    }
}
