//! Tries from the literal starts of rules.

use super::short;
use super::trie::{
    Behind, Candidate, Candidates, Children, End, Label, Node, STRIDE_MAX, Trie, common, following, hash, key,
};
use crate::automata::{Onward, Part, Way};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Collects rules by the literal start of their path.
#[derive(Debug, Default)]
pub(super) struct Builder {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    way: Way,
    rule: Candidate,
}

impl Entry {
    fn rest(&self, at: usize) -> &[u8] {
        self.way.literal.get(at..).unwrap_or_default()
    }
}

impl Builder {
    pub(super) fn add(&mut self, way: Way, rule: Candidate) {
        self.entries.push(Entry { way, rule });
    }

    pub(super) fn finish(mut self) -> Trie {
        self.entries.sort_by(|a, b| a.way.literal.cmp(&b.way.literal));
        let mut growing = Growing::new();
        let mut todo = VecDeque::new();
        let mut root = Node { first: lowest(&self.entries), ..Node::NOBODY };
        growing.grow(&mut root, &self.entries, 0, &mut todo);
        while let Some(Branch { slot, entries, at }) = todo.pop_front() {
            let mut node = growing.nodes.get(slot).copied().unwrap_or(Node::NOBODY);
            growing.grow(&mut node, entries, at, &mut todo);
            growing.nodes.get_mut(slot).into_iter().for_each(|place| *place = node);
        }
        growing.finish(root)
    }
}

/// Entries that are alike up to `at`, and where the node lies that is to stand for them.
#[derive(Clone, Copy)]
struct Branch<'a> {
    slot: usize,
    entries: &'a [Entry],
    at: usize,
}

struct Growing {
    nodes: Vec<Node>,
    sorted: Vec<u32>,
    ends: Vec<End>,
    others: Vec<Candidate>,
    members: Vec<Candidates>,
    parts: Vec<Arc<Part>>,
    /// Where each of them lies.
    known: HashMap<*const Part, u32>,
    bytes: Vec<u8>,
    has_lines: bool,
}

impl Growing {
    fn new() -> Self {
        Self {
            nodes: Vec::new(),
            sorted: Vec::new(),
            ends: Vec::new(),
            // The list of those who have no others.
            others: vec![Candidate::NONE],
            members: Vec::new(),
            parts: Vec::new(),
            known: HashMap::new(),
            bytes: Vec::new(),
            has_lines: false,
        }
    }

