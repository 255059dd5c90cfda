//! Tries from the literal starts of rules.

use super::pattern::Patterns;
use super::short;
use super::start::{Rest, Start};
use super::trie::{
    Candidate, Candidates, Children, EMPTY, Group, Leaf, Node, STRIDE_MAX, Slot, Trie, common, hash, key,
    mask,
};
use regex_syntax::hir::Hir;
use std::collections::{BTreeMap, VecDeque};

/// At most this many patterns are run as one automaton.
const GROUP_MAX: usize = 32;
/// A group that is too big for a table is cut into this many.
const SPLIT: usize = 4;

/// Collects rules by the literal start of their path.
#[derive(Debug, Default)]
pub(super) struct Builder {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    start: Start,
    rule: Candidate,
}

impl Entry {
    fn rest(&self, at: usize) -> &[u8] {
        self.start.literal.get(at..).unwrap_or_default()
    }
}

impl Builder {
    pub(super) fn add(&mut self, start: Start, rule: Candidate) {
        self.entries.push(Entry { start, rule });
    }

    /// The trie, and the rules whose patterns could not be built.
    pub(super) fn finish(mut self, patterns: &mut Patterns) -> (Trie, Vec<(Candidate, String)>) {
        self.entries.sort_by(|a, b| a.start.literal.cmp(&b.start.literal));
        let mut growing = Growing::default();
        let mut todo = VecDeque::new();
        if !self.entries.is_empty() {
            growing.nodes.push(None);
            todo.push_back(Branch { node: 0, key: 0, entries: &self.entries, at: 0 });
        }
        while let Some(branch) = todo.pop_front() {
            growing.grow(&branch, &mut todo, patterns);
        }
        growing.finish()
    }
}

/// Entries that are alike up to `at`, and the node that is to stand for them.
#[derive(Clone, Copy)]
struct Branch<'a> {
    node: usize,
    key: u64,
    entries: &'a [Entry],
    at: usize,
}

#[derive(Default)]
struct Growing {
    nodes: Vec<Option<Node>>,
    leaves: Vec<Leaf>,
    slots: Vec<Slot>,
    others: Vec<Candidate>,
    groups: Vec<Group>,
    members: Vec<Candidates>,
    bytes: Vec<u8>,
    failed: Vec<(Candidate, String)>,
}

