//! A radix trie over the literal starts of paths; what may follow them lies at its nodes.
//!
//! A step takes as many bytes at once as every way on has, up to eight, and finds its way by their hash: ten thousand
//! literals are hardly more steps away than one. All that a step looks at lies in one cache line, nearly always, since
//! with many rules it is the lines that a verdict costs.
//!
//! INVARIANT: the rules of every list ascend, so the first candidate that is accepted ends its list.

use super::effort::Effort;
use super::place;
use crate::automata::{LANES, Lane, Part, matches};
use std::cmp::Reverse;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Trie {
    pub(super) root: Node,
    /// The children of a node are a hash table in here, half full.
    pub(super) nodes: Box<[Node]>,
    /// The places of those children, in the order of their keys.
    pub(super) sorted: Box<[u32]>,
    /// What did not fit into the nodes.
    pub(super) ends: Box<[End]>,
    /// What did not fit into [`Candidates`]; each list ends with [`Candidate::NONE`].
    pub(super) others: Box<[Candidate]>,
    /// The rules of each pattern of [`Behind::Patterns`].
    pub(super) members: Box<[Candidates]>,
    pub(super) parts: Box<[Arc<Part>]>,
    /// What did not fit into [`Label`].
    pub(super) bytes: Box<[u8]>,
    pub(super) has_lines: bool,
}

/// One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Node {
    /// The bytes that lead here from its parent.
    pub(super) key: u64,
    /// Those behind them that it has by itself.
    pub(super) label: Label,
    pub(super) children: Children,
    /// The lowest rule in the node and below; nobody is at a place where there is none.
    pub(super) first: Candidate,
    /// The rules whose literal start ends here, those with the lowest first.
    pub(super) end: End,
    pub(super) more_ends: (u32, u32),
}

const _: () = assert!(size_of::<Node>() == 64, "a node is one cache line");

/// As a [`key`]; one of more than eight bytes lies at `start`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    pub(super) head: u64,
    pub(super) length: u32,
    pub(super) start: u32,
}

/// The ways on from a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Children {
    /// Where they begin among the sorted; their table begins at twice that, and has twice as many places.
    pub(super) first: u32,
    pub(super) count: u32,
    /// How many bytes a key has: 1..=8; 0 where there is no child.
    pub(super) stride: u8,
}

/// Rules with one literal start, and what may follow it.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) behind: Behind,
    pub(super) rules: Candidates,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    Anything,
    Line,
    Nothing,
    /// What the only pattern of this automaton matches.
    Pattern(u32),
    /// What some pattern of this automaton matches. [`Candidates::others`] is where the rules of its patterns begin among the
    /// members; a pattern that no rule here has is [`Candidate::NONE`].
    Patterns(u32),
}

/// Ascending. The first one lies close: it is the only one nearly always.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidates {
    pub(super) first: Candidate,
    pub(super) others: u32,
}

/// A rule by its place, and whether anything but its path is asked. They order like the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate(u32);

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

impl Node {
    pub(super) const NOBODY: Self = Self {
        key: 0,
        label: Label { head: 0, length: 0, start: 0 },
        children: Children { first: 0, count: 0, stride: 0 },
        first: Candidate::NONE,
        end: End { behind: Behind::Nothing, rules: Candidates { first: Candidate::NONE, others: 0 } },
        more_ends: (0, 0),
    };

    pub(super) fn is_somebody(&self) -> bool {
        self.first != Candidate::NONE
    }
}

impl Children {
    /// Where the children's table begins, and its length.
    pub(super) fn table(self) -> (usize, usize) {
        (place(self.first) * 2, place(self.count) * 2)
    }
}

impl Trie {
    /// Offers every rule below `best` whose path matches to `accept`, lowest first within a list. One that is accepted
    /// becomes `best`.
    pub(super) fn search(
        &self,
        path: &[u8],
        best: &mut Candidate,
        effort: &Effort,
        accept: &mut impl FnMut(Candidate) -> bool,
    ) {
        let line_from = if self.has_lines { line_from(path) } else { 0 };
        let (forward, backward) = (Queue::default(), Queue::default());
        let mut search =
            Search { trie: self, path, at: 0, line_from, best, effort, accept, forward, backward };
        let mut next = Some(&self.root);
        while let Some(node) = next.filter(|node| node.first < *search.best) {
            let Some(behind) = self.behind(node, path, search.at) else { break };
            search.at = behind;
            search.node(node);
            next = self.child(node, path, behind);
            search.at += usize::from(node.children.stride);
        }
        let Search { forward, backward, .. } = &search;
        let (forward, backward) = (*forward, *backward);
        search.run(forward);
        search.run(backward);
    }

