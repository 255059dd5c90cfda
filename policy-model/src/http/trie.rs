//! A radix trie over the literal starts of paths; what may follow them lies at its nodes.
//!
//! A step takes as many bytes at once as every way on has, up to eight, and finds its way by their hash: ten thousand
//! literals are hardly more steps away than one.
//!
//! INVARIANT: the rules of every list ascend, so the first candidate that is accepted ends its list.

use super::pattern::Automaton;
use super::place;
use std::cmp::Reverse;
use std::sync::Arc;

/// Nodes in one list; children lie side by side, in the order of their keys.
#[derive(Debug, Default)]
pub(super) struct Trie {
    pub(super) nodes: Box<[Node]>,
    pub(super) leaves: Box<[Leaf]>,
    /// The hash tables of all nodes.
    pub(super) slots: Box<[Slot]>,
    /// What did not fit into [`Candidates`].
    pub(super) others: Box<[Candidate]>,
    pub(super) groups: Box<[Group]>,
    /// The rules of the patterns of all groups.
    pub(super) members: Box<[Candidates]>,
    /// The labels of all nodes.
    pub(super) bytes: Box<[u8]>,
    pub(super) has_lines: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// The bytes that lead here from its parent, and those behind them that it has by itself.
    pub(super) key: u64,
    pub(super) label: (u32, u32),
    /// The lowest rule in the node and below.
    pub(super) first: Candidate,
    pub(super) leaf: Option<u32>,
    pub(super) children: Children,
}

/// The ways on from a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Children {
    pub(super) first: u32,
    pub(super) count: u32,
    /// Where their hash table begins; its length is 2 to the power of `bits`.
    pub(super) table: u32,
    pub(super) bits: u8,
    /// How many bytes a key has: 1..=8; 0 where there is no child.
    pub(super) stride: u8,
}

/// The key of a child, and the child; [`EMPTY`] ends a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) key: u64,
    pub(super) node: u32,
}

pub(super) const EMPTY: Slot = Slot { key: 0, node: u32::MAX };

pub(super) const STRIDE_MAX: usize = 8;

/// The rules whose literal start ends here.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) anything: Candidates,
    pub(super) lines: Candidates,
    pub(super) nothing: Candidates,
    pub(super) groups: (u32, u32),
}

/// Ascending. The first one lies close: it is the only one nearly always.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidates {
    pub(super) first: Candidate,
    pub(super) others: (u32, u32),
}

/// A rule by its place, and whether anything but its path is asked. They order like the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate(u32);

#[derive(Debug)]
pub(super) struct Group {
    pub(super) automaton: Arc<Automaton>,
    /// The rules of each pattern.
    pub(super) members: (u32, u32),
    pub(super) first: Candidate,
}

impl Candidate {
    /// Behind every rule.
    pub(super) const NONE: Self = Self(u32::MAX);

    /// `None`: more rules than can be told apart.
    pub(super) fn new(rule: usize, is_certain: bool) -> Option<Self> {
        let rule = u32::try_from(rule).ok().filter(|rule| *rule < u32::MAX / 2)?;
        Some(Self(rule * 2 + u32::from(!is_certain)))
    }

    pub(super) fn rule(self) -> usize {
        place(self.0 / 2)
    }

    pub(super) fn is_certain(self) -> bool {
        self.0.is_multiple_of(2)
    }
}

impl Trie {
    /// Offers every rule below `best` whose path matches to `accept`, lowest first within a list. One that is accepted
    /// becomes `best`.
    pub(super) fn search(
        &self,
        path: &[u8],
        best: &mut Candidate,
        accept: &mut impl FnMut(Candidate) -> bool,
    ) {
        let line_from = if self.has_lines { line_from(path) } else { 0 };
        let mut search = Search { trie: self, path, at: 0, line_from, best, accept };
        let mut next = self.nodes.first();
        while let Some(node) = next {
            let Some(rest) = self.behind(node, search.path, search.at) else { return };
            if node.first >= *search.best {
                return;
            }
            search.at = path.len() - rest.len();
            if let Some(leaf) = node.leaf.and_then(|leaf| self.leaves.get(place(leaf))) {
                leaf.search(&mut search);
            }
            search.at += usize::from(node.children.stride);
            next = self.child(node, rest);
        }
    }

    /// How far the path goes along with some rule, and the lowest rule that goes as far.
    pub(super) fn deepest(&self, path: &[u8]) -> Option<(usize, Candidate)> {
        let mut node = self.nodes.first()?;
        let mut at = 0;
        loop {
            let Some(rest) = self.behind(node, path, at) else {
                let same = common(self.label(node), path.get(at..).unwrap_or_default());
                return Some((at + same, node.first));
            };
            at = path.len() - rest.len();
            let Some(child) = self.child(node, rest) else {
                let (same, rule) = self.beside(node, rest).unwrap_or((0, node.first));
                return Some((at + same, rule));
            };
            at += usize::from(node.children.stride);
            node = child;
        }
    }