impl Growing {
    fn grow<'a>(&mut self, branch: &Branch<'a>, todo: &mut VecDeque<Branch<'a>>, patterns: &mut Patterns) {
        let Branch { node, key, entries, at } = *branch;
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        // They are sorted, so what the first and the last begin with, all do.
        let length = common(first.rest(at), last.rest(at));
        let end = at + length;
        let own = entries.partition_point(|entry| entry.start.literal.len() <= end);
        let (own, below) = entries.split_at(own);
        let label = (short(self.bytes.len()), short(length));
        self.bytes.extend(first.rest(at).iter().take(length));
        let leaf = (!own.is_empty()).then(|| self.leaf(own, patterns));
        let children = self.children(below, end, todo);
        let first = entries.iter().map(|entry| entry.rule).min().unwrap_or(Candidate::NONE);
        if let Some(place) = self.nodes.get_mut(node) {
            *place = Some(Node { key, label, first, leaf, children });
        }
    }

    fn children<'a>(&mut self, below: &'a [Entry], at: usize, todo: &mut VecDeque<Branch<'a>>) -> Children {
        let shortest = below.iter().map(|entry| entry.rest(at).len()).min().unwrap_or(0);
        let stride = shortest.min(STRIDE_MAX);
        let key = |entry: &Entry| key(entry.rest(at), stride).unwrap_or(0);
        let first = self.nodes.len();
        let branches = below
            .chunk_by(|a, b| key(a) == key(b))
            .filter_map(|entries| Some((key(entries.first()?), entries)));
        let branches = branches.zip(first..).map(|((key, entries), node)| Branch {
            node,
            key,
            entries,
            at: at + stride,
        });
        let fresh: Vec<Branch<'a>> = branches.collect();
        self.nodes.resize(first + fresh.len(), None);
        let (table, bits) = self.table(&fresh);
        todo.extend(&fresh);
        let stride = u8::try_from(stride).unwrap_or(0);
        Children { first: short(first), count: short(fresh.len()), table, bits, stride }
    }

    /// At most half full, so that a search ends soon.
    fn table(&mut self, children: &[Branch<'_>]) -> (u32, u8) {
        let start = self.slots.len();
        let bits = u8::try_from((children.len() * 2).next_power_of_two().trailing_zeros()).unwrap_or(0);
        self.slots.resize(start + mask(bits) + 1, EMPTY);
        for Branch { key, node, .. } in children {
            let mut slot = hash(*key, bits);
            while self.slots.get(start + slot).is_some_and(|taken| taken.node != EMPTY.node) {
                slot = (slot + 1) & mask(bits);
            }
            if let Some(free) = self.slots.get_mut(start + slot) {
                *free = Slot { key: *key, node: short(*node) };
            }
        }
        (short(start), bits)
    }

    fn leaf(&mut self, entries: &[Entry], patterns: &mut Patterns) -> u32 {
        let mut with = |rest: Rest| self.candidates(entries.iter().filter(|entry| entry.start.rest == rest));
        let (anything, lines, nothing) = (with(Rest::Anything), with(Rest::Line), with(Rest::Nothing));
        let groups = self.groups(entries, patterns);
        self.leaves.push(Leaf { anything, lines, nothing, groups });
        short(self.leaves.len() - 1)
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
        Candidates { first, others: (short(start), short(self.others.len() - start)) }
    }

    /// Equal patterns are one, and they are grouped in the order of their first rules.
    fn groups(&mut self, entries: &[Entry], patterns: &mut Patterns) -> (u32, u32) {
        let mut by_text: BTreeMap<String, (&Hir, Vec<&Entry>)> = BTreeMap::new();
        for entry in entries {
            if let Rest::Pattern(hir) = &entry.start.rest {
                by_text.entry(hir.to_string()).or_insert((hir, Vec::new())).1.push(entry);
            }
        }
        let mut all: Vec<Alike<'_>> =
            by_text.into_values().map(|(hir, entries)| Alike { hir, entries }).collect();
        all.sort_by_key(Alike::first);
        let start = self.groups.len();
        for chunk in all.chunks(GROUP_MAX) {
            self.group(chunk, patterns);
        }
        (short(start), short(self.groups.len() - start))
    }

    fn group(&mut self, chunk: &[Alike<'_>], patterns: &mut Patterns) {
        let hirs: Vec<&Hir> = chunk.iter().map(|alike| alike.hir).collect();
        let automaton = match *hirs {
            [single] => patterns.single(single),
            _ => patterns.table(&hirs).ok_or_else(String::new),
        };
        match automaton {
            Ok(automaton) => {
                let start = self.members.len();
                for alike in chunk {
                    let rules = self.candidates(alike.entries.iter().copied());
                    self.members.push(rules);
                }
                let members = (short(start), short(chunk.len()));
                let first = chunk.iter().map(Alike::first).min().unwrap_or(Candidate::NONE);
                self.groups.push(Group { automaton, members, first });
            }
            Err(message) if chunk.len() == 1 => {
                let entries = chunk.iter().flat_map(|alike| &alike.entries);
                self.failed.extend(entries.map(|entry| (entry.rule, message.clone())));
            }
            Err(_) => {
                chunk.chunks(chunk.len().div_ceil(SPLIT)).for_each(|part| self.group(part, patterns));
            }
        }
    }

    fn finish(self) -> (Trie, Vec<(Candidate, String)>) {
        let trie = Trie {
            has_lines: self.leaves.iter().any(|leaf| leaf.lines.first != Candidate::NONE),
            nodes: self.nodes.into_iter().flatten().collect(),
            leaves: self.leaves.into(),
            slots: self.slots.into(),
            others: self.others.into(),
            groups: self.groups.into(),
            members: self.members.into(),
            bytes: self.bytes.into(),
        };
        (trie, self.failed)
    }
}

/// Entries with one pattern.
struct Alike<'a> {
    hir: &'a Hir,
    entries: Vec<&'a Entry>,
}

impl Alike<'_> {
    fn first(&self) -> Candidate {
        self.entries.iter().map(|entry| entry.rule).min().unwrap_or(Candidate::NONE)
    }
}