    /// How far the path goes along with some rule, and the lowest rule that goes as far.
    pub(super) fn deepest(&self, path: &[u8]) -> Option<(usize, Candidate)> {
        let mut node = Some(&self.root).filter(|root| root.is_somebody())?;
        let mut at = 0;
        loop {
            let Some(behind) = self.behind(node, path, at) else {
                return Some((at + self.along(node, path.get(at..)?), node.first));
            };
            let Some(child) = self.child(node, path, behind) else {
                let (same, rule) = self.beside(node, path.get(behind..)?).unwrap_or((0, node.first));
                return Some((behind + same, rule));
            };
            at = behind + usize::from(node.children.stride);
            node = child;
        }
    }

    /// Where the path goes on behind the node's label, if that is what stands at `at`.
    fn behind(&self, node: &Node, path: &[u8], at: usize) -> Option<usize> {
        let Label { head, length, .. } = node.label;
        let length = place(length);
        let stands = match length {
            0..=STRIDE_MAX => key(path, at, length) == Some(head),
            _ => path.get(at..)?.starts_with(self.long(node)),
        };
        stands.then_some(at + length)
    }

    /// The label, where it is one of more than eight bytes.
    fn long(&self, node: &Node) -> &[u8] {
        let Label { length, start, .. } = node.label;
        slice(&self.bytes, (start, length))
    }

    /// How much of the node's label stands at the start of `rest`.
    fn along(&self, node: &Node, rest: &[u8]) -> usize {
        let Label { head, length, .. } = node.label;
        match head.to_be_bytes().get(..place(length)) {
            Some(label) => common(label, rest),
            None => common(self.long(node), rest),
        }
    }

    fn child(&self, node: &Node, path: &[u8], at: usize) -> Option<&Node> {
        let children = node.children;
        if children.stride == 0 {
            return None;
        }
        let key = key(path, at, children.stride.into())?;
        let (start, length) = children.table();
        let mut slot = hash(key, length);
        loop {
            let found = self.nodes.get(start + slot).filter(|found| found.is_somebody())?;
            if found.key == key {
                return Some(found);
            }
            slot = following(slot, length);
        }
    }

    /// The child whose key has most bytes in common with `rest`: their number, and the child's lowest rule.
    fn beside(&self, node: &Node, rest: &[u8]) -> Option<(usize, Candidate)> {
        let Children { first, count, stride } = node.children;
        let children = slice(&self.sorted, (first, count));
        let rest = rest.get(..usize::from(stride)).unwrap_or(rest);
        let mut padded = [0; STRIDE_MAX];
        padded.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        let child = |at: &u32| self.nodes.get(place(*at)).unwrap_or(&Node::NOBODY);
        // In order, those that begin alike are neighbours.
        let after = children.partition_point(|at| child(at).key < u64::from_be_bytes(padded));
        let neighbours =
            [after.checked_sub(1), Some(after)].into_iter().flatten().filter_map(|i| children.get(i));
        let same = |child: &Node| (common(&child.key.to_be_bytes(), rest), child.first);
        neighbours.map(child).map(same).max_by_key(|(same, rule)| (*same, Reverse(*rule)))
    }
}

pub(super) const STRIDE_MAX: usize = 8;

/// The first `length` bytes at `at`, eight at most, as a number that orders like they do. `None` where there are fewer.
pub(super) fn key(path: &[u8], at: usize, length: usize) -> Option<u64> {
    let rest = path.get(at..)?;
    let all = match rest.first_chunk() {
        Some(eight) => u64::from_be_bytes(*eight),
        None if rest.len() < length => return None,
        None => last(path, rest),
    };
    Some(all & MASKS.get(length)?)
}

/// By the number of bytes, from the front.
const MASKS: [u64; STRIDE_MAX + 1] = [
    0,
    u64::MAX << 56,
    u64::MAX << 48,
    u64::MAX << 40,
    u64::MAX << 32,
    u64::MAX << 24,
    u64::MAX << 16,
    u64::MAX << 8,
    u64::MAX,
];

/// `rest` is less than eight bytes at the end of `path`: most paths have eight to be read at once nevertheless.
fn last(path: &[u8], rest: &[u8]) -> u64 {
    match path.last_chunk() {
        Some(eight) if !rest.is_empty() => u64::from_be_bytes(*eight) << ((STRIDE_MAX - rest.len()) * 8),
        Some(_) | None => {
            let mut padded = [0; STRIDE_MAX];
            padded.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(padded)
        }
    }
}

