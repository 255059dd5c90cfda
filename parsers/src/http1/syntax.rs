//! Classes of bytes, and the length of the run of one class that some bytes begin with.

/// `tchar` of RFC 9110 section 5.6.2: what methods, field names and connection options are made of.
pub(crate) fn is_token(byte: u8) -> bool {
    class(byte) & TOKEN != 0
}

/// A byte of a field name as gateways that make variables of names (CGI, WSGI) read it, and with `-` for `_`.
pub(crate) fn folded(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// Length of the token at the start; 0 where there is none.
pub(crate) fn token_len(bytes: &[u8]) -> usize {
    run_of(TOKEN, bytes)
}

/// Length of the registered name at the start: letters, digits and `-._~`.
pub(crate) fn name_len(bytes: &[u8]) -> usize {
    run_of(NAME, bytes)
}

/// Length of the request target at the start: visible ASCII but for `#`.
pub(crate) fn target_len(bytes: &[u8]) -> usize {
    run_of(TARGET, bytes)
}

/// Length of the field content at the start: HTAB, SP, visible ASCII and bytes beyond ASCII.
pub(crate) fn text_len(bytes: &[u8]) -> usize {
    let mut len = 0;
    while let Some(rest) = bytes.get(len..) {
        len += printable_len(rest);
        if bytes.get(len) != Some(&b'\t') {
            break;
        }
        len += 1;
    }
    len
}

/// Whether a byte may stand in field content.
pub(crate) fn is_text(byte: u8) -> bool {
    byte == b'\t' || !is_control(byte)
}

/// `value` without the optional whitespace around it.
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const NAME: u8 = 4;

static CLASSES: [u8; 256] = classes();

fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(0)
}

fn run_of(wanted: u8, bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| class(*byte) & wanted == 0).unwrap_or(bytes.len())
}

#[expect(
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "INVARIANT evaluated at compile time: an index out of range or a byte cut off would not build"
)]
const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        if byte.is_ascii_alphanumeric() || is_token_mark(byte) {
            classes[index] |= TOKEN;
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            classes[index] |= NAME;
        }
        if byte.is_ascii_graphic() && byte != b'#' {
            classes[index] |= TARGET;
        }
        index += 1;
    }
    classes
}

const fn is_token_mark(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'#'
            | b'$'
            | b'%'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~'
    )
}

fn is_control(byte: u8) -> bool {
    byte < b' ' || byte == 0x7f
}

/// Length of the run without control bytes. Values are most of a head, so blocks are judged before words, and words
/// before bytes.
fn printable_len(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<32>();
    let clean = blocks.iter().position(|block| block.iter().fold(false, |any, byte| any | is_control(*byte)));
    let mut len = 32 * clean.unwrap_or(blocks.len());
    let (words, rest) = bytes.get(len..).unwrap_or_default().as_chunks::<8>();
    for word in words {
        let found = controls(u64::from_le_bytes(*word));
        if found != 0 {
            return len + usize::try_from(found.trailing_zeros() / 8).unwrap_or(0);
        }
        len += 8;
    }
    len + rest.iter().position(|byte| is_control(*byte)).unwrap_or(rest.len())
}

/// The top bit of the lowest control byte of a word; what it says of higher bytes may be wrong (a borrow passes on).
fn controls(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const TOPS: u64 = u64::from_le_bytes([0x80; 8]);
    const SPACES: u64 = u64::from_le_bytes([b' '; 8]);
    const DELS: u64 = u64::from_le_bytes([0x7f; 8]);
    let below_space = word.wrapping_sub(SPACES) & !word;
    let del = word ^ DELS;
    let is_del = del.wrapping_sub(ONES) & !del;
    (below_space | is_del) & TOPS
}