    /// What stands behind the node's label, if that is what stands at `at`.
    fn behind<'p>(&self, node: &Node, path: &'p [u8], at: usize) -> Option<&'p [u8]> {
        path.get(at..)?.strip_prefix(self.label(node))
    }

    fn label(&self, node: &Node) -> &[u8] {
        slice(&self.bytes, node.label)
    }

    fn child(&self, node: &Node, rest: &[u8]) -> Option<&Node> {
        let children = &node.children;
        let key = key(rest, usize::from(children.stride))?;
        let mut slot = hash(key, children.bits);
        loop {
            let found = self.slots.get(place(children.table).saturating_add(slot))?;
            if found.key == key || found.node == EMPTY.node {
                return self.nodes.get(place(found.node));
            }
            slot = (slot + 1) & mask(children.bits);
        }
    }

    /// The child whose key has most bytes in common with `rest`: their number, and the child's lowest rule.
    fn beside(&self, node: &Node, rest: &[u8]) -> Option<(usize, Candidate)> {
        let Children { first, count, stride, .. } = node.children;
        let children = slice(&self.nodes, (first, count));
        let rest = rest.get(..usize::from(stride)).unwrap_or(rest);
        let mut padded = [0; STRIDE_MAX];
        padded.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        // In order, those that begin alike are neighbours.
        let after = children.partition_point(|child| child.key < u64::from_be_bytes(padded));
        let neighbours =
            [after.checked_sub(1), Some(after)].into_iter().flatten().filter_map(|i| children.get(i));
        let same = |child: &Node| (common(&child.key.to_be_bytes(), rest), child.first);
        neighbours.map(same).max_by_key(|(same, rule)| (*same, Reverse(*rule)))
    }
}

/// The first `stride` bytes as a number that orders like they do. `None` where there are fewer, or none is asked for.
pub(super) fn key(rest: &[u8], stride: usize) -> Option<u64> {
    let unused = u32::try_from(STRIDE_MAX.checked_sub(stride)? * 8).ok()?;
    let all = match rest.first_chunk() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => {
            let mut padded = [0; STRIDE_MAX];
            padded.iter_mut().zip(rest.get(..stride)?).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(padded)
        }
    };
    Some(all & u64::MAX.checked_shl(unused)?)
}

/// A place in a table of 2 to the power of `bits`.
pub(super) fn hash(key: u64, bits: u8) -> usize {
    // The golden ratio spreads keys that differ in few bits over the upper ones.
    let spread = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(spread >> (64 - u32::from(bits.max(1)))).unwrap_or(0) & mask(bits)
}

pub(super) fn mask(bits: u8) -> usize {
    (1 << bits) - 1
}

pub(super) fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Where a search stands.
struct Search<'a, F> {
    trie: &'a Trie,
    path: &'a [u8],
    at: usize,
    /// From here on the path has no line feed.
    line_from: usize,
    best: &'a mut Candidate,
    accept: &'a mut F,
}

impl<F: FnMut(Candidate) -> bool> Search<'_, F> {
    fn offer(&mut self, rules: &Candidates) {
        if rules.first >= *self.best {
            return;
        }
        let others = slice(&self.trie.others, rules.others);
        for rule in [rules.first].iter().chain(others).take_while(|rule| **rule < *self.best) {
            if (self.accept)(*rule) {
                *self.best = *rule;
                return;
            }
        }
    }
}

impl Leaf {
    fn search<F: FnMut(Candidate) -> bool>(&self, search: &mut Search<'_, F>) {
        search.offer(&self.anything);
        if search.at == search.path.len() {
            search.offer(&self.nothing);
        }
        if search.at >= search.line_from {
            search.offer(&self.lines);
        }
        for group in slice(&search.trie.groups, self.groups) {
            if group.first >= *search.best {
                return;
            }
            let members = slice(&search.trie.members, group.members);
            group.automaton.matches(search.path, search.at, &mut |pattern| {
                members.get(pattern).into_iter().for_each(|rules| search.offer(rules));
            });
        }
    }
}

fn slice<T>(all: &[T], (start, length): (u32, u32)) -> &[T] {
    all.get(place(start)..place(start).saturating_add(place(length))).unwrap_or_default()
}

/// `.` is not a line feed: only what stands behind the last one is a line.
fn line_from(path: &[u8]) -> usize {
    // Nearly always there is none, and `contains` says so several bytes at a time.
    let feed = if path.contains(&b'\n') { path.iter().rposition(|byte| *byte == b'\n') } else { None };
    feed.map_or(0, |feed| feed + 1)
}