    fn grow<'a>(
        &mut self,
        node: &mut Node,
        entries: &'a [Entry],
        at: usize,
        todo: &mut VecDeque<Branch<'a>>,
    ) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        // They are sorted, so what the first and the last begin with, all do.
        let length = common(first.rest(at), last.rest(at));
        let end = at + length;
        let own = entries.partition_point(|entry| entry.way.literal.len() <= end);
        let (own, below) = entries.split_at(own);
        node.label = self.label(first.rest(at).get(..length).unwrap_or_default());
        node.children = self.children(below, end, todo);
        let mut ends = self.ends(own).into_iter();
        node.end = ends.next().unwrap_or(node.end);
        let start = self.ends.len();
        self.ends.extend(ends);
        node.more_ends = (short(start), short(self.ends.len() - start));
    }

    fn label(&mut self, label: &[u8]) -> Label {
        let start = short(self.bytes.len());
        let head = key(label, 0, label.len());
        if head.is_none() {
            self.bytes.extend(label);
        }
        Label { head: head.unwrap_or(0), length: short(label.len()), start }
    }

    fn children<'a>(&mut self, below: &'a [Entry], at: usize, todo: &mut VecDeque<Branch<'a>>) -> Children {
        let shortest = below.iter().map(|entry| entry.rest(at).len()).min().unwrap_or(0);
        let stride = shortest.min(STRIDE_MAX);
        let key = |entry: &Entry| key(&entry.way.literal, at, stride).unwrap_or(0);
        let branches: Vec<&[Entry]> = below.chunk_by(|a, b| key(a) == key(b)).collect();
        let children = Children {
            first: short(self.sorted.len()),
            count: short(branches.len()),
            stride: u8::try_from(stride).unwrap_or(0),
        };
        let (start, length) = children.table();
        self.nodes.resize(start + length, Node::NOBODY);
        for entries in branches {
            let key = entries.first().map_or(0, key);
            let mut slot = hash(key, length);
            while self.nodes.get(start + slot).is_some_and(Node::is_somebody) {
                slot = following(slot, length);
            }
            let slot = start + slot;
            let node = Node { key, first: lowest(entries), ..Node::NOBODY };
            self.nodes.get_mut(slot).into_iter().for_each(|place| *place = node);
            self.sorted.push(short(slot));
            todo.push_back(Branch { slot, entries, at: at + stride });
        }
        children
    }

    fn ends(&mut self, entries: &[Entry]) -> Vec<End> {
        let mut ends = Vec::new();
        for behind in [Behind::Anything, Behind::Line, Behind::Nothing] {
            let rules = self.candidates(entries.iter().filter(|entry| plain(entry) == Some(behind)));
            ends.push(End { behind, rules });
        }
        self.patterns(entries, &mut ends);
        ends.retain(|end| end.rules.first != Candidate::NONE);
        ends.sort_by_key(|end| end.rules.first);
        self.has_lines |= ends.iter().any(|end| end.behind == Behind::Line);
        ends
    }

    /// The rules, up to the first that nothing can hold back: it hides those behind it.
    fn candidates<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> Candidates {
        let mut rules: Vec<Candidate> = entries.map(|entry| entry.rule).collect();
        rules.sort();
        let seen = rules.iter().position(|rule| rule.is_certain()).map_or(rules.len(), |certain| certain + 1);
        let mut rules = rules.into_iter().take(seen);
        let first = rules.next().unwrap_or(Candidate::NONE);
        let start = self.others.len();
        self.others.extend(rules);
        if self.others.len() == start {
            return Candidates { first, others: 0 };
        }
        self.others.push(Candidate::NONE);
        Candidates { first, others: short(start) }
    }

    /// One end for each automaton that looks for one of the entries.
    fn patterns(&mut self, entries: &[Entry], ends: &mut Vec<End>) {
        let mut by_part: Vec<(&Arc<Part>, Vec<Vec<&Entry>>)> = Vec::new();
        let mut known: HashMap<*const Part, usize> = HashMap::new();
        for entry in entries {
            let Onward::Pattern(place) = &entry.way.onward else { continue };
            let index = *known.entry(Arc::as_ptr(&place.part)).or_insert(by_part.len());
            if index == by_part.len() {
                by_part.push((&place.part, vec![Vec::new(); place.part.patterns()]));
            }
            let members = by_part.get_mut(index).and_then(|(_, members)| members.get_mut(place.pattern));
            members.into_iter().for_each(|entries| entries.push(entry));
        }
        for (part, members) in by_part {
            ends.push(self.part(part, &members));
        }
    }

    fn part(&mut self, part: &Arc<Part>, members: &[Vec<&Entry>]) -> End {
        let place = *self.known.entry(Arc::as_ptr(part)).or_insert(short(self.parts.len()));
        if place == short(self.parts.len()) {
            self.parts.push(Arc::clone(part));
        }
        if let [one] = members {
            let rules = self.candidates(one.iter().copied());
            return End { behind: Behind::Pattern(place), rules };
        }
        let start = self.members.len();
        for entries in members {
            let rules = self.candidates(entries.iter().copied());
            self.members.push(rules);
        }
        let own = self.members.get(start..).unwrap_or_default();
        let first = own.iter().map(|rules| rules.first).min().unwrap_or(Candidate::NONE);
        End { behind: Behind::Patterns(place), rules: Candidates { first, others: short(start) } }
    }

    fn finish(self, root: Node) -> Trie {
        Trie {
            root,
            nodes: self.nodes.into(),
            sorted: self.sorted.into(),
            ends: self.ends.into(),
            others: self.others.into(),
            members: self.members.into(),
            parts: self.parts.into(),
            bytes: self.bytes.into(),
            has_lines: self.has_lines,
        }
    }
}

fn lowest(entries: &[Entry]) -> Candidate {
    entries.iter().map(|entry| entry.rule).min().unwrap_or(Candidate::NONE)
}

/// `None`: an automaton says.
fn plain(entry: &Entry) -> Option<Behind> {
    match entry.way.onward {
        Onward::Anything => Some(Behind::Anything),
        Onward::Line => Some(Behind::Line),
        Onward::Nothing => Some(Behind::Nothing),
        Onward::Pattern(_) => None,
    }
}