/// A place in a table of `length`.
pub(super) fn hash(key: u64, length: usize) -> usize {
    // The golden ratio spreads keys that differ in few bits over the upper ones.
    let spread = (key ^ key >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    (usize::try_from(spread).unwrap_or(0) * length) >> 32
}

/// The place behind this one.
pub(super) fn following(slot: usize, length: usize) -> usize {
    if slot + 1 < length { slot + 1 } else { 0 }
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
    effort: &'a Effort,
    accept: &'a mut F,
    forward: Queue<'a>,
    backward: Queue<'a>,
}

/// Walks that are paid for, until there are as many as go side by side.
#[derive(Clone, Copy, Default)]
struct Queue<'a>([Option<Walk<'a>>; LANES]);

#[derive(Clone, Copy)]
struct Walk<'a> {
    lane: Lane<'a>,
    part: &'a Part,
    from: usize,
    /// Of the end that it decides; the rules of its patterns are members.
    rules: Candidates,
    is_one: bool,
}

impl<'a, F: FnMut(Candidate) -> bool> Search<'a, F> {
    fn node(&mut self, node: &Node) {
        let more = slice(&self.trie.ends, node.more_ends);
        for end in [node.end].iter().chain(more) {
            if end.rules.first >= *self.best {
                return;
            }
            self.end(end);
        }
    }

    fn end(&mut self, end: &End) {
        match end.behind {
            Behind::Anything => self.offer(end.rules),
            Behind::Line if self.at >= self.line_from => self.offer(end.rules),
            Behind::Nothing if self.at == self.path.len() => self.offer(end.rules),
            Behind::Line | Behind::Nothing => {}
            Behind::Pattern(part) => self.part(part, end.rules, true),
            Behind::Patterns(part) => self.part(part, end.rules, false),
        }
    }

    fn part(&mut self, part: u32, rules: Candidates, is_one: bool) {
        let part: Option<&Arc<Part>> = self.trie.parts.get(place(part));
        let Some(part) = part.filter(|part| self.afford(part.weight())) else { return };
        let Some(lane) = part.lane() else {
            let (path, at) = (self.path, self.at);
            part.matches(path, at, &mut |pattern| self.found(rules, is_one, pattern));
            return;
        };
        let walk = Walk { lane, part, from: self.at, rules, is_one };
        let queue = match lane {
            Lane::Backward(_) => &mut self.backward,
            Lane::Forward(_) => &mut self.forward,
        };
        if let Some(full) = queue.push(walk) {
            self.run(full);
        }
    }

    fn run(&mut self, queue: Queue<'a>) {
        let path = self.path;
        match queue.0 {
            [Some(a), Some(b), Some(c), Some(d)] => self.abreast([a, b, c, d]),
            [Some(a), Some(b), Some(c), None] => self.abreast([a, b, c]),
            [Some(a), Some(b), ..] => self.abreast([a, b]),
            [Some(a), ..] if a.rules.first < *self.best => {
                a.part.matches(path, a.from, &mut |pattern| self.found(a.rules, a.is_one, pattern));
            }
            [..] => {}
        }
    }

    fn abreast<const N: usize>(&mut self, walks: [Walk<'a>; N]) {
        let lanes = walks.map(|walk| (walk.lane, walk.from));
        matches(lanes, self.path, &mut |lane, pattern| {
            if let Some(walk) = walks.get(lane) {
                self.found(walk.rules, walk.is_one, pattern);
            }
        });
    }

    fn found(&mut self, rules: Candidates, is_one: bool, pattern: usize) {
        if is_one {
            return self.offer(rules);
        }
        let members = self.trie.members.get(place(rules.others)..).unwrap_or_default();
        members.get(pattern).into_iter().for_each(|rules| self.offer(*rules));
    }

    fn afford(&self, weight: usize) -> bool {
        self.effort.spend(self.path.len() - self.at, weight)
    }

    fn offer(&mut self, rules: Candidates) {
        if rules.first >= *self.best {
            return;
        }
        let others = self.trie.others.get(place(rules.others)..).unwrap_or_default();
        for rule in [rules.first].iter().chain(others).take_while(|rule| **rule < *self.best) {
            if (self.accept)(*rule) {
                *self.best = *rule;
                return;
            }
        }
    }
}

impl<'a> Queue<'a> {
    /// What is to be run now, where that was the last place.
    fn push(&mut self, walk: Walk<'a>) -> Option<Self> {
        let place = self.0.iter_mut().find(|place| place.is_none());
        place.into_iter().for_each(|place| *place = Some(walk));
        let is_full = self.0.iter().all(Option::is_some);
        is_full.then(|| std::mem::take(self))
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

#[cfg(test)]
mod tests;
