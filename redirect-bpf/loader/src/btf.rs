//! Reads the types of the running kernel (BTF): where a member of a structure lies, and the number of a function. Pure.
//!
//! ```text
//! header │ types: (name, info, size or type) + what its kind adds, numbered from 1 │ strings, each ends with NUL
//! ```
//! Neither aya nor the kernel relocates an offset of ours, so the loader looks it up and gives it to the programs as a constant.
//! INVARIANT: whatever the bytes are, reading ends: every step goes forward in the bytes, or is counted against a bound.

use core::fmt;

/// The kernel's own types.
pub const KERNEL: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
/// Name, info, size or type.
const TYPE_LEN: usize = 12;
const MEMBER_LEN: usize = 12;
/// Members looked at in one question, those of anonymous structures included. `sk_buff` has about 150.
const MEMBERS_MAX: usize = 65_536;
/// Modifiers and names of one type (`typedef`, `const`) that are followed.
const ALIASES_MAX: usize = 32;

mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const POINTER: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FORWARD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNCTION: u32 = 12;
    pub(super) const PROTOTYPE: u32 = 13;
    pub(super) const VARIABLE: u32 = 14;
    pub(super) const SECTION: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECLARATION_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM_64: u32 = 19;
}

/// Types and their names.
#[derive(Clone)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where in `types` each begins: number 1 first.
    starts: Vec<usize>,
}

/// Where a member of a structure lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From the start of the structure: of a bit field, the byte that its first bit is in.
    pub byte: u32,
    /// Bits of that byte below the first of a bit field; 0 otherwise.
    pub shift: u32,
    /// How many bits a bit field has; 0: it is none.
    pub bits: u32,
}

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("no BTF header")]
    Header,
    #[error("a section lies beyond the end")]
    Section,
    #[error("a type has an unknown kind, or lies beyond the end")]
    Type,
}

/// One type.
#[derive(Clone, Copy)]
struct Type<'a> {
    name: u32,
    kind: u32,
    /// Offsets of members hold the sizes of bit fields, too.
    has_bit_fields: bool,
    /// The size, or the number of another type.
    word: u32,
    /// What the kind adds.
    rest: &'a [u8],
}

impl<'a> Btf<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if half(bytes, 0) != Some(MAGIC) {
            return Err(Malformed::Header);
        }
        let header = |at| word(bytes, at).and_then(|value| usize::try_from(value).ok());
        let header_len = header(4).filter(|len| *len >= HEADER_LEN).ok_or(Malformed::Header)?;
        let section = |offset, len| {
            let start = header_len.checked_add(header(offset)?)?;
            bytes.get(start..)?.get(..header(len)?)
        };
        let types = section(8, 12).ok_or(Malformed::Section)?;
        let strings = section(16, 20).ok_or(Malformed::Section)?;
        let mut btf = Self { types, strings, starts: Vec::new() };
        let mut start = 0;
        while start < types.len() {
            let read = type_at(types, start).ok_or(Malformed::Type)?;
            btf.starts.push(start);
            start += TYPE_LEN + read.rest.len();
        }
        Ok(btf)
    }

    /// The number of a function, as a call of it names it.
    pub fn function(&self, name: &str) -> Option<u32> {
        self.find(name, |kind| kind == kind::FUNCTION)
    }

    /// Where a member of a structure lies. Members of anonymous structures and unions are those of what they are in.
    pub fn member(&self, structure: &str, member: &str) -> Option<Place> {
        let number = self.find(structure, is_composite)?;
        self.member_of(number, member)
    }

    /// How many bytes a structure has.
    pub fn size(&self, structure: &str) -> Option<u32> {
        let number = self.find(structure, is_composite)?;
        self.get(number).map(|found| found.word)
    }

    fn find(&self, name: &str, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let is_it = |at: &usize| {
            type_at(self.types, *at)
                .is_some_and(|found| wanted(found.kind) && self.is_called(found.name, name))
        };
        let index = self.starts.iter().position(is_it)?;
        u32::try_from(index).ok()?.checked_add(1)
    }

    fn member_of(&self, number: u32, name: &str) -> Option<Place> {
        // Structures to look into, and the bit of the outermost that each begins at.
        let mut open = vec![(number, 0_u32)];
        let mut looked_at: usize = 0;
        while let Some((number, start)) = open.pop() {
            let outer = self.get(number)?;
            for member in outer.rest.chunks_exact(MEMBER_LEN) {
                looked_at += 1;
                if looked_at > MEMBERS_MAX {
                    return None;
                }
                let [its_name, its_type, offset] = [word(member, 0)?, word(member, 4)?, word(member, 8)?];
                let bits = if outer.has_bit_fields { offset >> 24 } else { 0 };
                let offset = if outer.has_bit_fields { offset & 0x00ff_ffff } else { offset };
                let bit = start.checked_add(offset)?;
                if its_name == 0 {
                    open.extend(self.composite(its_type).map(|inner| (inner, bit)));
                } else if self.is_called(its_name, name) {
                    return Some(Place { byte: bit / 8, shift: bit % 8, bits });
                }
            }
        }
        None
    }

    /// The structure or union that a type is, behind its modifiers.
    fn composite(&self, mut number: u32) -> Option<u32> {
        for _ in 0..ALIASES_MAX {
            let found = self.get(number)?;
            match found.kind {
                kind::STRUCT | kind::UNION => return Some(number),
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    number = found.word;
                }
                _ => return None,
            }
        }
        None
    }

    fn get(&self, number: u32) -> Option<Type<'a>> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        type_at(self.types, *self.starts.get(index)?)
    }

    fn is_called(&self, offset: u32, name: &str) -> bool {
        let found = usize::try_from(offset).ok().and_then(|offset| self.strings.get(offset..));
        found.and_then(|rest| rest.strip_prefix(name.as_bytes())).is_some_and(|rest| rest.first() == Some(&0))
    }
}

impl fmt::Debug for Btf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf").field("types", &self.starts.len()).finish_non_exhaustive()
    }
}

fn type_at(types: &[u8], start: usize) -> Option<Type<'_>> {
    let bytes = types.get(start..)?;
    let [name, info, word] = [word(bytes, 0)?, word(bytes, 4)?, word(bytes, 8)?];
    let (kind, count) = ((info >> 24) & 0x1f, usize::try_from(info & 0xffff).ok()?);
    let rest_len = match kind {
        kind::INT | kind::VARIABLE | kind::DECLARATION_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION => MEMBER_LEN * count,
        kind::ENUM | kind::PROTOTYPE => 8 * count,
        kind::SECTION | kind::ENUM_64 => 12 * count,
        kind::POINTER
        | kind::FORWARD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNCTION
        | kind::FLOAT
        | kind::TYPE_TAG => 0,
        _ => return None,
    };
    let rest = bytes.get(TYPE_LEN..)?.get(..rest_len)?;
    Some(Type { name, kind, has_bit_fields: info >> 31 == 1, word, rest })
}

fn is_composite(kind: u32) -> bool {
    matches!(kind, kind::STRUCT | kind::UNION)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
